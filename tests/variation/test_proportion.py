"""Clopper and Pearson's bound and the number of fresh tries it needs."""

import pytest
from scipy import stats

from batchsense.errors import DataError
from batchsense.variation.proportion import draws_to_certify, miss_rate, proportion


def test_the_bounds_are_those_of_scipy() -> None:
    """One-sided bounds at level 95 % are the ends of scipy's exact 90 % interval."""
    for misses, draws in [(0, 59), (3, 100), (40, 40)]:
        exact = stats.binomtest(misses, draws).proportion_ci(0.90, "exact")
        found = miss_rate(misses, draws)

        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_both_ends_together_are_the_exact_interval() -> None:
    """The two-sided interval at 95 % is scipy's, at none, some and all hits."""
    for hits, trials in [(0, 10), (3, 100), (40, 40)]:
        exact = stats.binomtest(hits, trials).proportion_ci(0.95, "exact")
        found = proportion(hits, trials)

        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), rel=1e-12)


def test_the_bound_is_right_at_least_as_often_as_it_says() -> None:
    """For every true rate the chance that the bound lies below it is at most 5 %."""
    for truth in (0.01, 0.05, 0.3):
        wrong = sum(
            float(stats.binom.pmf(k, 80, truth)) for k in range(81) if miss_rate(k, 80).high < truth
        )

        assert wrong <= 0.05


def test_no_miss_in_59_or_299_certifies_five_or_one_per_cent() -> None:
    """The textbook numbers, from 0.95^59 < 0.05 and 0.99^299 < 0.05."""
    assert draws_to_certify(0.05) == 59
    assert draws_to_certify(0.01) == 299


def test_one_draw_fewer_does_not_certify() -> None:
    """The number of draws is the least one, for each number of misses."""
    for misses in range(5):
        draws = draws_to_certify(0.05, misses)

        assert miss_rate(misses, draws).high <= 0.05 < miss_rate(misses, draws - 1).high


def test_impossible_counts_are_refused() -> None:
    """Three misses in two draws cannot be."""
    with pytest.raises(DataError, match="3 misses in 2 draws"):
        miss_rate(3, 2)
    with pytest.raises(DataError, match="3 hits in 2 trials"):
        proportion(3, 2)
    with pytest.raises(DataError, match="between 0 and 1"):
        draws_to_certify(0.0)
