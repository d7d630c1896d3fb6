"""Workbooks as matrices and sheets: what openpyxl reads, at the cost of what is there."""

from __future__ import annotations

import datetime
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments import correct, read, write
from batchsense.experiments.tables import workbook
from batchsense.experiments.tables.text import label_text
from batchsense.experiments.tables.workbook.cells import Found, filled_rows
from batchsense.experiments.tables.workbook.package import opened, read_book

openpyxl = pytest.importorskip("openpyxl")

HEADER = ["id", "s1", "s2", "s3", "s4"]
ROWS = [["g1", 1.5, 2, None, -3e-7], ["g2", 0.1, "NA", "7.25", 4]]
WANTED = [[1.5, 2, np.nan, -3e-7], [0.1, np.nan, 7.25, 4]]


def save(path, rows, change=None):
    """Write a workbook, changed by a function."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if change is not None:
        change(book.active)
    book.save(path)
    return path


def repacked(path, part, change):
    """Write a part of a workbook anew."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = change(parts[part])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


SHEET1 = "xl/worksheets/sheet1.xml"


def random_value(chance):
    """Anything that a cell can hold, with a format that may make a date of it."""
    day = datetime.datetime(1900, 3, 1) + datetime.timedelta(days=chance.randrange(60_000))
    return chance.choice(
        [
            None,
            chance.randrange(-99, 10**6),
            chance.gauss(0, 1),
            chance.gauss(0, 1) * 10.0 ** chance.randrange(-30, 30),
            chance.choice([" a ", "é, <b> & 'c'", "x\ny", "_x", "1.0", "NA", "五月"]),
            chance.random() < 0.5,
            day,
            day.date(),
            day + datetime.timedelta(seconds=chance.randrange(86_400)),
            datetime.time(chance.randrange(24), 30),
        ]
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_cells_are_those_of_openpyxl(tmp_path, seed):
    """Every kind of value reads as another reader has it, in its place."""
    chance = random.Random(seed)
    path = tmp_path / "b.xlsx"
    formats = [
        "General",
        "0.00",
        "0%",
        '0.0" days"',
        "[Red]0",
        "mmm-yy",
        "yyyy/mm/dd",
        "#,##0 [$€]",
    ]

    def change(sheet):
        for _ in range(60):
            place = chance.randrange(1, 40), chance.randrange(1, 40)
            cell = sheet.cell(*place, random_value(chance))
            if isinstance(cell.value, int | float):
                days = 0 <= cell.value < 2e6
                cell.number_format = chance.choice(formats) if days else "General"

    save(path, [], change)
    wanted = {
        (cell.row, cell.column): label_text(cell.value)
        for row in openpyxl.load_workbook(path).active.iter_rows()
        for cell in row
        if cell.value is not None and str(cell.value).strip()
    }
    with opened(path) as archive:
        book = read_book(archive)
        rows = list(filled_rows(archive, book, book.worksheets[0], Found()))
    found = {
        (row, place): label_text(value) for row, cells in rows for place, value in cells.items()
    }
    midnight = {key: (text or "").removesuffix("T00:00:00") or None for key, text in wanted.items()}

    assert midnight == found


def test_a_matrix(tmp_path):
    """Ids and numbers; empty cells and NA are missing, texts of digits are numbers."""
    for change in (None, lambda sheet: sheet.insert_rows(1, 2), lambda sheet: sheet.insert_cols(1)):
        raw = workbook.read_matrix(save(tmp_path / "m.xlsx", [HEADER, *ROWS], change))

        assert np.array_equal(raw.values, WANTED, equal_nan=True)
        assert (raw.corner, raw.row_ids) == ("id", ("g1", "g2"))
        assert raw.column_ids == ("s1", "s2", "s3", "s4")


def test_matrix_and_sheet_in_one_workbook(tmp_path):
    """Each is named as FILE.xlsx#NAME; the result is text, and a workbook is not written."""
    book = openpyxl.Workbook()
    book.active.title = "counts"
    for row in [["id", "s1", "s2", "s3", "s4"], ["g1", 1, 2, 5, 6], ["g2", 3, 1, 4, 1]]:
        book.active.append(row)
    sheet = book.create_sheet("specimens")
    for row in [["id", "run"], ["s4", "b"], ["s1", "a"], ["s2", "a"], ["s3", "b"]]:
        sheet.append(row)
    path = f"{tmp_path}/d.xlsx"
    book.save(path)
    table = read(f"{path}#counts", f"{path}#specimens")

    assert table.values.tolist() == [[1, 3], [2, 1], [5, 4], [6, 1]]
    assert (table.sheet["run"], table.source.dtype) == (("a", "a", "b", "b"), "int64")
    found = correct(table, "run")
    write(table, found.values, tmp_path / "o.csv")
    assert np.array_equal(read(tmp_path / "o.csv", f"{path}#specimens").values, found.values)
    with pytest.raises(DataError, match="workbooks are read, not written"):
        write(table, found.values, tmp_path / "o.xlsx")
    with pytest.raises(DataError, match="2 worksheets: 'counts', 'specimens'; choose one"):
        read(path, f"{path}#specimens")


def put(place, value):
    """A change that writes a cell."""
    return lambda sheet: sheet.__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("XFD1048576", "x"), r"row without an id: number 1048576 \(cell XFD1048576 holds 'x'"),
        (put("XFD2", 1), r"column without an id: number 16384 \(cell XFD2 holds '1'"),
        (put("A9", "sum"), None),
        (put("B2", datetime.date(2024, 10, 5)), "cell B2 holds a date or time .2024-10-05"),
        (put("B2", True), "cell B2 holds a truth value"),
        (put("B2", "1,5"), "column 's1' holds '1,5', which is not a number; .* commas"),
        (put("B2", "#REF!"), "cell B2 .* holds the error #REF!"),
        (put("B2", "=1+1"), "cell B2 .* formula without a stored value"),
        (lambda sheet: sheet.merge_cells("A1:B1"), "merged: A1:B1"),
    ],
)
def test_what_is_no_matrix(tmp_path, change, says):
    """What does not belong is named by its cell; a row with nothing but an id is a row."""
    path = save(tmp_path / "m.xlsx", [HEADER, *ROWS], change)
    if says is None:
        assert np.isnan(workbook.read_matrix(path).values[-1]).all()
    else:
        with pytest.raises(DataError, match=says):
            workbook.read_matrix(path)


