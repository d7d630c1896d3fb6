"""The number of draws behind each promise, against exact laws."""

import math

import numpy as np
import pytest
from scipy import stats

from batchsense.training.tolerance.calibrated import calibrated_need
from batchsense.variation import (
    chebyshev_need,
    mean_square_need,
    pinelis_need,
)


@pytest.mark.parametrize("delta", [0.2, 0.05, 0.01])
@pytest.mark.parametrize("features", [1, 3, 40])
def test_for_normal_observations_the_calibrated_number_is_exact(
    delta: float, features: int
) -> None:
    """In d equal normal directions the squared error is exactly χ²_d, at every n."""
    need = calibrated_need(float(features), 0.3, delta, 1 / features, 2 / features)

    exact = stats.chi2.ppf(1 - delta, features) / 0.3**2
    assert need == pytest.approx(exact, rel=1e-9)


def test_the_scalar_case_is_the_textbook_number() -> None:
    """(z σ/ε)², as in Cochran's chapter 4: σ = 15, ε = 3, 95 % needs 97 observations."""
    need = calibrated_need(225.0, 3.0, 0.05, 1.0, 2.0)

    assert need == pytest.approx((stats.norm.ppf(0.975) * 15 / 3) ** 2)
    assert math.ceil(need) == 97
    assert chebyshev_need(225.0, 3.0, 0.05) == pytest.approx(500)


@pytest.mark.parametrize("rare", [0.1, 0.02, 0.01])
def test_with_heavy_tails_the_fourth_moment_makes_the_number_right(rare: float) -> None:
    """A few observations with 100 times the variance: corrected within 12 %, plain up to 2× short.

    Given how many large ones are drawn the squared error is χ²₈, so the chance of a miss is exact.
    """
    weights, chances = np.array([100.0, 1.0]), np.array([rare, 1 - rare])
    first, second = weights @ chances, weights**2 @ chances
    trace, fourth = 8 * first, (80 * second - 64 * first**2) / (64 * first**2)
    epsilon, delta = math.sqrt(trace / 60), 0.05

    def miss(n: int) -> float:
        large = np.arange(n + 1)
        scale = (100.0 * large + (n - large)) / n**2
        return float(stats.binom.pmf(large, n, rare) @ stats.chi2.sf(epsilon**2 / scale, 8))

    exact = next(n for n in range(20, 1000) if miss(n) <= delta)

    assert calibrated_need(trace, epsilon, delta, 1 / 8, fourth) == pytest.approx(exact, rel=0.12)
    assert miss(math.ceil(calibrated_need(trace, epsilon, delta, 1 / 8))) > 1.2 * delta


def test_chebyshev_and_mean_square_hold_for_every_two_point_law() -> None:
    """The mean square error at n is ε², and Chebyshev's n misses at most δ of the time."""
    delta, epsilon = 0.1, 0.05
    for p in (0.5, 0.1, 0.01):
        variance = p * (1 - p)
        n = math.ceil(chebyshev_need(variance, epsilon, delta))
        hits = np.arange(n + 1)
        missed = np.abs(hits / n - p) > epsilon

        assert stats.binom.pmf(hits, n, p)[missed].sum() <= delta
        assert mean_square_need(variance, epsilon) == pytest.approx(variance / epsilon**2)


def test_the_bounded_number_holds_for_every_two_point_law() -> None:
    """Pinelis' n misses at most δ of the time, for rare and common events alike."""
    delta, epsilon = 0.05, 0.05
    for p in (0.5, 0.1, 0.01, 0.001):
        n = math.ceil(pinelis_need(p * (1 - p), epsilon, delta, radius=max(p, 1 - p)))
        hits = np.arange(n + 1)
        missed = np.abs(hits / n - p) > epsilon

        assert stats.binom.pmf(hits, n, p)[missed].sum() <= delta


def test_no_variance_needs_no_draws() -> None:
    """Equal observations: any number is enough."""
    assert calibrated_need(0.0, 0.1, 0.05, 1.0) == 0.0


def test_a_smaller_tolerance_or_chance_never_needs_fewer() -> None:
    """The number rises as ε or δ falls, and never exceeds Chebyshev's."""
    for epsilon in (0.1, 0.3, 1.0):
        for delta in (0.3, 0.05, 0.001):
            here = calibrated_need(1.0, epsilon, delta, 0.2, 5.0)

            assert calibrated_need(1.0, epsilon / 2, delta, 0.2, 5.0) > here
            assert calibrated_need(1.0, epsilon, delta / 3, 0.2, 5.0) > here
            assert here <= chebyshev_need(1.0, epsilon, delta)
