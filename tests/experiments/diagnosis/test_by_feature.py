"""Shares feature by feature: the same numbers as for one feature alone, and they add up."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.experiments import Table, plant
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.by_feature import shares_by_feature
from batchsense.experiments.diagnosis.shares import share_of_variance
from batchsense.questions.diagnose.feature_table import feature_table


@pytest.fixture(scope="module")
def table():
    """Give an uneven experiment with age, one feature incomplete and one constant."""
    planted = plant(specimens=30, features=9, treated_share=0.7, seed=3).table
    values = planted.values.copy()
    values[4, 2], values[:, 5] = np.nan, 1.5
    age = np.random.default_rng(1).normal(50, 9, 30)
    return Table.from_arrays(values, {**planted.sheet, "age": age})


def test_equals_the_shares_of_one_feature(table):
    """Share, interval and raw share equal share_of_variance on each feature by itself."""
    design = read_design(table, "month", ["drug", "age"])
    found = shares_by_feature(table, design)
    batches, wanted = design.batches.indicators(), design.wanted()[0]
    parts = [
        (batches, wanted),
        (design.kept[0].design()[0], np.hstack([design.wanted("drug")[0], batches])),
        (design.kept[1].design()[0], np.hstack([design.wanted("age")[0], batches])),
        (design.interaction()[1], np.hstack([wanted, batches])),
    ]

    assert [term.name for term in found.terms] == ["month", "drug", "age", "month × (drug, age)"]
    for j in (0, 1, 3, 8):
        for term, (columns, others) in zip(found.terms, parts, strict=True):
            rng = np.random.default_rng(0)
            alone = share_of_variance(table.values[:, [j]], columns, others, rng, 1)
            assert term.raw[j] == pytest.approx(alone.raw, abs=1e-10)
            assert term.share[j] == pytest.approx(alone.share.estimate, abs=1e-10)
            assert term.low[j] == pytest.approx(alone.share.low, abs=1e-7)
            assert term.high[j] == pytest.approx(alone.share.high, abs=1e-7)


def test_everything_adds_up_to_one(table):
    """Unique parts, what is shared and the residual add up to 1; only reasons have no numbers."""
    found = shares_by_feature(table, read_design(table, "month", ["drug", "age"]))
    usable = np.array([not reason for reason in found.reasons])
    total = sum(term.raw for term in found.terms) + found.shared + found.residual_raw

    assert [found.reasons[2], found.reasons[5]] == ["missing values", "constant"]
    assert usable.sum() == 7
    np.testing.assert_allclose(total[usable], 1.0, atol=1e-10)
    assert np.isnan(total[~usable]).all()
    for one in (found.residual, found.residual_low, found.residual_high, found.component):
        assert np.isfinite(one[usable]).all()
    assert (found.residual_low <= found.residual)[usable].all()
    assert (found.residual <= found.residual_high)[usable].all()


def test_units_change_only_the_component(table):
    """A feature in other units has the same shares; its variance component grows by the square."""
    design = read_design(table, "month", ["drug"])
    other = Table.from_arrays(1000 * table.values + 7, table.sheet)
    one, two = shares_by_feature(table, design), shares_by_feature(other, design)

    np.testing.assert_allclose(one.terms[0].low, two.terms[0].low, atol=1e-9)
    np.testing.assert_allclose(1e6 * one.component, two.component, rtol=1e-6)


def test_effects_without_noise_are_exact():
    """A feature that is the batch: share 1, an interval without width, p 0, nothing left."""
    month = np.repeat(["a", "b"], 6)
    values = np.column_stack([2.0 * (month == "a"), np.random.default_rng(0).normal(size=12)])
    table = Table.from_arrays(values, {"month": month})
    found = shares_by_feature(table, read_design(table, "month"))

    assert (found.terms[0].low[0], found.terms[0].share[0]) == pytest.approx((1.0, 1.0))
    assert found.residual[0] == pytest.approx(0.0, abs=1e-12)


def test_no_degree_of_freedom():
    """Without residual degrees of freedom it is refused, with what would help."""
    table = Table.from_arrays(
        np.random.default_rng(0).normal(size=(3, 2)),
        {"month": ["May", "May", "July"], "drug": ["no", "yes", "no"]},
    )
    with pytest.raises(UnresolvedError, match="one more specimen"):
        shares_by_feature(table, read_design(table, "month", ["drug"]))


def test_the_table_reads_back(table):
    """The text has a header, a row for each feature, full precision, and a reason for each gap."""
    found = shares_by_feature(table, read_design(table, "month", ["drug"]))
    rows = list(csv.DictReader(feature_table(found).splitlines(), delimiter="\t"))

    assert [row["feature"] for row in rows] == list(table.features)
    assert float(rows[0]["month share"]) == found.terms[0].share[0]
    assert float(rows[8]["residual high"]) == found.residual_high[8]
    assert (rows[2]["month p"], rows[2]["reason"]) == ("", "missing values")
    assert all(row["reason"] or all(list(row.values())[:-1]) for row in rows)