def test_what_is_passed_over_is_said(tmp_path):
    """Titles, formulas, hidden rows and columns, and ids that became dates are noted."""

    def change(sheet):
        sheet.insert_rows(1)
        sheet["A1"] = "Table S1: intensities"
        sheet.merge_cells("A1:E1")
        sheet["A3"] = datetime.date(2024, 9, 2)
        sheet.row_dimensions[4].hidden = True
        sheet.column_dimensions["C"].hidden = True

    path = save(tmp_path / "m.xlsx", [HEADER, *ROWS], change)
    repacked(path, SHEET1, lambda xml: xml.replace(b"<v>1.5</v>", b"<f>3/2</f><v>1.5</v>"))
    raw = workbook.read_matrix(path)

    assert np.array_equal(raw.values, WANTED, equal_nan=True)
    assert [note.code for note in raw.notes] == [
        *("title_line", "formulas", "hidden_cells", "dates_as_ids")
    ]
    assert raw.notes[1].where == ("B3",)
    assert raw.notes[2].where == ("row 4", "column C")


def bomb(row, count, tail=b""):
    """A worksheet of many rows."""
    return lambda xml: (
        xml[: xml.index(b"<sheetData")]
        + b"<sheetData>"
        + row * count
        + tail
        + b"</sheetData></worksheet>"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(bomb(b"<row/>", 3_000_000), "more than 100 times", id="empty rows"),
        pytest.param(
            lambda xml: b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 9999 + b'">]>' + xml,
            "document type",
            id="entities",
        ),
        pytest.param(
            bomb(b"", 1, b"<row>" + b" " * 9 + b"<c r='" + b"A" * 9_000_000 + b"'/></row>"),
            "without an end",
            id="long mark",
        ),
        pytest.param(
            bomb(b"", 1, b"<row><c t='str'><v>" + b"a" * 9_000_000 + b"</v></c></row>"),
            "more than 131,068 signs",
            id="long text",
        ),
        pytest.param(
            bomb(b"", 1, b"<row><c t='str'><v>" + b"&#65;" * 999_999 + b"</v></c></row>"),
            "more than 131,068 signs",
            id="padded references",
        ),
        pytest.param(
            bomb(b"<row r='3'><c><v>1</v></c></row>", 2), "row 3 .* out of order", id="order"
        ),
        pytest.param(
            bomb(b"", 1, b"<row><c r='XFE1'><v>1</v></c></row>"), "no cell 'XFE1'", id="XFE"
        ),
        pytest.param(
            bomb(b"", 1, b"<row><c t='s'><v>99</v></c></row>"), "not an .xlsx", id="no text"
        ),
        pytest.param(
            bomb(
                b"",
                1,
                b"<row>"
                + b"<c t='str'><v>n</v></c>" * 9999
                + b"</row>"
                + b"<row><c t='str'><v>s</v></c></row>" * 9999,
            ),
            "of .* cells hold anything",
            id="emptiness",
        ),
    ],
)
def test_hostile_workbooks_take_no_memory(tmp_path, change, says):
    """A small file stays small, whatever it claims: it is refused in words."""
    path = repacked(save(tmp_path / "s.xlsx", [["id", "arm"]]), SHEET1, change)
    for reader in (workbook.read_sheet, workbook.read_matrix):
        tracemalloc.start()
        with pytest.raises(DataError, match=says):
            reader(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6
