"""Excel sheets: what a spreadsheet shows but does not store is refused by cell."""

from __future__ import annotations

import datetime
import zipfile

import pandas as pd
import pytest

from batchsense.errors import DataError
from batchsense.experiments import read
from batchsense.experiments.tables import workbook

openpyxl = pytest.importorskip("openpyxl")

ROWS = [
    ["id", "plate", "day", "drug", "dose"],
    ["s1", 1, datetime.datetime(2024, 5, 1), "no", 0.5],
    ["s2", 1.0, datetime.datetime(2024, 5, 1, 9, 30), "yes", None],
    ["s3", 2, datetime.date(2024, 5, 2), "none", 2],
]


def save(path, rows=ROWS, more=(), change=None):
    """Write a workbook with further worksheets, changed by a function."""
    book = openpyxl.Workbook()
    book.active.title = "Specimens"
    for row in rows:
        book.active.append(row)
    for name in more:
        book.create_sheet(name).append(["id", "plate"])
        book[name].append(["s1", 9])
    if change is not None:
        change(book)
    book.save(path)
    return path


def test_worksheets_that_can_be_chosen(tmp_path):
    """Hidden ones are not offered."""

    def hide(book):
        book["July"].sheet_state = "hidden"

    path = save(tmp_path / "s.xlsx", more=("June", "July"), change=hide)
    assert workbook.worksheets(path) == ("Specimens", "June")


def test_labels_as_they_are_shown(tmp_path):
    """Whole numbers have no point, days no time, empty cells are missing; the order is kept."""
    sheet, notes = workbook.read_sheet(save(tmp_path / "s.xlsx"))

    assert sheet == {
        "id": ("s1", "s2", "s3"),
        "plate": ("1", "1", "2"),
        "day": ("2024-05-01", "2024-05-01T09:30:00", "2024-05-02"),
        "drug": ("no", "yes", "none"),
        "dose": ("0.5", None, "2"),
    }
    assert notes == ()


def test_a_table_with_a_workbook(tmp_path):
    """The ids of a workbook are matched with the matrix; of several worksheets one is named."""
    frame = pd.DataFrame([[0.5, 1.5, 2.0]] * 2, index=["a", "b"], columns=["s3", "s1", "s2"])
    frame.to_csv(tmp_path / "m.csv")
    save(tmp_path / "s.xlsx", more=["June"])
    table = read(tmp_path / "m.csv", f"{tmp_path}/s.xlsx#Specimens")

    assert table.sheet["plate"] == ("2", "1", "1")
    with pytest.raises(DataError, match=r"2 worksheets: 'Specimens', 'June'; .*s\.xlsx#Specimens"):
        read(tmp_path / "m.csv", tmp_path / "s.xlsx")


def test_empty_rows_and_columns_are_left_out(tmp_path):
    """Rows and columns without any entry, wherever they are, make no labels."""
    rows = [[None] * 4, [None, "id", None, "plate"], [None, "s1", None, 1], [], [None, "s2", "", 2]]
    sheet, _ = workbook.read_sheet(save(tmp_path / "s.xlsx", rows))

    assert sheet == {"id": ("s1", "s2"), "plate": ("1", "2")}


def test_worksheets_by_name(tmp_path):
    """FILE.xlsx#Sheet names a worksheet, also a hidden one; else the only filled one."""

    def hide(book):
        book["Specimens"].sheet_state = "hidden"

    path = save(tmp_path / "s.xlsx", more=["June", "July"], change=hide)

    assert workbook.read_sheet(f"{path}#July")[0]["plate"] == ("9",)
    assert workbook.read_sheet(f"{path}#Specimens")[0]["plate"] == ("1", "1", "2")
    with pytest.raises(DataError, match="2 worksheets: 'June', 'July'"):
        workbook.read_sheet(path)
    blank = save(tmp_path / "t.xlsx", change=lambda book: book.create_sheet("Sheet2"))
    assert workbook.read_sheet(blank)[0]["plate"] == ("1", "1", "2")
    with pytest.raises(DataError, match="no worksheet 'Juni'; did you mean 'June'"):
        workbook.read_sheet(f"{path}#Juni")


def merge(book):
    book.active.merge_cells("B2:B3")


def formula(book):
    book.active["B2"] = "=1+1"


def error(book):
    book.active["D3"] = "#REF!"


def nameless(book):
    book.active["B1"] = None


def twice(book):
    book.active["B1"] = "drug"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (merge, "merged: B2:B3"),
        (formula, "cell B2 .* formula without a stored value"),
        (error, "cell D3 .* holds the error #REF!"),
        (nameless, "without a name: number 2"),
        (twice, "more than once: 'drug'"),
    ],
)
def test_what_is_not_stored_as_shown(tmp_path, change, says):
    """Merged cells, formulas without values, errors and unclear headers are refused."""
    with pytest.raises(DataError, match=says):
        workbook.read_sheet(save(tmp_path / "s.xlsx", change=change))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_workbook(tmp_path):
    """A missing, damaged, empty or old file is a typed error."""
    (tmp_path / "x.xlsx").write_text("id,plate\ns1,1\n")
    (tmp_path / "old.xls").write_text("")
    pd.DataFrame({"s1": [1.5]}, index=["a"]).to_csv(tmp_path / "m.csv")
    with zipfile.ZipFile(save(tmp_path / "cut.xlsx"), "a") as archive:
        archive.writestr("xl/workbook.xml", "<workbook><sheets>")
    for name, says in (
        ("x.xlsx", "not an .xlsx workbook"),
        ("cut.xlsx", "not an .xlsx workbook"),
        ("none.xlsx", "no such file"),
        ("old.xls", "save it as .xlsx"),
        ("empty.xlsx", "'Specimens' is empty"),
    ):
        if name.startswith("empty"):
            save(tmp_path / name, [])
        with pytest.raises(DataError, match=says):
            read(tmp_path / "m.csv", tmp_path / name)
