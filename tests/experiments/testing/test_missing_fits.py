"""Fits with missing values, many at a time: equal to a fit of each feature on its own rows."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments.testing.fitting import fit_contrasts
from batchsense.variation.linear import factor


@pytest.mark.parametrize("shift", [1.0, 1e5])
@pytest.mark.parametrize("missing", [0.02, 0.3, 0.6])
def test_equal_to_single_fits(missing, shift):
    """Estimates, variances, F, df and residuals equal those of least squares on observed rows."""
    rng = np.random.default_rng(0)
    n, features = 40, 300
    batch, drug = rng.integers(3, size=n), rng.integers(3, size=n)
    columns = np.column_stack([np.ones(n), np.eye(3)[batch][:, 1:], np.eye(3)[drug][:, 1:]])
    values = rng.normal(size=(n, features)) + shift * rng.normal(size=(3, features))[batch] + 1e3
    values[:, :3] = columns @ rng.normal(size=(5, 3))  # fitted exactly
    values[rng.random(values.shape) < missing] = np.nan
    contrasts = np.array([[0, 0, 0, 1.0, 0], [0, 0, 0, 0, 1.0]])
    found = fit_contrasts(values, factor(columns), columns, contrasts, ((0, 1),))
    compared = 0
    for feature in range(features):
        rows = ~np.isnan(values[:, feature])
        design = columns[rows]
        if np.linalg.matrix_rank(design) < 5 or rows.sum() < 7 or feature < 3:
            continue
        y = values[rows, feature]
        b = np.linalg.lstsq(design, y, rcond=None)[0]
        inverse = np.linalg.inv(design.T @ design)[3:, 3:]
        compared += 1

        scale = np.abs(b).max()
        np.testing.assert_allclose(found.estimates[:, feature], b[3:], atol=1e-11 * scale)
        np.testing.assert_allclose(found.unscaled[:, feature], np.diag(inverse), rtol=1e-9)
        assert found.residual_squares[feature] == pytest.approx(
            ((y - design @ b) ** 2).sum(), rel=1e-8
        )
        assert found.df[feature] == rows.sum() - 5
        joint = b[3:] @ np.linalg.solve(inverse, b[3:]) / 2
        assert found.joint[0, feature] == pytest.approx(joint, rel=1e-7, abs=1e-16 * scale**2)
    assert compared > 200
    assert (found.residual_squares[:3] < 1e-20 * n).all()
