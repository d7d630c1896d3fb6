"""Shares of two crossed factors and their permutation null."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import two_factor_shares
from batchsense.experiments.statistics.confounding import cramers_v

#: Where the 14 forms begin in scikit-learn's digits, inferred from the order of the rows.
FORM_STARTS = [0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667]


def one_hot(codes: np.ndarray) -> np.ndarray:
    """Indicator columns of the levels that occur."""
    return (codes[:, None] == np.unique(codes)).astype(float)


def hat(*parts: np.ndarray) -> np.ndarray:
    """Projection onto the columns, dense."""
    columns = np.hstack(parts)
    return columns @ np.linalg.pinv(columns)


def slow_shares(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Twin: four shares of squares and four of components from dense projections and traces."""
    rows = len(values)
    one, two = one_hot(first), one_hot(second)
    cells = one_hot(first * 1000 + second)
    both, full = hat(one, two), hat(cells)
    forms = [both - hat(two), both - hat(one), full - both, np.eye(rows) - full]
    squares = np.array([np.trace(values.T @ form @ values) for form in forms])
    centred = values - values.mean(axis=0)
    covariances = [one @ one.T, two @ two.T, cells @ cells.T, np.eye(rows)]
    expected = [[np.trace(form @ c) for c in covariances] for form in forms]
    components = np.linalg.solve(expected, squares)
    return np.concatenate([squares / (centred**2).sum(), components / components.sum()])


