"""Draws of a fixed size: each point with its own probability, and estimates that are unbiased."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.collocation import (
    estimate_mean,
    inclusion_probabilities,
    systematic_draw,
)

MAGNITUDES = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30)


@given(MAGNITUDES, st.data())
def test_every_draw_has_the_same_size(magnitudes: list[float], data: st.DataObject) -> None:
    """As many points as asked for, none twice, whatever the sizes; no weight above 1/mixing."""
    count = data.draw(st.integers(1, len(magnitudes)))
    chances = inclusion_probabilities(magnitudes, count)
    drawn = systematic_draw(chances, np.random.default_rng(data.draw(st.integers(0, 99))))

    assert len(drawn) == len(set(drawn.tolist())) == count
    assert chances.sum() == pytest.approx(count)
    assert chances.min() >= 0.1 * count / len(magnitudes) * (1 - 1e-9)
    assert chances.max() <= 1


def test_points_come_as_often_as_they_should() -> None:
    """Over 20,000 draws the frequency of each is its probability, within five standard errors."""
    chances = inclusion_probabilities([9.0, 4.0, 2.0, 1.0, 1.0, 0.0], 3)
    rng = np.random.default_rng(0)
    times = np.zeros(6)
    for _ in range(20_000):
        times[systematic_draw(chances, rng)] += 1
    error = np.sqrt(chances * (1 - chances) / 20_000)

    assert chances[0] == 1
    assert (np.abs(times / 20_000 - chances) <= 5 * error + 1e-12).all()


def test_the_estimate_is_unbiased_and_its_error_honest() -> None:
    """2,000 draws of 64 in 2,000: mean within 3 standard errors, its error within a tenth.

    Weights 1/(B q) on draws without replacement, which are often used, are off by over ten.
    """
    rng = np.random.default_rng(1)
    residuals = np.exp(1.2 * rng.standard_normal(2000))
    values = residuals**2
    chances = inclusion_probabilities(residuals, 64)
    q = 0.9 * residuals / residuals.sum() + 0.1 / 2000
    means, errors, naive = [], [], []
    for _ in range(2000):
        drawn = systematic_draw(chances, rng)
        found = estimate_mean(values[drawn], chances[drawn], 2000)
        means.append(found.mean)
        errors.append(found.standard_error)
        keys = rng.random(2000) ** (1 / q)  # draws in turn without replacement
        taken = np.argpartition(-keys, 64)[:64]
        naive.append((values[taken] / (64 * 2000 * q[taken])).sum())
    truth, spread = values.mean(), np.std(means)

    assert abs(np.mean(means) - truth) <= 3 * spread / np.sqrt(2000)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=0.1)
    assert abs(np.mean(naive) - truth) > 10 * np.std(naive) / np.sqrt(2000)


def test_what_cannot_be_estimated_is_refused() -> None:
    """One point shows no spread; a whole population has none."""
    with pytest.raises(UnresolvedError, match="2 or more"):
        estimate_mean([1.0], [0.5], 2)

    assert estimate_mean([1.0, 3.0], [1.0, 1.0], 2).standard_error == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: inclusion_probabilities([1.0, np.nan], 1), r"magnitudes\[1\] is not finite"),
        (lambda: inclusion_probabilities([1.0], 2), "give 1 to 1"),
        (lambda: inclusion_probabilities([1.0], 1, mixing=0.0), "mixing is 0.0"),
        (lambda: inclusion_probabilities([], 1), "must have shape"),
        (lambda: systematic_draw([0.5, 0.2], np.random.default_rng(0)), "whole sum, not 0.7"),
        (lambda: systematic_draw([-1.0, 2.0], np.random.default_rng(0)), "lie in 0 to 1"),
        (lambda: estimate_mean([1.0], [0.5, 0.5], 3), "do not belong together"),
        (lambda: estimate_mean([1.0, 2.0], [0.0, 0.5], 3), "do not belong together"),
    ],
)
def test_wrong_input_is_named(call: object, words: str) -> None:
    """Which number, and what to give."""
    with pytest.raises(DataError, match=words):
        call()  # type: ignore[operator]
