"""What of a wanted difference is at the same time a difference between batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments.statistics.confounding import analyse, connected_components, cramers_v


def residuals(columns: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Twin: residuals by dense least squares."""
    return columns - given @ np.linalg.lstsq(given, columns, rcond=None)[0]


def one_hot(codes: np.ndarray) -> np.ndarray:
    """All indicator columns."""
    return np.eye(codes.max() + 1)[codes]


def correlated_codes(generator: np.random.Generator, rows: int, levels: int) -> np.ndarray:
    """A condition of ``levels`` that leans on the batch, and the batch of four."""
    batches = generator.integers(0, 4, rows)
    shifted = (batches + generator.integers(0, 3, rows)) % levels
    return np.stack([shifted, batches])


@pytest.mark.parametrize("seed", range(12))
def test_r2_of_one_column_is_that_of_a_regression(seed: int) -> None:
    """For one wanted column r2 is R² of its regression on the batches, given the others."""
    generator = np.random.default_rng(seed)
    batches = one_hot(generator.integers(0, 4, 40))
    age = generator.normal(size=(40, 1)) + batches[:, :1]
    wanted = age + batches @ generator.normal(size=(4, 1)) + generator.normal(size=(40, 1))

    found = analyse(wanted, batches, age)

    base = np.hstack([np.ones((40, 1)), age])
    left = residuals(wanted, base)
    expected = 1 - (residuals(left, residuals(batches, base)) ** 2).sum() / (left**2).sum()
    assert found.r2 == pytest.approx(expected, rel=1e-10)
    assert found.pillai == pytest.approx(expected, rel=1e-10)
    assert found.vif == pytest.approx(1 / (1 - expected), rel=1e-10)
    assert found.effective_n == pytest.approx(40 * (1 - expected), rel=1e-10)
    assert (found.estimable, found.rank_lost, found.relations) == (True, 0, ())


@pytest.mark.parametrize("seed", range(12))
def test_canonical_correlations_by_the_slow_way(seed: int) -> None:
    """r2 and pillai are the extreme and the sum of eigenvalues of the classical product."""
    generator = np.random.default_rng(seed)
    conditions, batches = correlated_codes(generator, 60, 3)
    other = generator.normal(size=(60, 2))

    found = analyse(one_hot(conditions), one_hot(batches), other)

    base = np.hstack([np.ones((60, 1)), other])
    left = residuals(one_hot(conditions)[:, 1:], base)
    right = residuals(one_hot(batches)[:, 1:], base)
    cross = left.T @ right
    product = np.linalg.inv(left.T @ left) @ cross @ np.linalg.inv(right.T @ right) @ cross.T
    squares = np.sort(np.linalg.eigvals(product).real)
    assert found.r2 == pytest.approx(squares[-1], abs=1e-10)
    assert found.pillai == pytest.approx(squares.sum(), abs=1e-10)


@pytest.mark.parametrize("seed", range(8))
def test_variance_of_the_estimate_grows_by_vif(seed: int) -> None:
    """The unscaled variance of the wanted effect is that without batches times vif."""
    generator = np.random.default_rng(seed)
    drug, batches = correlated_codes(generator, 50, 2)
    ones, columns = np.ones((50, 1)), one_hot(batches)[:, 1:]

    found = analyse(drug.astype(float), one_hot(batches))

    def variance(*parts: np.ndarray) -> float:
        design = np.hstack([ones, drug[:, None].astype(float), *parts])
        return float(np.linalg.inv(design.T @ design)[1, 1])

    assert found.vif == pytest.approx(variance(columns) / variance(), rel=1e-10)


@pytest.mark.parametrize("others", [False, True])
def test_centring_destroys_exactly_the_attenuation(others: bool) -> None:
    """Noise-free effect of 1: centred within batches, the fitted effect is 1 - attenuation."""
    generator = np.random.default_rng(3)
    drug, batches = correlated_codes(generator, 80, 2)
    age = (generator.normal(size=80) + drug + batches)[:, None]
    wanted = drug[:, None].astype(float)
    centred = wanted - np.array([[wanted[batches == b].mean()] for b in batches])
    kept = [age] if others else []
    design = np.hstack([wanted, np.ones((80, 1)), *kept])

    found = analyse(wanted, one_hot(batches), age if others else None)

    left = np.linalg.lstsq(design, centred, rcond=None)[0][0, 0]
    assert found.attenuation == pytest.approx(1 - left, abs=1e-12)
    if not others:
        assert found.attenuation == pytest.approx(found.r2, abs=1e-12)


