"""Relabelling groups or reordering rows changes no number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batchsense.experiments import (
    two_factor_shares,
    variance_components,
    variance_components_by_feature,
)
from batchsense.experiments.statistics.confounding import analyse, connected_components, cramers_v
from batchsense.variation import Interval, factor

LAW = settings(derandomize=True, deadline=None, max_examples=60)
seeds = st.integers(0, 2**32 - 1)


def one_hot(codes: np.ndarray) -> np.ndarray:
    """Indicator columns of levels 0 to the largest."""
    return np.eye(int(codes.max()) + 1)[codes]


def numbers(result: object) -> np.ndarray:
    """All numbers of a result, intervals unpacked."""
    found: list[float] = []
    for field in dataclasses.fields(result):  # type: ignore[arg-type]
        value = getattr(result, field.name)
        if isinstance(value, Interval):
            found += [value.estimate, value.low, value.high]
        elif dataclasses.is_dataclass(value):
            found += numbers(value).tolist()
        elif isinstance(value, int | float):
            found.append(float(value))
    return np.array(found)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Observations of two features in up to five groups, at least one with two rows."""
    generator = np.random.default_rng(draw(seeds))
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=5))
    assume(max(sizes) > 1)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    values = generator.normal(size=(len(labels), 2)) + generator.normal(size=(5, 2))[labels]
    return values, labels, generator


@LAW
@given(labelled(), st.permutations(range(5)))
def test_components_know_neither_names_nor_order(table, names) -> None:
    """Variance components are the same under new labels and permuted rows."""
    values, labels, generator = table
    order = generator.permutation(len(labels))
    renamed = np.array([f"group {name}" for name in names])[labels]

    plain = variance_components(values[:, 0], labels)
    other = variance_components(values[order, 0], renamed[order])

    np.testing.assert_allclose(numbers(other), numbers(plain), rtol=1e-9, atol=1e-10)


@LAW
@given(labelled(), st.floats(0.01, 100.0), st.floats(-1e6, 1e6))
def test_components_follow_units(table, unit, offset) -> None:
    """Variances scale with the square of the unit; ICC and F do not move; offsets do nothing."""
    values, labels, _ = table
    plain = variance_components_by_feature(values, labels)
    moved = variance_components_by_feature(unit * values + offset, labels)

    for name in ("between", "between_low", "between_high", "within", "within_low", "within_high"):
        expected = unit**2 * getattr(plain, name)
        scale = unit**2 * np.maximum(plain.within, np.abs(plain.between))
        assert (np.abs(getattr(moved, name) - expected) <= 1e-5 * (np.abs(expected) + scale)).all()
    for name in ("icc", "icc_low", "icc_high"):
        np.testing.assert_allclose(getattr(moved, name), getattr(plain, name), atol=1e-5)


@LAW
@given(labelled())
def test_features_do_not_influence_each_other(table) -> None:
    """A feature alone and among others has the same components."""
    values, labels, _ = table
    together = variance_components_by_feature(values, labels)
    alone = variance_components_by_feature(values[:, 1:], labels)

    for name in ("between", "between_low", "between_high", "icc", "icc_low", "icc_high"):
        expected = getattr(alone, name)[0]
        np.testing.assert_allclose(getattr(together, name)[1], expected, rtol=1e-9, atol=1e-12)


