"""One-way variance components and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments import variance_components, variance_components_by_feature

TABLES = 2000
DESIGNS = {
    "balanced": [4] * 10,
    "blocks": [64] * 20,
    "pairs": [2] * 30,
    "unbalanced": [2, 3, 4, 5, 6, 20, 1, 1],
    "one large group": [5, 40, 3, 3],
}


def simulate(sizes: list[int], icc: float, tables: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables of a known intraclass correlation and total variance 1, one in each column."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    between = generator.normal(size=(len(sizes), tables)) * np.sqrt(icc)
    within = generator.normal(size=(len(labels), tables)) * np.sqrt(1 - icc)
    return between[labels] + within, labels


@pytest.mark.parametrize("icc", [0.0, 0.05, 0.3, 0.8])
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_cover_what_was_planted(design: str, icc: float) -> None:
    """In 93 to 97 % of 2,000 tables each 95 % interval holds its planted value."""
    values, labels = simulate(DESIGNS[design], icc, TABLES, seed=20)

    found = variance_components_by_feature(values, labels)

    for low, high, planted in [
        (found.icc_low, found.icc_high, icc),
        (found.between_low, found.between_high, icc),
        (found.within_low, found.within_high, 1 - icc),
    ]:
        covered = float(np.mean((low <= planted) & (planted <= high)))
        assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("level", [0.5, 0.8, 0.99])
def test_other_levels_are_kept_too(level: float) -> None:
    """The confidence level asked for is the one delivered (within 4 standard errors)."""
    values, labels = simulate(DESIGNS["unbalanced"], 0.3, TABLES, seed=21)

    found = variance_components_by_feature(values, labels, level=level)

    error = np.sqrt(level * (1 - level) / TABLES)
    for low, high in [(found.icc_low, found.icc_high), (found.between_low, found.between_high)]:
        assert abs(np.mean((low <= 0.3) & (high >= 0.3)) - level) < 4 * error


@pytest.mark.parametrize("design", DESIGNS)
def test_estimates_are_unbiased(design: str) -> None:
    """Averaged over tables, both variances equal the planted ones; negatives are kept for that."""
    values, labels = simulate(DESIGNS[design], 0.02, TABLES, seed=22)

    found = variance_components_by_feature(values, labels)

    for estimates, planted in [(found.between, 0.02), (found.within, 0.98)]:
        error = estimates.std() / np.sqrt(TABLES)
        assert abs(estimates.mean() - planted) < 4 * error
    assert (found.between < 0).any()


def slow_components(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Twin: sums over single observations, one feature."""
    groups = [values[labels == label].tolist() for label in np.unique(labels)]
    n, k = len(values), len(groups)
    means = [sum(group) / len(group) for group in groups]
    grand = sum(values.tolist()) / n
    within = sum((x - m) ** 2 for group, m in zip(groups, means, strict=True) for x in group)
    between = sum(len(group) * (m - grand) ** 2 for group, m in zip(groups, means, strict=True))
    msb, msw = between / (k - 1), within / (n - k)
    n0 = (n - sum(len(group) ** 2 for group in groups) / n) / (k - 1)
    component = (msb - msw) / n0
    return {
        "between": component,
        "within": msw,
        "icc": component / (component + msw),
        "f_statistic": msb / msw,
        "squares": within,
    }


@pytest.mark.parametrize("design", ["balanced", "unbalanced", "one large group"])
def test_estimates_by_the_slow_way(design: str) -> None:
    """Every feature's estimates equal those of plain sums."""
    values, labels = simulate(DESIGNS[design], 0.3, 5, seed=3)
    found = variance_components_by_feature(values, labels)

    for feature in range(5):
        expected = slow_components(values[:, feature], labels)
        for name in ("between", "within", "icc", "f_statistic"):
            assert getattr(found, name)[feature] == pytest.approx(expected[name], rel=1e-10)


