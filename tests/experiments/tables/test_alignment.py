"""The ids tell which axis holds the specimens; nothing is matched by position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsense.errors import DataError
from batchsense.experiments.tables import align

GENES = ("g1", "g2", "g3")
SHEET = {"id": ("s3", "s1", "s2"), "month": ("May", "June", "May")}


def test_either_axis():
    """Specimens in rows or in columns are both found, in the order of the matrix."""
    for axis, found in (
        ("row", align(("s1", "s2", "s3"), GENES, SHEET)),
        ("column", align(GENES, ("s1", "s2", "s3"), SHEET)),
    ):
        assert (found.axis, found.sheet_rows, found.notes) == (axis, (1, 2, 0), ())


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_order_does_not_matter(matrix_order, sheet_order):
    """However rows are shuffled, each specimen gets its own row of the sheet."""
    specimens = tuple(f"s{i}" for i in matrix_order)
    entries = tuple(f"s{i}" for i in sheet_order)
    found = align(specimens, GENES, {"id": entries})

    assert tuple(entries[row] for row in found.sheet_rows) == specimens


def test_spare_sheet_rows_are_noted():
    """Rows of the sheet without a specimen are left out, and said so."""
    found = align(("s1", "s2"), GENES, SHEET)

    assert found.sheet_rows == (1, 2)
    assert [note.code for note in found.notes] == ["sheet_rows_left_out"]
    assert found.notes[0].where == ("s3",)


def test_id_column_by_contents():
    """If the first column does not match, the only matching one is taken, with a note."""
    sheet = {"number": ("1", "2"), "name": ("s1", "s2"), "month": ("May", "May")}
    found = align(("s1", "s2"), GENES, sheet)

    assert found.id_column == "name"
    assert [note.code for note in found.notes] == ["id_column"]


def test_named_id_column_wins():
    """--id chooses the column, even where the first would match."""
    sheet = {"id": ("s1", "s2"), "other": ("s2", "s1")}

    assert align(("s1", "s2"), GENES, sheet, "other").sheet_rows == (1, 0)


@pytest.mark.parametrize(
    ("rows", "columns", "sheet", "says"),
    [
        (("a", "b", "c", "d"), ("e", "f"), SHEET, r"no id .*'a', 'b', 'c' and 1 more.*'e', 'f'"),
        (("s1", "s2", "x"), GENES, SHEET, r"2 of 3 row ids .* not 'x' \(in the sheet only: 's3'\)"),
        (("s1", "s2"), ("s2", "s1"), SHEET, "match the rows and the columns"),
        (("s1", "s1"), GENES, SHEET, "row ids occur more than once: 's1'"),
        (("s1", " s1"), GENES, SHEET, "row ids occur more than once"),
        (("s1", "s2"), ("g", "g"), SHEET, "column ids occur more than once: 'g'"),
        (("s1", "s2"), GENES, {"id": ("s1", "s2", "s1")}, r"'s1' \(rows 2 and 4\)"),
        (
            ("s1", "s2"),
            GENES,
            {"n": ("1", "2"), "a": ("s1", "s2"), "b": ("s2", "s1")},
            "several columns that match .*'a', 'b'",
        ),
    ],
)
def test_refusals(rows, columns, sheet, says):
    """Neither axis, a part of one, both, or ids twice: refused with the ids concerned."""
    with pytest.raises(DataError, match=says):
        align(rows, columns, sheet)
