"""Sheet columns as batches and factors: documented rules, typed refusals."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments import ColumnKinds, Table
from batchsense.experiments.design import read_design
from batchsense.experiments.tables import batch_factor, kept_factors

N = 12


def table(categorical=(), **columns):
    values = np.arange(2.0 * N).reshape(N, 2)
    return Table.from_arrays(values, columns, categorical=categorical)


def kinds(given, keep, **declared):
    factors, notes = kept_factors(given, [keep], "none", ColumnKinds(**declared))
    return factors[0].kind, [note.code for note in notes]


def test_batches_are_categories():
    """Batch labels that are numbers are categories, sorted by size."""
    factor = batch_factor(table(plate=[10, 9, 2] * 4), "plate")

    assert factor.levels == ("2", "9", "10")
    assert factor.codes.tolist() == [2, 1, 0] * 4


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["no", "yes"] * 6, ("categorical", [])),
        ([0, 1] * 6, ("categorical", [])),
        ([0, 1, 2] * 4, ("categorical", ["kind_assumed"])),
        ([1, 2, 3, 4, 5, 6] * 2, ("categorical", ["kind_assumed"])),
        ([1, 2, 3, 4, 5, 6, 7] + [1] * 5, ("numeric", ["kind_assumed"])),
        ([0.5, 1, 2] * 4, ("numeric", ["kind_assumed"])),
        ([21, 35, 40, 52, 60, 61, 70, 77] + [21] * 4, ("numeric", [])),
        ([0.5, 1.5] * 6, ("numeric", [])),
        (list(range(N)), ("numeric", [])),
        (["1", "2", "x"] * 4, ("categorical", [])),
    ],
)
def test_kind_rule(labels, expected):
    """Text: categories; numbers: numbers; few whole numbers: categories with a note."""
    assert kinds(table(dose=labels), "dose") == expected


def test_declared_kinds():
    """A declaration by the user or by the file settles the kind without a note."""
    few = table(dose=[0, 1, 2] * 4)

    assert kinds(few, "dose", numeric=["dose"]) == ("numeric", [])
    assert kinds(few, "dose", categorical=["dose"]) == ("categorical", [])
    assert kinds(table(["dose"], dose=[0, 1, 2] * 4), "dose") == ("categorical", [])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["31,5", "40,0", "52"] * 4, "its numbers have commas"),
        (["31.5", "40", "52", "60", "unknown", "<5"] * 2, "all but '<5', 'unknown' are numbers"),
        (["31", "32", "33", "inf"] * 3, "all but 'inf' are numbers"),
    ],
)
def test_numbers_that_are_nearly_so(labels, says):
    """Numbers with commas, or with a few words among them, become categories with a note only."""
    (factor,), (note,) = kept_factors(table(age=labels), ["age"], "none")

    assert factor.kind == "categorical"
    assert note.code == "kind_assumed"
    assert says in note.message
    assert kinds(table(age=labels), "age", categorical=["age"]) == ("categorical", [])
    with pytest.raises(DataError, match="not a number"):
        kinds(table(age=labels), "age", numeric=["age"])


def test_numbers_with_commas_that_all_differ():
    """Where every specimen has its own, the refusal says what keeps them from being numbers."""
    given = table(age=[f"{30 + i},5" for i in range(N)])
    with pytest.raises(DataError, match=r"level of its own .*write them with a point"):
        kinds(given, "age")


@pytest.mark.parametrize(
    "labels",
    [
        ["May", "may"],
        ["M\u00e9", "Me\u0301"],
        ["May", "May\u200b"],
        ["plate 1", "plate  1"],
        ["1", "1.0"],
        ["01", "1"],
        ["1e3", "1000"],
        ["TRUE", "True"],
    ],
)
@pytest.mark.parametrize("column", ["month", "drug"])
def test_labels_that_look_alike_are_noted(labels, column):
    """Labels that a reader takes for the same count as different, and that is said."""
    other = {"month": "drug", "drug": "month"}[column]
    given = table(**{column: [*labels, "7"] * 4, other: ["a", "a", "a", "b", "b", "b"] * 2})
    notes = [
        n for n in read_design(given, "month", ["drug"]).notes if n.code == "look_alike_labels"
    ]

    assert [set(note.where) for note in notes] == [set(labels)]
    assert repr(column) in notes[0].message
    assert "7" not in notes[0].where


def test_design_columns():
    """A categorical factor gives an indicator per level but the first, named by level."""
    (factor,), _ = kept_factors(table(drug=["a", "b", "c"] * 4), ["drug"], "none")
    columns, names = factor.design()

    assert names == ("drug[b]", "drug[c]")
    assert columns[:3].tolist() == [[0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([1] * N, "one batch only"),
        ([f"b{i}" for i in range(N)], "batch of its own for each specimen"),
        ([1, None] * 6, "no label for 'specimen 2'"),
    ],
)
def test_batches_that_cannot_be_used(labels, says):
    """One batch, one specimen per batch everywhere, or a missing label: refused."""
    with pytest.raises(DataError, match=says):
        batch_factor(table(plate=labels), "plate")


@pytest.mark.parametrize(
    ("keep", "declared", "says"),
    [
        (["drgu"], {}, r"no column 'drgu'; did you mean 'drug'\? Columns: drug, age"),
        (["zzz"], {}, r"no column 'zzz'; Columns: drug, age"),
        (["drug", "drug"], {}, "kept twice"),
        (["plate"], {}, "both the batch and kept"),
        (["one"], {}, "one value only"),
        (["id"], {}, "level of its own for each specimen"),
        (["hole"], {}, "no label for 'specimen 1'"),
        (["drug"], {"numeric": ["drug"]}, "'no', not a number"),
        (["drug"], {"numeric": ["age"]}, "age.*which is not kept"),
        (["age"], {"numeric": ["age"], "categorical": ["age"]}, "categorical and numeric"),
        (["one"], {"numeric": ["one"]}, "one value only"),
    ],
)
def test_factors_that_cannot_be_used(keep, declared, says):
    """Each way in which a kept column can be wrong is named."""
    given = table(
        drug=["no", "yes"] * 6,
        age=[30.5, 40] * 6,
        plate=[1, 2] * 6,
        one=[5] * N,
        id=[f"s{i}" for i in range(N)],
        hole=[None, "x"] * 6,
    )
    with pytest.raises(DataError, match=says):
        kept_factors(given, keep, "plate", ColumnKinds(**declared))