def test_attenuation_of_several_columns_is_that_of_the_worst_direction() -> None:
    """With three conditions the most entangled contrast loses r2 of its effect."""
    generator = np.random.default_rng(8)
    conditions, batches = correlated_codes(generator, 90, 3)

    found = analyse(one_hot(conditions), one_hot(batches))

    assert found.attenuation == pytest.approx(found.r2, abs=1e-12)
    assert found.r2 < found.pillai < 2 * found.r2


@pytest.mark.parametrize(
    ("share", "r2", "vif"), [(0.5, 0.0, 1.0), (0.75, 0.25, 4 / 3), (0.9, 0.64, 1 / 0.36)]
)
def test_known_two_by_two_designs(share: float, r2: float, vif: float) -> None:
    """A fraction p treated in one batch and 1 - p in an equal other one: R² = (2p - 1)²."""
    treated = round(20 * share)
    drug = np.array([1] * treated + [0] * (20 - treated) + [1] * (20 - treated) + [0] * treated)
    month = np.repeat([0, 1], 20)

    found = analyse(drug.astype(float), one_hot(month))

    assert found.r2 == pytest.approx(r2, abs=1e-12)
    assert found.vif == pytest.approx(vif)
    assert found.effective_n == pytest.approx(40 * (1 - r2))
    assert cramers_v(drug, month) == pytest.approx(math.sqrt(r2), abs=1e-12)


def test_total_confounding_is_named() -> None:
    """All treated in July: nothing is left, and the equation says so, in every coding."""
    month = np.repeat([0, 1], 5)
    for wanted, names in [
        (month[:, None], ["drug[yes]"]),
        (one_hot(month), ["drug[no]", "drug[yes]"]),
    ]:
        for columns, labels in [
            (one_hot(month), ["month[June]", "month[July]"]),
            (month[:, None], ["month[July]"]),
        ]:
            found = analyse(wanted, columns, wanted_names=names, batch_names=labels)

            assert found.aliased == ("drug[yes] = month[July]",)
            assert (found.r2, found.vif, found.effective_n) == (1.0, math.inf, 0.0)
            assert (found.attenuation, found.rank_lost, found.estimable) == (1.0, 1, False)


def test_partly_lost_condition_keeps_the_rest() -> None:
    """A and B meet in batches 1 and 2, C is alone in 3: one of two directions is lost."""
    conditions = np.array([0, 1, 0, 1, 2, 2])
    batches = np.array([0, 0, 1, 1, 2, 2])

    found = analyse(
        one_hot(conditions),
        one_hot(batches),
        wanted_names=["arm[A]", "arm[B]", "arm[C]"],
        batch_names=["day[1]", "day[2]", "day[3]"],
    )

    assert found.aliased == ("arm[C] = day[3]",)
    assert (found.rank_lost, found.r2) == (1, 1.0)
    assert found.pillai == pytest.approx(1.0)


def test_first_level_alone_gets_the_short_equation() -> None:
    """The reference level itself may be the lost one; the equation still has two terms."""
    conditions = np.array([0, 0, 1, 2, 1, 2])
    batches = np.array([0, 0, 1, 1, 2, 2])

    found = analyse(
        one_hot(conditions),
        one_hot(batches),
        wanted_names=["arm[A]", "arm[B]", "arm[C]"],
        batch_names=["day[1]", "day[2]", "day[3]"],
    )

    assert found.aliased == ("arm[A] = day[1]",)


