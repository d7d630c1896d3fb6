"""What lies beyond chance: one formula for batches, groups and mean gradients."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments import variance_components_by_feature
from batchsense.experiments.diagnosis.component import batch_component
from batchsense.training.gradient_noise.estimators import moments_of_layers
from batchsense.variation import beyond_chance, variance_component


def test_textbook_balanced_table() -> None:
    """Groups with means 2, 5, 8 and variance 2 inside lie 8 apart: (MSB - MSW)/m = (18 - 2)/2."""
    assert beyond_chance(36.0, 2, 2.0) == 32.0
    assert variance_component(36.0, 2, 2.0, 4.0) == 8.0


def test_it_is_unbiased_and_keeps_its_sign() -> None:
    """Over 4,000 tables of pure noise the component averages to zero, and half are negative."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4000, 5, 4))
    means = values.mean(axis=2)
    squares = 4 * ((means - means.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    noise = values.var(axis=2, ddof=1).mean(axis=1)

    found = variance_component(squares, 4, noise, 4.0 * 4)

    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert 0.4 < (found < 0).mean() < 0.7


@pytest.mark.parametrize("sizes", [[6, 6, 6, 6], [2, 9, 4, 1, 7]])
def test_batches_without_kept_factors_are_a_one_way_table(sizes: list[int]) -> None:
    """The component that diagnose gives is that of the one-way table, batches equal or not."""
    generator = np.random.default_rng(1)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    values = generator.normal(size=(len(codes), 7)) + generator.normal(size=(len(sizes), 7))[codes]

    found = batch_component(
        values, np.eye(len(sizes))[codes], np.ones((len(codes), 1)), generator, draws=20
    )
    assert found is not None
    expected = variance_components_by_feature(values, codes)

    np.testing.assert_allclose(found.by_feature, expected.between, rtol=1e-12)
    np.testing.assert_allclose(found.within_by_feature, expected.within, rtol=1e-12)


def test_a_squared_gradient_is_a_component_too() -> None:
    """γ̂ = |ḡ|² - τ̂/n is the component of one direction, the mean, whose square counts n times."""
    generator = np.random.default_rng(2)
    gradients = generator.normal(size=(8, 50)) + 0.3
    sizes = np.full(8, 16)

    _, squared_norm = moments_of_layers([gradients @ gradients.T], sizes)[0]

    mean, n = gradients.mean(axis=0), 16 * 8
    tau = 16 * ((gradients - mean) ** 2).sum() / 7
    assert squared_norm == pytest.approx(mean @ mean - tau / n, rel=1e-12)
    assert squared_norm == pytest.approx(
        variance_component(n * float(mean @ mean), 1, tau, n), rel=1e-12
    )
