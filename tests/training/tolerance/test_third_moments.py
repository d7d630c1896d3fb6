"""The third cumulant of the squared error of a mean is the exact one where that is known."""

import numpy as np
import pytest
from scipy import stats

from batchsense.training.tolerance.moments import (
    ErrorMoments,
    drawn_by_length,
    moments_of_rows,
    moments_of_survey,
)


@pytest.fixture(scope="module")
def one_in_ten() -> ErrorMoments:
    """Moments of observations of which one in ten is 1, the rest 0."""
    pilot = (np.arange(2000) % 10 == 0).astype(float)[:, None]
    return moments_of_rows(pilot @ pilot.T)


@pytest.mark.parametrize("n", [3, 16, 200])
def test_cumulant_of_skewed_observations(n: int, one_in_ten: ErrorMoments) -> None:
    """One in ten is 1, the rest 0: κ₃ of n|ē|²/τ equals that of the binomial, exactly known."""
    share, found = 0.1, one_in_ten
    formula = (
        8 * (1 - 1 / n) * (1 - 2 / n) * found.cube_ratio
        + (1 - 1 / n) * found.mixed_ratio / n
        + found.sixth_ratio / n**2
    )
    count = np.arange(n + 1)
    chance = stats.binom.pmf(count, n, share)
    squares = (count - n * share) ** 2 / (n * share * (1 - share))
    exact = float((chance * (squares - (chance * squares).sum()) ** 3).sum())

    assert formula == pytest.approx(exact, rel=0.02)


def test_means_of_normal_observations_are_normal_again() -> None:
    """Rows that are means of four give the shape of single ones: nothing is counted twice."""
    rng = np.random.default_rng(0)
    singles = rng.normal(size=(1500, 6))
    means = rng.normal(size=(1500, 6)) / 2
    one = moments_of_rows(singles @ singles.T)
    four = moments_of_rows(means @ means.T, 4)

    assert four.cube_ratio == pytest.approx(one.cube_ratio, rel=0.1)
    assert four.mixed_ratio <= one.mixed_ratio + 0.3


@pytest.mark.parametrize("seed", range(3))
def test_few_rows_drawn_by_length_tell_what_all_products_do(seed: int) -> None:
    """On average over draws, every moment is that of the survey itself, heavy tails included."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_t(3, size=(600, 5)) * np.where(rng.random(600) < 0.02, 6, 1)[:, None]
    rows -= rows.mean(axis=0)
    lengths = (rows**2).sum(axis=1)
    found = []
    for _ in range(150):
        drawn, chances = drawn_by_length(lengths, 96, rng)
        found.append(moments_of_survey(lengths, drawn, chances, rows[drawn] @ rows[drawn].T))
    whole = moments_of_rows(rows @ rows.T)

    for name in ("square_ratio", "cube_ratio", "mixed_ratio", "fourth_ratio", "sixth_ratio"):
        values = np.array([getattr(one, name) for one in found])
        allowed = 4 * values.std() / np.sqrt(len(values)) + 0.02 * abs(getattr(whole, name))
        assert abs(values.mean() - getattr(whole, name)) <= allowed, name