@pytest.mark.parametrize("design", ["balanced", "unbalanced", "one large group"])
@pytest.mark.parametrize("icc", [0.2, 0.9])
def test_interval_ends_by_the_slow_way(design: str, icc: float) -> None:
    """Ends solve the defining equations, found by scipy's root search and quadrature."""
    sizes = np.array(DESIGNS[design], dtype=float)
    values, labels = simulate(DESIGNS[design], icc, 1, seed=4)
    found = variance_components(values[:, 0], labels, level=0.9)
    slow = slow_components(values[:, 0], labels)
    means = np.array([values[labels == label, 0].mean() for label in range(len(sizes))])
    k, df_within = len(sizes), int(sizes.sum()) - len(sizes)

    def distance(between: float, within: float) -> float:
        weights = 1 / (between + within / sizes)
        centre = (weights * means).sum() / weights.sum()
        return float((weights * (means - centre) ** 2).sum())

    def pivot_gap(correlation: float, tail: float) -> float:
        theta = correlation / (1 - correlation)
        pivot = distance(theta, 1.0) / (k - 1) / slow["within"]
        return pivot - stats.f.ppf(tail, k - 1, df_within)

    least = -1 / (sizes.max() - 1)
    for end, tail in [(found.icc.low, 0.95), (found.icc.high, 0.05)]:
        if pivot_gap(least + 1e-9, tail) < 0:  # even the least correlation is not excluded
            assert end == pytest.approx(min(least, found.icc.estimate), rel=1e-9)
            continue
        root = optimize.brentq(pivot_gap, least + 1e-9, 1 - 1e-12, args=(tail,))
        assert end == pytest.approx(root, rel=1e-8, abs=1e-10)

    def chance(between: float) -> float:
        def integrand(u: float) -> float:
            within = slow["squares"] / stats.chi2.ppf(u, df_within)
            if between + within / sizes.max() <= 0:
                return 0.0
            return float(stats.chi2.sf(distance(between, within), k - 1))

        return integrate.quad(integrand, 0, 1, limit=200)[0]

    assert chance(found.between.low) == pytest.approx(0.05, abs=1e-3)
    assert chance(found.between.high) == pytest.approx(0.95, abs=1e-3)
    for end, tail in [(found.within.low, 0.95), (found.within.high, 0.05)]:
        assert end == pytest.approx(slow["squares"] / stats.chi2.ppf(tail, df_within), rel=1e-12)


def test_equal_groups_give_searles_interval() -> None:
    """For equal groups the ICC ends are (F/F_q - 1)/(F/F_q + n - 1)."""
    values, labels = simulate([6] * 8, 0.4, 1, seed=5)

    found = variance_components(values[:, 0], labels)

    for end, tail in [(found.icc.low, 0.975), (found.icc.high, 0.025)]:
        ratio = found.f_statistic / stats.f.ppf(tail, 7, 40)
        assert end == pytest.approx((ratio - 1) / (ratio + 5), rel=1e-9)


def test_textbook_balanced_table() -> None:
    """Three groups of two with means 2, 5 and 8: MSB 18, MSW 2, so 8 between, 2 within, ICC 0.8."""
    found = variance_components([1, 3, 4, 6, 7, 9], list("aabbcc"))

    assert found.f_statistic == 9.0
    assert (found.between.estimate, found.within.estimate, found.icc.estimate) == (8.0, 2.0, 0.8)
    assert found.design_effect.estimate == pytest.approx(1.8)
    assert (found.df_between, found.df_within, found.mean_group_size) == (2, 3, 2.0)


def test_design_effect_is_the_variance_ratio_of_the_mean() -> None:
    """Over many tables the grand mean varies design_effect times more than independent ones."""
    sizes = DESIGNS["unbalanced"]
    values, labels = simulate(sizes, 0.3, 40_000, seed=6)
    size = sum(s**2 for s in sizes) / sum(sizes)

    ratio = values.mean(axis=0).var() * sum(sizes)
    found = variance_components(values[:, 0], labels)

    assert ratio == pytest.approx(1 + (size - 1) * 0.3, rel=0.03)
    slope = (found.design_effect.estimate - 1) / found.icc.estimate
    assert slope == pytest.approx(size - 1, rel=1e-10)


