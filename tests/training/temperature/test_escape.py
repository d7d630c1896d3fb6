"""Escapes over a barrier: the law, where it holds, and what it says of shuffled epochs."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.training.simulate import DoubleWell, count_escapes, example_tilts
from batchsense.training.temperature import SgdSetting, escape_rate

WELL = DoubleWell(0.25)


def law(setting: SgdSetting, ratio: float) -> tuple[float, float]:
    """Noise for a barrier of so many kT, and the rate a step that the law gives."""
    noise = 0.25 / ratio * 2 * setting.batch_size / setting.learning_rate
    found = escape_rate(0.25, WELL.curvature_minimum, WELL.curvature_barrier, noise, setting)
    return noise, found.per_time


def test_measured_escapes_follow_the_law() -> None:
    """At a barrier of four kT, within four standard errors and a fifth."""
    setting = SgdSetting(0.05, 2, examples=512)
    noise, per_time = law(setting, 4.0)
    tilts = example_tilts(512, 1, noise, seed=1)
    seen = count_escapes(WELL, tilts, setting, steps=4000, replicas=300, seed=2)

    assert seen.count > 150
    assert seen.per_time == pytest.approx(per_time, abs=4 * seen.error + 0.2 * per_time)


def test_shuffling_all_but_forbids_escapes_in_short_epochs() -> None:
    """At five relaxation times an epoch under a twentieth of the rate, and it is said."""
    examples = 2 * round(5 / (0.05 * WELL.curvature_minimum))
    free = SgdSetting(0.05, 2, examples=examples)
    noise, per_time = law(free, 4.0)
    shuffled = SgdSetting(0.05, 2, examples=examples, sampling="epoch")
    tilts = example_tilts(examples, 1, noise, seed=3)
    seen = count_escapes(WELL, tilts, shuffled, steps=4000, replicas=300, seed=4)
    said = escape_rate(0.25, WELL.curvature_minimum, WELL.curvature_barrier, noise, shuffled)

    assert seen.per_time < 0.05 * per_time
    assert any("sum to zero" in doubt for doubt in said.doubts)


@pytest.mark.parametrize(
    ("setting", "ratio", "words"),
    [(SgdSetting(0.05, 2), 1.0, "kT high"), (SgdSetting(0.005, 2, 0.9), 4.0, "inertia")],
)
def test_where_the_law_is_stretched_it_says_so(
    setting: SgdSetting, ratio: float, words: str
) -> None:
    """Low barriers and momentum."""
    noise = 0.25 / ratio * 2 * 2 * (1 - setting.momentum) / setting.learning_rate
    found = escape_rate(0.25, 2.0, 1.0, noise, setting)

    assert any(words in doubt for doubt in found.doubts)


def test_what_is_not_positive_is_refused_by_name() -> None:
    """Each of the four numbers."""
    for place, name in enumerate(("the barrier", "minimum", "at the barrier", "the noise")):
        numbers = [0.25, 2.0, 1.0, 1.0]
        numbers[place] = -1.0
        with pytest.raises(DataError, match=name):
            escape_rate(*numbers, setting=SgdSetting(0.05, 2))


def test_tilts_have_exactly_the_wanted_covariance() -> None:
    """Mean zero, variance as asked, no correlation."""
    tilts = example_tilts(50, 3, 2.0, seed=0)

    np.testing.assert_allclose(tilts.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(tilts.T @ tilts / 50, 2 * np.eye(3), atol=1e-12)
