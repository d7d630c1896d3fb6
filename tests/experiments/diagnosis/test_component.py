"""The variance component of the batches: a dense reference, no bias, an interval that covers."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments.diagnosis.component import batch_component


def dense(observations, indicators, wanted):
    """Recompute Henderson's third method with explicit projections."""
    n = len(observations)

    def projection(design):
        return design @ np.linalg.pinv(design)

    kept, full = projection(wanted), projection(np.hstack([wanted, indicators]))
    r = round(np.trace(full) - np.trace(kept))
    left = np.eye(n) - full
    within = (observations * (left @ observations)).sum(axis=0) / (n - np.trace(full))
    squares = (observations * ((full - kept) @ observations)).sum(axis=0)
    trace = np.trace(indicators.T @ (np.eye(n) - kept) @ indicators)
    return (squares - r * within) / trace, within


@pytest.mark.parametrize("seed", range(12))
def test_equals_explicit_projections(seed):
    """Component and residual variance of every feature equal the dense formula to 1e-10."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(15, 40))
    batches = np.eye(4)[rng.integers(4, size=n)]
    wanted = np.column_stack([np.ones(n), rng.integers(2, size=n), rng.normal(size=n)])
    observations = 50 + 2 * batches @ rng.normal(size=(4, 7)) + rng.normal(size=(n, 7))
    found = batch_component(observations, batches, wanted, rng)
    component, within = dense(observations, batches, wanted)

    np.testing.assert_allclose(found.by_feature, component, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.within_by_feature, within, rtol=1e-10)
    assert found.component.estimate == pytest.approx(component.mean(), rel=1e-9)


@pytest.mark.parametrize(("sd", "features", "factors"), [(0.0, 40, 0), (0.7, 60, 3)])
def test_unbiased_and_covered(sd, features, factors):
    """Over 200 unbalanced tables with correlated features: no bias, truth in at least 93 %."""
    rng = np.random.default_rng(11)
    covered, errors = 0, []
    for _ in range(200):
        labels = np.concatenate([[0, 1, 2], rng.choice(3, size=21, p=[0.5, 0.25, 0.25])])
        batches = np.eye(3)[labels]
        drug = (rng.random(24) < 0.3 + 0.3 * (labels == 0)).astype(float)
        drug[:2] = 0, 1
        wanted = np.column_stack([np.ones(24), drug])
        noise = rng.normal(size=(24, features))
        if factors:
            noise += rng.normal(size=(24, factors)) @ (2 * rng.normal(size=(factors, features)))
        effects = sd * rng.normal(size=(3, features))
        left = batches - wanted @ np.linalg.lstsq(wanted, batches, rcond=None)[0]
        truth = ((left @ effects) ** 2).sum() / (left**2).sum() / features
        observations = batches @ effects + noise + wanted @ rng.normal(size=(2, features))
        found = batch_component(observations, batches, wanted, rng, draws=100).component
        covered += truth in found
        errors.append(found.estimate - truth)

    assert covered >= 186
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(200)


def test_wide_and_tall_tables_agree():
    """The interval is the same whether inner products or the features themselves are summed."""
    rng = np.random.default_rng(0)
    batches = np.eye(3)[np.arange(30) % 3]
    narrow = rng.normal(size=(30, 20)) + batches @ rng.normal(size=(3, 20))
    wide = np.hstack([narrow, narrow])
    found = [
        batch_component(table, batches, np.ones((30, 1)), np.random.default_rng(1)).component
        for table in (narrow, wide)
    ]

    assert found[0].low == pytest.approx(found[1].low, rel=1e-9)
    assert found[0].high == pytest.approx(found[1].high, rel=1e-9)


def test_nothing_left_and_noise_free_data():
    """No component without batches or degrees of freedom; without noise it has no width."""
    rng = np.random.default_rng(0)
    batches = np.eye(2)[np.arange(6) % 2]
    exact = batches @ np.array([[1.0, 2.0], [3.0, 5.0]])
    found = batch_component(exact, batches, np.ones((6, 1)), rng)

    assert batch_component(exact, batches, np.hstack([np.ones((6, 1)), batches]), rng) is None
    assert batch_component(exact, np.eye(6), np.ones((6, 1)), rng) is None
    assert found.component.low == pytest.approx(found.component.high)
    assert np.isinf(found.relative_sd) or found.relative_sd > 1e6


def test_specimens_that_the_model_fits_exactly_lend_nothing():
    """A batch of one specimen has no residual; the interval is made of the others and is finite."""
    rng = np.random.default_rng(0)
    batches = np.eye(3)[[0, 0, 0, 0, 1, 1, 1, 2]]
    found = batch_component(rng.normal(size=(8, 5)), batches, np.ones((8, 1)), rng)

    assert np.isfinite([found.component.low, found.component.high]).all()
    assert found.negative == (found.by_feature < 0).sum()