@pytest.mark.parametrize("seed", range(30))
def test_lost_rank_and_relations_hold_in_every_row(seed: int) -> None:
    """Each equation is true for the data, and their number is the rank that is missing."""
    generator = np.random.default_rng(seed)
    batches = generator.integers(0, 6, 25)
    conditions = np.where(generator.random(25) < 0.1, generator.integers(0, 4, 25), batches % 4)
    age = generator.normal(size=(25, 1))
    wanted, columns = one_hot(conditions), one_hot(batches)
    names = {"Intercept": np.ones(25), "age": age[:, 0]}
    names |= {f"arm[{j}]": wanted[:, j] for j in range(wanted.shape[1])}
    names |= {f"day[{j}]": columns[:, j] for j in range(columns.shape[1])}

    found = analyse(
        wanted,
        columns,
        age,
        wanted_names=[n for n in names if n.startswith("arm")],
        batch_names=[n for n in names if n.startswith("day")],
        other_names=["age"],
    )

    ones = np.ones((25, 1))

    def rank(*parts: np.ndarray) -> int:
        return int(np.linalg.matrix_rank(np.hstack(parts)))

    added = rank(ones, age, columns, wanted) - rank(ones, age, columns)
    assert found.rank_lost == rank(ones, wanted) - 1 - added
    assert found.estimable == (found.rank_lost == 0)
    assert (found.r2 == 1.0) == (found.rank_lost > 0)
    groups = connected_components(conditions, batches)
    assert found.rank_lost == len(groups) - 1
    for relation in found.relations:
        terms = zip(relation.coefficients, relation.terms, strict=True)
        np.testing.assert_allclose(sum(c * names[t] for c, t in terms), 0.0, atol=1e-12)
        assert relation.dependent.startswith("arm")


@pytest.mark.parametrize(("noise", "estimable"), [(1e-7, False), (1e-3, True)])
def test_nearly_confounded_is_refused_by_name(noise: float, estimable: bool) -> None:
    """A dose that follows the batch up to one part in ten million is lost, and named."""
    month = np.repeat([0.0, 1.0], 10)
    dose = 5 * month + noise * np.random.default_rng(0).normal(size=20)

    found = analyse(dose, month, wanted_names=["dose"], batch_names=["month[July]"])

    assert found.estimable == estimable
    assert found.aliased == (() if estimable else ("dose = 5*month[July]",))
    assert math.isinf(found.vif) != estimable


def test_confounded_with_another_term_is_not_estimable_either() -> None:
    """A wanted column that repeats another kept one is lost, whatever the batches."""
    sex = np.array([0.0, 1, 0, 1, 0, 1])
    found = analyse(
        sex, one_hot(np.array([0, 0, 1, 1, 2, 2])), sex, wanted_names=["g"], other_names=["sex"]
    )

    assert found.aliased == ("g = sex",)
    assert (found.estimable, found.r2) == (False, 1.0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: analyse([1.0, 1.0], [[0.0], [1.0]]), "one level only"),
        (lambda: analyse([0.0, 1.0], [[0.0]]), "2, 1, 2 rows"),
        (lambda: analyse([0.0, np.nan], [[0.0], [1.0]]), "wanted columns: row 1"),
        (lambda: cramers_v(["a", None], ["x", "y"]), "missing in rows 1"),
        (lambda: cramers_v(["a", "b"], ["x", "x"]), "second labels have one level"),
        (lambda: cramers_v(["a", "b"], ["x"]), "2 labels against 1"),
        (lambda: connected_components([], []), "at least one"),
        (lambda: connected_components([1.0, float("nan")], [1, 2]), "missing in rows 1"),
    ],
)
def test_bad_input_says_what_and_where(call, text: str) -> None:
    """Every misuse raises DataError with the place."""
    with pytest.raises(DataError, match=text):
        call()


@pytest.mark.parametrize("seed", range(10))
def test_cramers_v_by_hand(seed: int) -> None:
    """V equals a loop over the cells."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 3, 50), generator.integers(0, 4, 50)
    chi_square = 0.0
    for i, j in itertools.product(range(3), range(4)):
        expected = (first == i).sum() * (second == j).sum() / 50
        chi_square += (((first == i) & (second == j)).sum() - expected) ** 2 / expected

    assert cramers_v(first, second) == pytest.approx(math.sqrt(chi_square / 50 / 2), rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_components_agree_with_estimable_contrasts(seed: int) -> None:
    """Two conditions are in one group iff their difference is in the span of the rows."""
    generator = np.random.default_rng(seed)
    conditions, batches = generator.integers(0, 5, 9), generator.integers(0, 6, 9)
    design = np.hstack([one_hot(conditions), one_hot(batches)])
    projection = np.linalg.pinv(design) @ design
    group_of = {
        level: index
        for index, group in enumerate(connected_components(conditions, batches))
        for level in group.conditions
    }

    for one, two in itertools.combinations(np.unique(conditions).tolist(), 2):
        contrast = np.zeros(design.shape[1])
        contrast[[one, two]] = 1.0, -1.0
        estimable = np.allclose(contrast @ projection, contrast, atol=1e-9)
        assert (group_of[one] == group_of[two]) == estimable
