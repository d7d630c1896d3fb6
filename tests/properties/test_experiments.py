"""What a diagnosis, a correction and a test say does not hang on order, names, units or layout."""

from __future__ import annotations

import dataclasses
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from batchsense.experiments import (
    ColumnKinds,
    CombatCorrection,
    LinearCorrection,
    Table,
    diagnose,
    read,
    testing,
    write,
)
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.by_feature import shares_by_feature

LAW = settings(
    derandomize=True,
    deadline=None,
    max_examples=5,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
KEEP, KINDS = ("drug", "age"), {"categorical": ("drug",), "numeric": ("age",)}
METHODS = (LinearCorrection(keep=KEEP, **KINDS), CombatCorrection(keep=KEEP, **KINDS))
FEATURES = 8


@dataclasses.dataclass
class Experiment:
    """Values and sheet as arrays, and a source of chance for what is done to them."""

    values: np.ndarray
    month: np.ndarray
    drug: np.ndarray
    age: np.ndarray
    chance: np.random.Generator

    def table(self) -> Table:
        """Make a table."""
        n, features = self.values.shape
        sheet = {"month": self.month, "drug": self.drug, "age": self.age}
        names = [f"g{j}" for j in range(features)]
        return Table.from_arrays(self.values, sheet, [f"s{i}" for i in range(n)], names)

    def rows(self, order: np.ndarray) -> Experiment:
        """Take specimens in another order."""
        parts = (getattr(self, name)[order] for name in ("values", "month", "drug", "age"))
        return Experiment(*parts, self.chance)

    def with_values(self, values: np.ndarray) -> Experiment:
        """Give the same specimens other values."""
        return dataclasses.replace(self, values=values)


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Draw an unbalanced experiment in which everything can be estimated."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    months, drugs = draw(st.integers(2, 4)), draw(st.integers(2, 3))
    n = draw(st.integers(6 * months, 30))
    month = np.append(np.repeat(np.arange(months), 3), chance.integers(months, size=n - 3 * months))
    drug = np.where(chance.random(n) < 0.3, month % drugs, chance.integers(drugs, size=n))
    age = chance.normal(50, 10, size=n)
    batches, arms = np.eye(months)[month], np.eye(drugs)[drug]
    columns = np.hstack([batches, arms[:, 1:], (age - 50)[:, None]])
    assume(np.linalg.matrix_rank(columns) == columns.shape[1] and arms.sum(axis=0).min() > 1)
    values = chance.normal(size=(n, FEATURES)) * chance.uniform(0.5, 2, size=months)[month, None]
    values += batches @ chance.normal(size=(months, FEATURES)) + 0.05 * age[:, None]
    labels = np.array(["May", "June", "July", "August"]), np.array(["none", "low", "high"])
    return Experiment(values, labels[0][month], labels[1][drug], age, chance)


def corrected(given: Experiment) -> list[np.ndarray]:
    """Correct by each method."""
    table = given.table()
    return [method.fit(table, "month").transform(table).values for method in METHODS]


def diagnosed(given: Experiment) -> np.ndarray:
    """Give the shares by feature, one row for each number."""
    table = given.table()
    found = shares_by_feature(table, read_design(table, "month", KEEP, ColumnKinds(**KINDS)))
    terms = [number for one in found.terms for number in (one.share, one.low, one.high, one.raw)]
    return np.array([*terms, found.shared, found.residual])


def overall(given: Experiment) -> np.ndarray:
    """Give the numbers of a whole diagnosis that no permutation enters."""
    found = diagnose(given.table(), "month", KEEP, permutations=20, kinds=ColumnKinds(**KINDS))
    shares = [found.batch_share, found.joint_share, *(one.share for one in found.kept)]
    numbers = [n for one in shares for n in (one.raw, one.share.estimate, one.share.high)]
    for one in found.kept:
        confounding = one.entanglement.confounding
        numbers += [confounding.r2, confounding.vif, confounding.effective_n, confounding.pillai]
        numbers += [one.alone, confounding.attenuation, one.entanglement.cramers_v or 0.0]
    return np.array([*numbers, found.batch_alone, found.shared, found.component.component.estimate])


def compared(given: Experiment, **options: bool) -> np.ndarray:
    """Give what tests say whatever the levels are called: the slope of age, p of the drug."""
    found = testing.test(
        given.table(),
        KEEP,
        "month",
        options=testing.ContrastOptions(**options),
        kinds=ColumnKinds(**KINDS),
    )
    age = next(one for one in found.effects if one.contrast.factor == "age")
    joint = found.factors[0].p_value if found.factors else found.effects[0].p_value
    return np.array([age.t, age.p_value, age.q_value, joint])


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Compare number by number."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@LAW
@given(experiments())
def test_the_order_of_specimens(plain) -> None:
    """Permuted specimens: permuted corrections, the same diagnosis, the same tests."""
    order = plain.chance.permutation(len(plain.values))
    other = plain.rows(order)

    assert_same(corrected(other), [values[order] for values in corrected(plain)])
    assert_same(
        [diagnosed(other), overall(other), compared(other)],
        [diagnosed(plain), overall(plain), compared(plain)],
    )


@LAW
@given(experiments(), st.permutations(["7", "x y", "10", "é"]), st.permutations(["b", "a", "c"]))
def test_the_names_of_levels(plain, months, drugs) -> None:
    """Months and drugs under other names, sorted differently: nothing changes."""
    month = dict(zip(["May", "June", "July", "August"], months, strict=True))
    drug = dict(zip(["none", "low", "high"], drugs, strict=True))
    renamed = np.array([month[m] for m in plain.month]), np.array([drug[d] for d in plain.drug])
    other = dataclasses.replace(plain, month=renamed[0], drug=renamed[1])

    assert_same(corrected(other), corrected(plain))
    assert_same(
        [diagnosed(other), overall(other), compared(other)],
        [diagnosed(plain), overall(plain), compared(plain)],
    )


@LAW
@given(experiments())
def test_the_order_of_features(plain) -> None:
    """Permuted features: permuted answers."""
    order = plain.chance.permutation(FEATURES)
    other = plain.with_values(plain.values[:, order])

    assert_same(corrected(other), [values[:, order] for values in corrected(plain)])
    assert_same(
        [diagnosed(other), overall(other), compared(other)],
        [diagnosed(plain)[:, order], overall(plain), compared(plain)[:, order]],
    )


@LAW
@given(experiments(), st.floats(0.01, 100), st.floats(-1e4, 1e4), st.integers(0, FEATURES - 1))
def test_the_unit_of_a_feature(plain, unit, zero, feature) -> None:
    """A feature in another unit, from another zero: corrected likewise; all else as it was."""
    units, zeros = np.ones(FEATURES), np.zeros(FEATURES)
    units[feature], zeros[feature] = unit, zero
    other = plain.with_values(plain.values * units + zeros)

    for found, expected in zip(corrected(other), corrected(plain), strict=True):
        np.testing.assert_allclose((found - zeros) / units, expected, rtol=1e-6, atol=1e-6)
    alone = {"shrink": False}
    np.testing.assert_allclose(diagnosed(other), diagnosed(plain), atol=1e-5)
    np.testing.assert_allclose(
        compared(other, **alone), compared(plain, **alone), rtol=1e-5, atol=1e-8
    )


@LAW
@given(experiments(), st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_the_unit_of_a_kept_number(plain, unit, zero) -> None:
    """Age in months from another year: the same corrections, diagnosis and tests."""
    other = dataclasses.replace(plain, age=plain.age * unit + zero)

    assert_same(corrected(other), corrected(plain))
    assert_same(
        [diagnosed(other), overall(other), compared(other)],
        [diagnosed(plain), overall(plain), compared(plain)],
    )


@LAW
@given(experiments(), st.lists(st.integers(1, 29), max_size=4))
def test_parts_in_any_order(plain, cuts) -> None:
    """Split over chunks that may lack months, merged in any order: what one pass gives."""
    order = plain.chance.permutation(len(plain.values))
    pieces = [p for p in np.split(order, sorted(c for c in cuts if c < len(order))) if len(p) > 1]
    whole = plain.rows(np.concatenate(pieces))
    names = [f"s{i}" for i in range(len(order))]
    tables = []
    for piece in pieces:
        part = plain.rows(piece)
        sheet = {"month": part.month, "drug": part.drug, "age": part.age}
        tables.append(Table.from_arrays(part.values, sheet, [names[i] for i in piece]))
    joined = Table.from_arrays(
        whole.values,
        {"month": whole.month, "drug": whole.drug, "age": whole.age},
        [names[i] for i in np.concatenate(pieces)],
    )
    if len(set(whole.month)) < 2 or min(np.unique(whole.month, return_counts=True)[1]) < 2:
        return
    for method in METHODS:
        gathered = [method.gather(table, "month") for table in tables]
        plain.chance.shuffle(gathered)
        merged = method.finish(reduce(lambda one, other: one.merge(other), gathered))
        expected = method.fit(joined, "month").transform(joined).values
        np.testing.assert_allclose(merged.transform(joined).values, expected, atol=1e-8)


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz"])
@settings(LAW, max_examples=5)
@given(plain=experiments())
def test_the_orientation_of_a_file(tmp_path: Path, suffix: str, plain: Experiment) -> None:
    """Features × specimens in another order: the same answers, and a result that lies likewise."""
    table = plain.table()
    order = plain.chance.permutation(len(plain.values))
    lines = ["id,month,drug,age"]
    lines += [f"s{i},{plain.month[i]},{plain.drug[i]},{float(plain.age[i])!r}" for i in order]
    (tmp_path / "sheet.csv").write_text("\n".join(lines))
    upright = dataclasses.replace(table.source, corner="id")
    lying = dataclasses.replace(upright, orientation="features × specimens")
    for name, source in (("upright", upright), ("lying", lying)):
        where = tmp_path / (name + suffix)
        write(dataclasses.replace(table, source=source), table.values, where)
    tables = [
        read(tmp_path / (name + suffix), tmp_path / "sheet.csv") for name in ("upright", "lying")
    ]

    assert [one.orientation for one in tables] == [upright.orientation, lying.orientation]
    assert tables[0].specimens == tables[1].specimens == table.specimens
    for one in tables:
        assert np.array_equal(one.values, table.values)
        assert one.sheet["month"] == table.sheet["month"]
    again = tmp_path / ("again" + suffix)
    write(tables[1], tables[1].values * 2, again)
    assert np.array_equal(read(again, tmp_path / "sheet.csv").values, 2 * table.values)
    assert read(again, tmp_path / "sheet.csv").orientation == lying.orientation