def test_negative_estimates_keep_their_sign() -> None:
    """Groups more alike than chance give a negative component beside the truncated zero."""
    found = variance_components([0.0, 10, 1, 9, 2, 8], list("aabbcc"))

    assert found.between.estimate < 0
    assert found.between_truncated == 0.0
    assert found.icc.estimate < 0
    assert found.icc.low <= found.icc.estimate <= found.icc.high


@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_a_large_offset_changes_nothing(offset: float) -> None:
    """Adding 1e8 leaves components and intervals as they were."""
    generator = np.random.default_rng(7)
    values = generator.integers(0, 50, 40).astype(float)
    labels = generator.integers(0, 6, 40)

    plain = variance_components(values, labels)
    shifted = variance_components(values + offset, labels)

    for name in ("between", "within", "icc", "design_effect"):
        for end in ("estimate", "low", "high"):
            expected = getattr(getattr(plain, name), end)
            assert getattr(getattr(shifted, name), end) == pytest.approx(expected, rel=1e-11)


def test_no_variation_within_groups_is_full_correlation() -> None:
    """Equal values within groups: ICC 1 without spread, F infinite, nothing NaN."""
    found = variance_components([1, 1, 2, 2, 5, 5], list("aabbcc"))

    assert (found.icc.estimate, found.icc.low, found.icc.high) == (1.0, 1.0, 1.0)
    assert found.within.estimate == 0.0
    assert found.f_statistic == np.inf
    assert 0 < found.between.low < found.between.estimate < found.between.high


def test_constant_features_are_flagged_and_only_they_are_nan() -> None:
    """A constant column among others is reported in `constant`; the rest is untouched."""
    values, labels = simulate([3] * 5, 0.3, 3, seed=8)
    values[:, 1] = 0.1

    found = variance_components_by_feature(values, labels)

    np.testing.assert_array_equal(found.constant, [False, True, False])
    for name in ("icc", "icc_low", "icc_high", "f_statistic"):
        np.testing.assert_array_equal(np.isnan(getattr(found, name)), [False, True, False])
    for name in ("between", "between_low", "between_high", "within", "within_low", "within_high"):
        assert np.isfinite(getattr(found, name)).all()


@pytest.mark.parametrize(
    ("observations", "labels", "error", "text"),
    [
        ([1.0, 2.0], ["a", "a"], DataError, "one group, 'a'"),
        ([1.0, 2.0], ["a", "b"], UnresolvedError, "single observation.*second observation"),
        ([1.0, np.nan, 2.0], ["a", "b", "b"], DataError, "row 1, column 0 is nan"),
        ([1.0, 2.0, 3.0], ["a", None, "b"], DataError, "missing in rows 1"),
        ([1.0, 2.0, 3.0], ["a", "b"], DataError, "2 labels for 3"),
        ([2.0, 2.0, 2.0], ["a", "b", "b"], DataError, "all observations are equal"),
        ([[1.0, 2.0]], ["a"], DataError, "by_feature"),
        ([], [], DataError, "at least one row"),
        (["x", "y", "z"], ["a", "b", "b"], DataError, "must be numbers"),
        ([1e-200, 2e-200, 3e-200], ["a", "b", "b"], DataError, "another unit"),
        ([1e200, 2e200, 3e200], ["a", "b", "b"], DataError, "another unit"),
    ],
)
def test_bad_input_says_what_and_where(observations, labels, error, text: str) -> None:
    """Every misuse raises a typed error with the place."""
    with pytest.raises(error, match=text):
        variance_components(observations, labels)


def test_level_must_be_a_probability() -> None:
    """Percentages are refused."""
    with pytest.raises(DataError, match="level is 95"):
        variance_components([1.0, 2.0, 3.0], ["a", "b", "b"], level=95)
