"""The length of a mean vector from inner products: unbiased, calibrated, bounded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from batchsense.errors import DataError
from batchsense.training.separability.kind.mean_length import (
    mean_length,
    sign_flip_test,
    split_half_test,
    squared_mean,
    squared_mean_bound,
)


def steps(generator, mean, repetitions=24, scale=None):
    """Draw noisy repetitions of a vector."""
    scale = np.ones(len(mean)) if scale is None else scale
    return mean + scale * generator.normal(size=(repetitions, len(mean)))


def gram(d):
    """Give the inner products."""
    return d @ d.T


def test_the_squared_length_is_estimated_without_bias():
    """The mean of many estimates is |E d|², where the naive |mean d|² is far too large."""
    generator = np.random.default_rng(0)
    mean = np.full(30, 0.1)
    draws = [steps(generator, mean, repetitions=8) for _ in range(4000)]

    estimates = np.array([squared_mean(gram(d)) for d in draws])
    naive = np.mean([np.square(d.mean(axis=0)).sum() for d in draws])
    assert abs(estimates.mean() - 0.3) < 4 * estimates.std() / np.sqrt(len(draws))
    assert naive > 10 * 0.3


@pytest.mark.parametrize(
    "test", [lambda a: split_half_test(a)[0], lambda a: sign_flip_test(a, 399)]
)
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_no_mean_is_rejected_as_often_as_promised(test, decay):
    """At level 0.05, 5 % of 1,500 repetitions without a mean are rejected, or fewer."""
    generator = np.random.default_rng(1)
    scale = (1.0 + np.arange(40)) ** -decay

    rejected = sum(
        test(gram(steps(generator, np.zeros(40), 16, scale))) < 0.05 for _ in range(1500)
    )
    assert rejected <= stats.binom.ppf(0.999, 1500, 0.05)


def test_a_mean_is_found():
    """A mean of one sixth of the noise's length is found in at least 95 of 100 cases."""
    generator = np.random.default_rng(2)
    mean = np.full(400, 1 / 6)

    found = sum(split_half_test(gram(steps(generator, mean)))[0] < 0.01 for _ in range(100))
    assert found >= 95


@pytest.mark.parametrize("length", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("spike", [1.0, 6.0])
def test_the_interval_covers_the_truth_at_each_end(length, spike):
    """Each end of a 95 % bound errs in at most 5 % of 600 draws, also with one wild direction."""
    generator = np.random.default_rng(3)
    mean = np.zeros(25)
    mean[0] = length
    scale = np.r_[spike, np.ones(24)]
    intervals = [
        mean_length(gram(steps(generator, mean, 16, scale)), level=0.95, flips=9).length
        for _ in range(600)
    ]

    allowed = stats.binom.ppf(0.999, 600, 0.05)
    assert sum(interval.high < length for interval in intervals) <= allowed
    assert sum(interval.low > length for interval in intervals) <= allowed


def test_the_lower_end_is_positive_exactly_where_the_test_rejects():
    """Interval and test never contradict each other."""
    generator = np.random.default_rng(4)
    for length in np.linspace(0, 3, 60):
        mean = np.r_[length, np.zeros(19)]
        p_value, low = split_half_test(gram(steps(generator, mean, 12)), level=0.95)

        assert (low > 0) == (p_value < 0.05)


def test_rotation_changes_nothing():
    """Only inner products matter: d and Qd give the same answer."""
    generator = np.random.default_rng(5)
    d = steps(generator, np.full(12, 0.3))
    rotation, _ = np.linalg.qr(generator.normal(size=(12, 12)))
    one, other = mean_length(gram(d)), mean_length(gram(d @ rotation))

    assert one.length.estimate == pytest.approx(other.length.estimate)
    assert one.length.high == pytest.approx(other.length.high)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.spread == pytest.approx(other.spread)


def test_noise_free_repetitions_have_the_length_they_have():
    """Twelve equal vectors of length 5: nothing to doubt."""
    found = mean_length(np.full((12, 12), 25.0))

    assert (found.length.low, found.length.estimate) == pytest.approx((5.0, 5.0))
    assert found.length.high == pytest.approx(5.0)
    assert found.p_value == 0.0
    assert found.p_value_sign_flip < 0.01
    assert found.spread == 0.0


def test_negative_estimates_keep_their_sign():
    """Repetitions that oppose each other: the estimate is negative, the bound is not zero."""
    d = np.array([[1.0], [-1.0]] * 6)
    found = mean_length(gram(d))

    assert found.length.estimate < 0
    assert found.length.low == 0.0
    assert found.length.high > 0.3
    assert squared_mean_bound(gram(d)) == pytest.approx(found.length.high**2)


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (np.ones((6, 5)), "square"),
        (np.ones((5, 5)), "at least 6"),
        (np.full((6, 6), np.nan), "finite"),
        (np.triu(np.ones((6, 6))), "symmetric"),
    ],
)
def test_what_is_no_gram_matrix_is_refused(matrix, word):
    """Shape, size, NaN and asymmetry are refused in words."""
    with pytest.raises(DataError, match=word):
        mean_length(matrix)