@st.composite
def sheets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Conditions and batches of one experiment, some of them entangled."""
    generator = np.random.default_rng(draw(seeds))
    rows = draw(st.integers(6, 30))
    batches = generator.integers(0, draw(st.integers(2, 5)), rows)
    mixing = draw(st.sampled_from([0.0, 0.2, 1.0]))
    free = generator.integers(0, 3, rows)
    conditions = np.where(generator.random(rows) < mixing, free, batches % 3)
    assume(len(np.unique(conditions)) > 1)
    assume(len(np.unique(batches)) > 1)
    return conditions, batches, generator


@LAW
@given(sheets())
def test_confounding_knows_neither_names_nor_order(sheet) -> None:
    """All confounding numbers are the same under relabelling and permutation of the rows."""
    conditions, batches, generator = sheet
    order = generator.permutation(len(batches))
    new_conditions = generator.permutation(3)[conditions][order]
    new_batches = generator.permutation(5)[batches][order]
    age = generator.normal(size=(len(batches), 1))

    plain = analyse(one_hot(conditions), one_hot(batches), age)
    other = analyse(one_hot(new_conditions), one_hot(new_batches), age[order])

    np.testing.assert_allclose(numbers(other), numbers(plain), rtol=1e-7, atol=1e-9)
    assert other.estimable == plain.estimable
    association = cramers_v(conditions, batches)
    for other in (cramers_v(new_conditions, new_batches), cramers_v(batches, conditions)):
        assert other == pytest.approx(association, rel=1e-10, abs=1e-12)


@LAW
@given(sheets())
def test_confounding_does_not_depend_on_the_coding(sheet) -> None:
    """All dummies, reference coding and any mixture of columns of the same span agree."""
    conditions, batches, generator = sheet
    whole = analyse(one_hot(conditions), one_hot(batches))
    mixture = generator.normal(size=(int(batches.max()) + 1,) * 2)
    coded = analyse(one_hot(conditions)[:, 1:], one_hot(batches) @ mixture)

    if len(np.unique(conditions)) == conditions.max() + 1:
        np.testing.assert_allclose(numbers(coded), numbers(whole), rtol=1e-5, atol=1e-8)


@LAW
@given(sheets())
def test_components_of_the_graph_are_a_partition(sheet) -> None:
    """Every condition and batch is in exactly one group, whatever the order of the rows."""
    conditions, batches, generator = sheet
    groups = connected_components(conditions, batches)
    order = generator.permutation(len(batches))

    assert connected_components(conditions[order], batches[order]) == groups
    members = sorted(level for group in groups for level in group.conditions)
    assert members == np.unique(conditions).tolist()
    members = sorted(level for group in groups for level in group.batch_labels)
    assert members == np.unique(batches).tolist()


@LAW
@given(sheets())
def test_linear_knows_neither_row_order_nor_units(sheet) -> None:
    """Permuted rows and rescaled columns leave rank, relations and fits as they are."""
    conditions, batches, generator = sheet
    rows = len(batches)
    order = generator.permutation(rows)
    design = np.hstack([np.ones((rows, 1)), one_hot(batches), one_hot(conditions)])
    responses = generator.normal(size=(rows, 3))
    units = 2.0 ** generator.integers(-20, 20, design.shape[1])

    plain = factor(design).fit(responses)
    other = factor((design * units)[order]).fit(responses[order])

    assert other.factor.rank == plain.factor.rank
    assert other.factor.aliased == plain.factor.aliased
    assert [r.terms for r in other.factor.relations] == [r.terms for r in plain.factor.relations]
    np.testing.assert_allclose(other.fitted, plain.fitted[order], atol=1e-9)
    np.testing.assert_allclose(
        other.residual_sum_of_squares, plain.residual_sum_of_squares, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        other.coefficients * units[:, None], plain.coefficients, rtol=1e-7, atol=1e-9
    )


@LAW
@given(sheets())
def test_aliased_terms_do_not_depend_on_the_column_order(sheet) -> None:
    """Which columns are entangled is a fact of the design; only the left side is a choice."""
    conditions, batches, generator = sheet
    design = np.hstack([np.ones((len(batches), 1)), one_hot(batches), one_hot(conditions)])
    names = [f"c{j}" for j in range(design.shape[1])]
    order = generator.permutation(len(names))

    plain = factor(design, names)
    other = factor(design[:, order], [names[j] for j in order])

    assert set(other.aliased) == set(plain.aliased)
    assert len(other.relations) == len(plain.relations)


@LAW
@given(seeds)
def test_crossed_shares_know_neither_names_nor_order(seed) -> None:
    """Shares and degrees of freedom are the same under relabelling and permutation of the rows."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 3, 40), generator.integers(0, 4, 40)
    values = generator.normal(size=(40, 3)) + first[:, None]
    order = generator.permutation(40)
    new_first = np.array(["x", "a", "m"])[first][order]
    new_second = generator.permutation(4)[second][order]

    plain = two_factor_shares(values, first, second, permutations=0, seed=0)
    other = two_factor_shares(values[order], new_first, new_second, permutations=0, seed=0)

    np.testing.assert_allclose(numbers(other), numbers(plain), rtol=1e-9, atol=1e-12)
