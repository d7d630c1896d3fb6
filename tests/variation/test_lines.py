"""Weighted straight lines."""

from __future__ import annotations

import numpy as np

from batchsense.variation import weighted_lines


def test_lines_are_those_of_least_squares() -> None:
    """Level and slope of each row equal numpy's solution of the weighted equations, to 1e-11."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=9) + 50.0, generator.normal(size=(4, 9))
    weights = generator.uniform(0.1, 3.0, size=(4, 9))

    found = weighted_lines(x, y, weights)

    for row in range(4):
        root = np.sqrt(weights[row])
        design = np.column_stack([np.ones(9), x - 50.0]) * root[:, None]
        constant, slope = np.linalg.lstsq(design, y[row] * root, rcond=None)[0]
        np.testing.assert_allclose(found.slope[row], slope, rtol=1e-11)
        np.testing.assert_allclose(found.at(50.0)[row], constant, rtol=1e-11, atol=1e-12)


def test_points_above_one_another_have_no_slope() -> None:
    """Where x does not vary the line is level, at the weighted mean."""
    found = weighted_lines(np.full(3, 7.0), np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0]))

    assert float(found.slope) == 0.0
    assert float(found.at(100.0)) == 3.75


def test_the_spread_is_the_information_on_the_slope() -> None:
    """With inverse variances for weights the slope varies by one over the spread (5 %)."""
    generator = np.random.default_rng(1)
    x, deviations = np.arange(6.0), np.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])
    y = generator.normal(size=(20_000, 6)) * deviations

    found = weighted_lines(x, y, deviations**-2.0)

    np.testing.assert_allclose(found.slope.var() * found.spread, 1.0, rtol=0.05)
