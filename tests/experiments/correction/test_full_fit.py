"""The full model from sums: equal to least squares on what was observed, feature by feature."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments.correction import full_fit as module
from batchsense.experiments.correction.full_fit import full_fit
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics


def design(seed):
    """Draw specimens with batches, a factor or two with a column for each level, and gaps."""
    rng = np.random.default_rng(seed)
    n, batches = int(rng.integers(25, 60)), int(rng.integers(2, 5))
    codes = np.r_[np.arange(batches), rng.integers(0, batches, n - batches)]
    kept = [np.eye(3)[rng.integers(0, 3, n)]]
    if seed % 2:
        kept.append(rng.normal(50.0, 10.0, (n, 1)))
    if seed % 3 == 0:
        kept.append(np.eye(4)[rng.integers(0, 4, n)])
    values = rng.normal(size=(n, 40)) + codes[:, None]
    values[rng.random(values.shape) < rng.choice([0.1, 0.4, 0.7])] = np.nan
    return values, codes, np.hstack(kept)


@pytest.mark.parametrize("seed", range(30))
def test_gaps_leave_each_feature_its_own_least_squares_fit(seed):
    """Fitted values, residual sums of squares and what can be told apart, to 1e-9."""
    values, codes, kept = design(seed)
    batches = codes.max() + 1
    state = BatchStatistics.empty(batches, 40, kept.shape[1]).add(values, codes, kept)
    found = full_fit(state)

    for j in range(40):
        seen = ~np.isnan(values[:, j])
        ours = np.eye(batches)[codes[seen]]
        whole = np.hstack([ours, kept[seen]])
        constant = np.hstack([np.ones((seen.sum(), 1)), kept[seen]])
        ranks = [np.linalg.matrix_rank(part) for part in (whole, ours, constant)]
        told = ranks[0] == ranks[1] + ranks[2] - 1
        assert found.estimable[j] == (told and ranks[1] > 1)
        if found.estimable[j]:
            fitted = whole @ np.linalg.lstsq(whole, values[seen, j], rcond=None)[0]
            again = found.levels[codes[seen], j] + kept[seen] @ found.slopes[:, j]
            np.testing.assert_allclose(again, fitted, atol=1e-9)
            left = ((values[seen, j] - fitted) ** 2).sum()
            assert found.residual_squares[:, j].sum() == pytest.approx(left, abs=1e-9)


def test_elimination_and_eigenvalues_agree(monkeypatch):
    """Features that plain elimination may solve come out the same by the careful way."""
    values, codes, kept = design(3)
    state = BatchStatistics.empty(codes.max() + 1, 40, kept.shape[1]).add(values, codes, kept)
    plain = full_fit(state)
    monkeypatch.setattr(module, "_PLAIN", 1e-300)
    careful = full_fit(state)

    assert (plain.estimable == careful.estimable).all()
    np.testing.assert_allclose(
        plain.residual_squares[:, plain.estimable],
        careful.residual_squares[:, plain.estimable],
        atol=1e-11,
    )


def test_a_level_that_was_never_observed_has_no_slope():
    """A factor of which one feature shows a single level only does not disturb its fit."""
    values, codes, kept = design(0)
    drug = kept[:, :2]
    values[:, 5] = np.where(drug[:, 0] == 1, np.arange(len(codes)), np.nan)
    state = BatchStatistics.empty(codes.max() + 1, 40, 2).add(values, codes, drug)
    found = full_fit(state)

    assert found.estimable[5]
    assert (found.slopes[:, 5] == 0).all()
