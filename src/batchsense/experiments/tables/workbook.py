"""Sheets of specimens as Excel workbooks (.xlsx), read strictly.

What a spreadsheet shows need not be what it stores: merged cells hold one label for many rows,
formulas may have no stored value. Both would become missing labels silently, so both are refused.
"""

from __future__ import annotations

import datetime
import warnings
import zipfile
from pathlib import Path
from typing import Any

from batchsense.errors import DataError, MissingExtraError, listed
from batchsense.experiments.tables.delimited import sheet_of
from batchsense.experiments.tables.table import Column
from batchsense.experiments.tables.text import MISSING, did_you_mean, label_text
from batchsense.notes import Note

SUFFIX = ".xlsx"


def split(path: str | Path) -> tuple[Path, str | None]:
    """Take ``FILE.xlsx#Sheet`` apart.

    Examples
    --------
    >>> split("plates.xlsx#June")[1], split("plates.xlsx")[1], split("plate#1.csv")[1]
    ('June', None, None)
    """
    text = str(path)
    before, mark, name = text.rpartition("#")
    if mark and before.lower().endswith(SUFFIX) and not Path(text).exists():
        return Path(before), name
    return Path(text), None


def read_sheet(path: str | Path) -> tuple[dict[str, Column], tuple[Note, ...]]:
    """Read a worksheet: names of the columns in its first row, one row per specimen.

    Of ``FILE.xlsx`` the first visible worksheet is read, with a note if there are others; of
    ``FILE.xlsx#Sheet`` the one named.

    Raises
    ------
    DataError
        The file cannot be read, there is no such worksheet, it is empty, a column has no name or
        the name of another one, or a cell is merged, an error, or a formula without stored value.
    MissingExtraError
        openpyxl is not installed.
    """
    file, wanted = split(path)
    where = str(path)
    shown, formulas = _open(file, values=True), _open(file, values=False)
    visible = _visible(shown, where)
    name = _chosen(wanted, visible, [one.title for one in shown.worksheets], where)
    _refuse_merged(shown[name], where)
    entries = _entries(shown[name], formulas[name], where)
    if len(entries) < 2:
        raise DataError(
            f"worksheet {name!r} is empty; give the names of the columns in the first row and one "
            "row per specimen",
            where=where,
        )
    sheet = sheet_of(entries[0], entries[1:], where)
    if wanted is not None or len(visible) == 1:
        return sheet, ()
    others = listed(map(repr, visible[1:]))
    message = (
        f"The workbook has {len(visible)} worksheets; the first, {name!r}, was read. "
        f"{file}#NAME chooses another: {others}."
    )
    return sheet, (Note("first_worksheet", message, (name,)),)


def worksheets(file: Path) -> tuple[str, ...]:
    """The names of the visible worksheets, in order."""
    return _visible(_open(file, values=True, names_only=True), str(file))


def _visible(book: Any, where: str) -> tuple[str, ...]:
    names = tuple(one.title for one in book.worksheets if one.sheet_state == "visible")
    if not names:
        raise DataError("the workbook has no visible worksheet", where=where)
    return names


def _open(file: Path, values: bool, names_only: bool = False) -> Any:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MissingExtraError("Excel sheets", "experiments") from None
    try:
        # openpyxl leaves a file open that it cannot read. What it would lose in writing does not
        # matter here.
        with file.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_workbook(stream, read_only=names_only, data_only=values)
    except OSError as error:
        reason = "no such file" if not file.exists() else str(error)
        raise DataError(f"cannot be read: {reason}", where=str(file)) from None
    # Broken XML is a SyntaxError for the parsers of the standard library and of lxml.
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, SyntaxError) as error:
        raise DataError(
            f"not an .xlsx workbook, or protected by a password ({error}); save it as .csv",
            where=str(file),
        ) from None


def _chosen(wanted: str | None, visible: tuple[str, ...], known: list[str], where: str) -> str:
    if wanted is None:
        return visible[0]
    if wanted in known:
        return wanted
    shown = listed(map(repr, known), 20)
    raise DataError(
        f"no worksheet {wanted!r}; {did_you_mean(wanted, known)}Worksheets: {shown}", where=where
    )


def _refuse_merged(worksheet: Any, where: str) -> None:
    merged = sorted(str(cells) for cells in worksheet.merged_cells.ranges)
    if merged:
        raise DataError(
            f"cells of worksheet {worksheet.title!r} are merged: {listed(merged)}; separate them "
            "and write the label into every row",
            where=where,
        )


def _entries(shown: Any, formulas: Any, where: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for values, originals in zip(shown.iter_rows(), formulas.iter_rows(), strict=True):
        cells = list(zip(values, originals, strict=True))
        row = [_text(value, original, where) for value, original in cells]
        if any(row):
            rows.append(row)
    filled = [place for place in range(len(rows[0]) if rows else 0) if any(r[place] for r in rows)]
    return [[row[place] for place in filled] for row in rows]


def _text(cell: Any, original: Any, where: str) -> str:
    value = cell.value
    if original.data_type == "f" and value is None:
        raise DataError(
            f"cell {cell.coordinate} of worksheet {cell.parent.title!r} holds a formula without a "
            "stored value; open and save the file in a spreadsheet program, or write values",
            where=where,
        )
    if cell.data_type == "e" and value not in MISSING:
        raise DataError(
            f"cell {cell.coordinate} of worksheet {cell.parent.title!r} holds the error {value}; "
            "correct it, or leave the cell empty if the label is missing",
            where=where,
        )
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return label_text(value) or ""