def crossed_table(seed: int, rows: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unbalanced table of three by four levels with effects of both, interaction and noise."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 3, rows), generator.integers(0, 4, rows)
    values = generator.normal(size=(3, 5))[first] + generator.normal(size=(4, 5))[second]
    values = values + generator.normal(size=(3, 4, 5))[first, second]
    return values + generator.normal(size=(rows, 5)), first, second


@pytest.mark.parametrize("seed", range(6))
def test_shares_by_the_slow_way(seed: int) -> None:
    """Shares, random shares and jackknife limits equal dense projections and traces."""
    values, first, second = crossed_table(seed)
    found = two_factor_shares(values, first, second, permutations=0, seed=0, level=0.9)
    terms = ("first", "second", "interaction", "within")

    assert found.random is not None
    fixed = [getattr(found, term).share for term in terms]
    random = [getattr(found.random, term) for term in terms]
    estimates = [interval.estimate for interval in fixed + random]
    np.testing.assert_allclose(estimates, slow_shares(values, first, second), rtol=1e-9)

    left_out = np.array(
        [slow_shares(values[k], first[k], second[k]) for k in (second != s for s in range(4))]
    )
    spread = np.sqrt(3 / 4 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    reach = [interval.high - interval.estimate for interval in fixed + random]
    np.testing.assert_allclose(reach, 2.353363 * spread, rtol=1e-6)  # t quantile .95, 3 df


def test_permutation_null_by_the_slow_way() -> None:
    """Shuffling the second factor within the first by hand gives nulls of the same law."""
    values, first, second = crossed_table(0)
    found = two_factor_shares(values, first, second, permutations=400, seed=1)
    generator = np.random.default_rng(99)
    chance = []
    for _ in range(200):
        shuffled = second.copy()
        for level in range(3):
            shuffled[first == level] = generator.permutation(second[first == level])
        chance.append(slow_shares(values, first, shuffled)[1:3])
    means, errors = np.mean(chance, axis=0), np.std(chance, axis=0) / np.sqrt(200)

    assert found.second.null_mean == pytest.approx(means[0], abs=5 * errors[0])
    assert found.interaction.null_mean == pytest.approx(means[1], abs=5 * errors[1])
    assert found.second.null_max is not None
    assert found.second.null_mean is not None
    assert found.second.null_mean < found.second.null_max < found.second.share.estimate
    assert found.second.p_value == pytest.approx(1 / 401)
    assert found.first.null_mean is None


def test_null_p_values_are_uniform() -> None:
    """Without any batch effect, p <= 0.1 comes up in a tenth of the tables."""
    generator = np.random.default_rng(5)
    first, second = np.repeat([0, 1], 12), np.tile([0, 1, 2], 8)
    small = 0
    for index in range(300):
        values = generator.normal(size=(24, 3)) + first[:, None]
        found = two_factor_shares(values, first, second, permutations=19, seed=index)
        small += found.second.p_value is not None and found.second.p_value <= 0.1

    assert abs(small / 300 - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 300)


def test_planted_components_are_recovered() -> None:
    """Random effects of variance 4, 1, 2 and 3 come back as shares of .4, .1, .2 and .3."""
    generator = np.random.default_rng(6)
    first, second = np.repeat(np.arange(12), 48), np.tile(np.repeat(np.arange(16), 3), 12)
    values = 2 * generator.normal(size=(12, 400))[first] + generator.normal(size=(16, 400))[second]
    values = values + np.sqrt(2) * generator.normal(size=(12, 16, 400))[first, second]
    values = values + np.sqrt(3) * generator.normal(size=(576, 400))

    found = two_factor_shares(values, first, second, permutations=0, seed=0).random

    assert found is not None
    for term, planted in [("first", 0.4), ("second", 0.1), ("interaction", 0.2), ("within", 0.3)]:
        assert getattr(found, term).estimate == pytest.approx(planted, abs=0.02)


def test_digits_and_their_forms() -> None:
    """The embedded real data give the published shares, null and mean-square ratios."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, digit = datasets.load_digits(return_X_y=True)
    form = np.searchsorted(FORM_STARTS, np.arange(1797), side="right") - 1

    found = two_factor_shares(pixels, digit, form, permutations=200, seed=0)

    shares = [found.first, found.second, found.interaction, found.within]
    estimates = [term.share.estimate for term in shares]
    np.testing.assert_allclose(estimates, [0.421, 0.040, 0.209, 0.330], atol=6e-4)
    assert found.second.null_mean == pytest.approx(0.0042, abs=1e-4)
    assert found.second.null_max == pytest.approx(0.0052, abs=4e-4)
    assert found.interaction.null_mean == pytest.approx(0.0379, abs=3e-4)
    assert found.interaction.null_max == pytest.approx(0.0432, abs=2e-3)
    assert found.second.share.estimate > 5 * found.second.null_mean
    assert [term.df for term in shares] == [9, 13, 117, 1657]
    random = found.random
    assert random is not None
    estimates = [random.first.estimate, random.second.estimate, random.interaction.estimate]
    np.testing.assert_allclose(estimates, [0.429, 0.017, 0.212], atol=6e-4)
    assert random.within.estimate == pytest.approx(0.341, abs=6e-4)
    assert random.second_over_interaction == pytest.approx(1.73, abs=0.01)
    assert random.interaction_over_within == pytest.approx(9.0, abs=0.05)
    assert cramers_v(form, digit) < 0.02


def test_many_features_are_compressed_without_loss() -> None:
    """With far more features than rows the answer is that of the plain sums."""
    values, first, second = crossed_table(2, rows=40)
    wide = np.hstack([values, values @ np.random.default_rng(3).normal(size=(5, 300))])

    found = two_factor_shares(wide, first, second, permutations=0, seed=0)

    expected = slow_shares(wide, first, second)
    assert found.second.share.estimate == pytest.approx(expected[1], rel=1e-9)
    assert found.interaction.share.estimate == pytest.approx(expected[2], rel=1e-9)


def test_offset_and_unit_change_nothing() -> None:
    """Shares do not depend on a common offset or unit."""
    values, first, second = crossed_table(4)
    values = values.round(3)
    plain = two_factor_shares(values, first, second, permutations=20, seed=0)
    moved = two_factor_shares(1024 * values + 1e6, first, second, permutations=20, seed=0)

    for term in ("first", "second", "interaction", "within"):
        expected = getattr(plain, term).share
        assert getattr(moved, term).share.estimate == pytest.approx(expected.estimate, rel=1e-8)
        assert getattr(moved, term).share.high == pytest.approx(expected.high, rel=1e-8)
    assert moved.second.null_mean == pytest.approx(plain.second.null_mean, rel=1e-8)


def test_one_observation_per_cell_has_no_random_shares() -> None:
    """Without replicates interaction and noise are one; the components are not offered."""
    values = np.random.default_rng(1).normal(size=(12, 2))
    first, second = np.repeat([0, 1, 2], 4), np.tile([0, 1, 2, 3], 3)

    found = two_factor_shares(values, first, second, permutations=10, seed=0)

    assert found.random is None
    assert found.within.df == 0
    assert found.within.share.estimate == 0.0


def test_two_levels_set_no_bounds() -> None:
    """A jackknife over two levels says nothing: the interval is unbounded, not narrow."""
    values, first, second = crossed_table(3)
    found = two_factor_shares(values, first, second % 2, permutations=5, seed=0)

    assert not found.second.share.bounded
    assert np.isfinite(found.second.share.estimate)


def test_nested_factors_are_refused() -> None:
    """Each batch holds one condition: the shares cannot be told apart, and the pairs are named."""
    batches = np.repeat(["May", "June", "July"], 4)
    drug = np.repeat(["no", "no", "yes"], 4)

    with pytest.raises(ConfoundedError, match="shares cannot be told apart") as caught:
        two_factor_shares(np.arange(12.0)[:, None], drug, batches, seed=0)

    assert "second July = first yes" in caught.value.aliased


@pytest.mark.parametrize(
    ("values", "first", "second", "text"),
    [
        (np.zeros((4, 1)), [0, 0, 1, 1], [0, 1, 0, 1], "all observations are equal"),
        (np.eye(4), [0, 0, 0, 0], [0, 1, 0, 1], "first has one level only, 0"),
        (np.eye(4), [0, 0, 1, 1], [0, 1, 0], "3 labels in second for 4"),
        (np.eye(4) * 1e200, [0, 0, 1, 1], [0, 1, 0, 1], "another unit"),
        (np.full((2, 1), np.nan), [0, 1], [0, 1], "row 0, column 0 is nan"),
        (np.eye(4), [0, 0, 1, None], [0, 1, 0, 1], "first are missing in rows 3"),
    ],
)
def test_bad_input_says_what_and_where(values, first, second, text: str) -> None:
    """Every misuse raises DataError with the place."""
    with pytest.raises(DataError, match=text):
        two_factor_shares(values, first, second, seed=0)


def test_progress_hears_every_shuffle() -> None:
    """Long work reports each step and the total."""
    values, first, second = crossed_table(1)
    heard: list[tuple[int, int]] = []

    two_factor_shares(
        values,
        first,
        second,
        permutations=3,
        seed=0,
        progress=lambda task, done, total: heard.append((done, total)),
    )

    assert heard == [(1, 3), (2, 3), (3, 3)]
