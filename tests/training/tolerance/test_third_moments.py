"""The third cumulant of the squared error of a mean is the exact one where that is known."""

import numpy as np
import pytest
from scipy import stats

from batchsense.training.tolerance.pilot_noise import ThirdMoments, third_moments


@pytest.fixture(scope="module")
def one_in_ten() -> ThirdMoments:
    """Moments of observations of which one in ten is 1, the rest 0."""
    pilot = (np.arange(2000) % 10 == 0).astype(float)[:, None]
    return third_moments(pilot @ pilot.T, square_ratio=1.0)


@pytest.mark.parametrize("n", [3, 16, 200])
def test_cumulant_of_skewed_observations(n: int, one_in_ten: ThirdMoments) -> None:
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
    one = third_moments(singles @ singles.T, 1 / 6)
    four = third_moments(means @ means.T, 1 / 6, observations_per_row=4)

    assert four.cube_ratio == pytest.approx(one.cube_ratio, rel=0.1)
    assert four.mixed_ratio <= one.mixed_ratio + 0.3
