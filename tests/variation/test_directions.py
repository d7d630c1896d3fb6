"""In how many directions a vector varies."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from batchsense.variation import (
    satterthwaite_directions,
    square_trace_of_residuals,
    square_trace_of_rows,
)


def test_rows_by_a_loop_over_all_quadruples() -> None:
    """The closed form is the average over ordered quadruples of different rows."""
    rows = np.random.default_rng(0).normal(size=(6, 3)) + 2.0
    gram = rows @ rows.T

    terms = [
        gram[i, j] ** 2 - 2 * gram[i, j] * gram[j, k] + gram[i, j] * gram[k, m]
        for i, j, k, m in permutations(range(6), 4)
    ]

    assert square_trace_of_rows(gram) == pytest.approx(np.mean(terms), rel=1e-11)


def test_both_estimates_are_unbiased() -> None:
    """Over 3,000 small normal tables both average to tr Σ² = 4 + 1 + 1/4 (4 standard errors)."""
    generator = np.random.default_rng(1)
    spread = np.sqrt([2.0, 1.0, 0.5])
    by_rows, by_residuals = [], []
    for _ in range(3000):
        rows = generator.normal(size=(7, 3)) * spread + 1.0
        covariance = np.cov(rows.T)
        by_rows.append(square_trace_of_rows(rows @ rows.T))
        by_residuals.append(
            square_trace_of_residuals(
                float((covariance**2).sum()), float(np.trace(covariance)), len(rows) - 1
            )
        )

    for found in (np.array(by_rows), np.array(by_residuals)):
        assert abs(found.mean() - 5.25) < 4 * found.std() / np.sqrt(len(found))


def test_one_degree_of_freedom_leaves_the_plain_square() -> None:
    """With one residual direction there is nothing to take the noise from."""
    assert square_trace_of_residuals(9.0, 3.0, 1) == 9.0


def test_directions_stay_between_one_and_the_most_there_can_be() -> None:
    """Estimates of tr Σ² that are too large or negative are held at what is possible."""
    assert satterthwaite_directions(3.0, 20.0, 1.0) == 1.0
    assert satterthwaite_directions(3.0, -4.0, 9.0 / 5) == pytest.approx(5.0)
    assert satterthwaite_directions(3.0, 3.0, 1.0) == pytest.approx(3.0)
