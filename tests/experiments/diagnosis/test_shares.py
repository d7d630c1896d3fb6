"""Shares of variance: unbiased, covered by their intervals, judged against permuted labels."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.datasets import load_digits
from batchsense.experiments.diagnosis.shares import share_of_variance

ONE = np.ones


def share(observations, term, others, seed=0, permutations=1):
    return share_of_variance(observations, term, others, np.random.default_rng(seed), permutations)


def plain_share(observations, term, others):
    """Recompute raw and corrected share with two dense least-squares fits."""
    full = np.hstack([others, term])

    def rss(design):
        fitted = design @ np.linalg.pinv(design) @ observations
        return ((observations - fitted) ** 2).sum()

    total = ((observations - observations.mean(axis=0)) ** 2).sum()
    rank = np.linalg.matrix_rank(full)
    added = rss(others) - rss(full)
    noise = rss(full) / (len(observations) - rank)
    return added / total, (added - (rank - np.linalg.matrix_rank(others)) * noise) / total


@pytest.mark.parametrize("seed", range(20))
def test_equals_dense_least_squares(seed):
    """Raw and corrected share equal two dense fits, for any design, redundant columns included."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(12, 40))
    others = np.column_stack([ONE(n), np.eye(3)[rng.integers(3, size=n)], rng.normal(size=n)])
    term = np.column_stack([np.eye(4)[rng.integers(4, size=n)], ONE(n)])
    observations = rng.normal(size=(n, 6)) + 2 * term @ rng.normal(size=(5, 6)) + 1e3
    found = share(observations, term, others)
    raw, corrected = plain_share(observations, term, others)

    assert found.raw == pytest.approx(raw, abs=1e-9)
    assert found.share.estimate == pytest.approx(max(corrected, 0), abs=1e-9)


def simulate(rng, n, groups, effect, features, factors):
    """Draw one correlated table with its true share."""
    label = rng.permutation(np.arange(n) % groups)
    loadings = 2 * rng.normal(size=(factors, features))
    noise = rng.normal(size=(n, features)) + rng.normal(size=(n, factors)) @ loadings
    means = (effect * rng.normal(size=(groups, features)))[label]
    between = ((means - means.mean(axis=0)) ** 2).sum()
    truth = between / (between + (n - 1) * (features + (loadings**2).sum()))
    return means + noise, np.eye(groups)[label], truth


@pytest.mark.parametrize(
    ("n", "groups", "effect", "features", "factors"),
    [
        (12, 2, 0.5, 40, 0),
        (20, 4, 1.0, 1, 0),
        pytest.param(24, 3, 0.7, 60, 3, marks=pytest.mark.slow),
        pytest.param(60, 4, 0.3, 30, 2, marks=pytest.mark.slow),
    ],
)
def test_unbiased_and_covered(n, groups, effect, features, factors):
    """Over 400 tables: the 95 % interval covers the truth in at least 92 %, no bias to speak of."""
    rng = np.random.default_rng(7)
    covered, errors = 0, []
    for _ in range(400):
        observations, term, truth = simulate(rng, n, groups, effect, features, factors)
        found = share(observations, term, ONE((n, 1))).share
        covered += found.low <= truth <= found.high
        errors.append(found.estimate - truth)

    assert covered / 400 >= 0.92
    assert abs(np.mean(errors)) < 4 * np.std(errors) / 20 + 0.01


def test_noise_explains_nothing():
    """Pure noise: p-values are uniform, shares small, raw shares near (r)/(n-1)."""
    rng = np.random.default_rng(3)
    p_values, raw, null = [], [], []
    for seed in range(200):
        observations = rng.normal(size=(18, 10)) @ rng.normal(size=(10, 10))
        found = share(observations, np.eye(3)[np.arange(18) % 3], ONE((18, 1)), seed, 99)
        p_values.append(found.null.p_value)
        raw.append(found.raw)
        null.append(found.null.mean)

    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert 0.4 < np.mean(p_values) < 0.6
    assert np.mean(raw) == pytest.approx(2 / 17, rel=0.1)
    assert np.mean(null) == pytest.approx(2 / 17, rel=0.05)


def test_interval_holds_its_estimate_even_below_chance():
    """A term that explains less than chance gets 0 and an interval from 0 with a positive end."""
    rng = np.random.default_rng(0)
    groups = np.eye(2)[np.arange(40) % 2]
    observations = rng.normal(size=(40, 3))
    observations -= groups @ np.linalg.lstsq(groups, observations, rcond=None)[0]
    found = share(observations, groups, ONE((40, 1))).share

    assert (found.estimate, found.low) == (0.0, 0.0)
    assert found.high > 0.005


def test_noise_free_data():
    """Without any noise the share is the raw one, and the interval has no width."""
    groups = np.eye(2)[np.arange(10) % 2]
    found = share(groups @ np.array([[1.0, 2.0], [3.0, 5.0]]), groups, ONE((10, 1))).share

    assert (found.low, found.estimate, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_nothing_left():
    """A term inside the others, or no residual degree of freedom, has no share."""
    observations = np.random.default_rng(0).normal(size=(6, 3))
    groups = np.eye(2)[np.arange(6) % 2]

    assert share(observations, groups, np.hstack([ONE((6, 1)), groups])) is None
    assert share(observations, np.eye(6), ONE((6, 1))) is None


def test_digits():
    """Form 0.040, digit 0.421, form × digit 0.209 of the sum of squares; form 5 times its null."""
    digits = load_digits()
    digit, form = np.eye(10)[digits.digit], np.eye(14)[digits.form_labels]
    cells = np.eye(140)[digits.digit * 14 + digits.form_labels]
    one = ONE((1797, 1))
    of_form = share(digits.observations, form, np.hstack([one, digit]), permutations=40)
    of_digit = share(digits.observations, digit, np.hstack([one, form]))
    of_cells = share(digits.observations, cells, np.hstack([one, digit, form]))

    assert of_form.raw == pytest.approx(0.040, abs=5e-4)
    assert of_digit.raw == pytest.approx(0.421, abs=5e-4)
    assert of_cells.raw == pytest.approx(0.209, abs=5e-4)
    assert of_form.null.mean == pytest.approx(0.0042, abs=3e-4)
    assert of_form.raw >= 5 * of_form.null.mean
    assert of_form.share.estimate >= 5 * of_form.null.mean


def test_rows_of_real_data_are_covered():
    """Random rows of the digits: the interval for the form covers the share of all rows."""
    digits = load_digits()
    form, others = np.eye(14)[digits.form_labels], np.eye(10)[digits.digit]
    truth = share(digits.observations, form, others).raw
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        rows = rng.integers(1797, size=200)
        found = share(digits.observations[rows], form[rows], others[rows]).share
        covered += found.low <= truth <= found.high

    assert covered >= 86
