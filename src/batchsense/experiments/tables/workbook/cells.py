"""The filled cells of a worksheet, row by row, as a spreadsheet program stored them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from batchsense.errors import DataError
from batchsense.experiments.tables.text import MISSING
from batchsense.experiments.tables.workbook.package import (
    Attributes,
    Book,
    Worksheet,
    keep,
    unescaped,
    walking,
)

#: What a cell can hold.
Value = str | int | float | bool | datetime | date | time | timedelta
#: The filled cells of one row, by the number of their column, from 1.
Cells = dict[int, Value]
#: The last column and the last row that a worksheet can have: XFD and 1048576.
_COLUMNS, _ROWS = 16_384, 1_048_576


@dataclass(slots=True)
class Found:
    """What was met on the way that a reader must know: merged, computed and hidden cells."""

    merged: list[str] = field(default_factory=list)
    formulas: int = 0
    first_formula: str = ""
    hidden_rows: list[int] = field(default_factory=list)
    hidden_columns: list[tuple[int, int]] = field(default_factory=list)


def coordinate(column: int, row: int) -> str:
    """The name of a cell.

    Examples
    --------
    >>> coordinate(2, 7), coordinate(16384, 1048576)
    ('B7', 'XFD1048576')
    """
    return f"{column_letters(column)}{row}"


def column_letters(column: int) -> str:
    """The letters over a column.

    Examples
    --------
    >>> column_letters(1), column_letters(27)
    ('A', 'AA')
    """
    letters = ""
    while column:
        column, place = divmod(column - 1, 26)
        letters = chr(65 + place) + letters
    return letters


def filled_rows(
    archive: zipfile.ZipFile, book: Book, worksheet: Worksheet, found: Found
) -> Iterator[tuple[int, Cells]]:
    """The rows that hold anything, each with its number; memory holds a few rows at a time.

    Raises
    ------
    DataError
        A cell holds an error, or a formula without a stored value; cells are out of order.
    """
    reader = _Reader(book, worksheet.title, str(archive.filename), found)
    for _ in walking(archive, worksheet.part, reader.start, reader.end, reader.text):
        rows, reader.rows = reader.rows, []
        yield from rows


@dataclass(slots=True)
class _Reader:
    """Where in a worksheet the parser is."""

    book: Book
    title: str
    where: str
    found: Found
    rows: list[tuple[int, Cells]] = field(default_factory=list)
    _cells: Cells = field(default_factory=dict)
    _row: int = 0
    _column: int = 0
    _hidden: bool = False
    _kind: str = "n"
    _style: int = 0
    _formula: bool = False
    _stored: bool = False
    _reading: bool = False
    _spoken: bool = False
    _parts: list[str] = field(default_factory=list)
    _letters: dict[str, int] = field(default_factory=dict)

    def start(self, name: str, given: Attributes) -> None:
        if name == "c":
            self._start_cell(given)
        elif name == "v":
            self._stored = self._reading = True
        elif name == "t":
            self._reading = not self._spoken
        elif name == "f":
            self._formula = True
        elif name == "row":
            self._start_row(given)
        elif name == "rPh":
            self._spoken = True
        elif name == "mergeCell":
            self.found.merged.append(given.get("ref", ""))
        elif name == "col" and given.get("hidden") in ("1", "true"):
            self.found.hidden_columns.append((int(given["min"]), int(given["max"])))

    def text(self, text: str) -> None:
        if self._reading:
            keep(self._parts, text)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._reading = False
        elif name == "rPh":
            self._spoken = False
        elif name == "c":
            self._end_cell()
        elif name == "row" and self._cells:
            self.rows.append((self._row, self._cells))
            if self._hidden:
                self.found.hidden_rows.append(self._row)
            self._cells = {}

    def _start_row(self, given: Attributes) -> None:
        row = int(given.get("r", self._row + 1))
        if not self._row < row <= _ROWS:
            raise self._fault(f"row {row} of worksheet {self.title!r} is out of order")
        self._row, self._column, self._cells = row, 0, {}
        self._hidden = given.get("hidden") in ("1", "true")

    def _start_cell(self, given: Attributes) -> None:
        self._column = self._column_of(given["r"]) if "r" in given else self._column + 1
        self._kind, self._style = given.get("t", "n"), int(given.get("s", 0))
        self._formula = self._stored = False
        self._parts = []

    def _column_of(self, name: str) -> int:
        letters = name.rstrip("0123456789")
        if letters not in self._letters:
            column = 0
            for letter in letters.upper() if re.fullmatch("[A-Za-z]{1,3}", letters) else "":
                column = column * 26 + ord(letter) - 64
            if not 1 <= column <= _COLUMNS:
                raise self._fault(f"worksheet {self.title!r} has no cell {name[:20]!r}")
            self._letters[letters] = column
        return self._letters[letters]

    def _end_cell(self) -> None:
        text = "".join(self._parts)
        if self._formula:
            if not text and not (self._stored and self._kind == "str"):
                raise self._fault(
                    f"{self._cell()} holds a formula without a stored value; open and save the "
                    "file in a spreadsheet program, or write values"
                )
            self.found.formulas += 1
            self.found.first_formula = self.found.first_formula or coordinate(
                self._column, self._row
            )
        value = self._value(text) if text else ""
        if value == "" or (isinstance(value, str) and not value.strip()):
            return
        if self._column in self._cells:
            raise self._fault(f"{self._cell()} is there twice")
        self._cells[self._column] = value

    def _value(self, text: str) -> Value:
        if self._kind == "s":
            return self.book.texts[int(text)]
        if self._kind in ("str", "inlineStr"):
            return unescaped(text)
        if self._kind == "b":
            return text.strip() in ("1", "true")
        if self._kind == "e":
            if text in MISSING:
                return text
            raise self._fault(
                f"{self._cell()} holds the error {text}; correct it, or leave the cell empty if "
                "the label is missing"
            )
        if self._kind == "d":
            return _plain_day(datetime.fromisoformat(text))
        if self._style in self.book.dates:
            return self._moment(float(text))
        # Digits alone are exact at any length that a spreadsheet stores.
        return int(text) if len(text) < 19 and text.isdigit() else float(text)

    def _moment(self, number: float) -> Value:
        """A day or time, from the number of days since the first of January 1900 (or 1904)."""
        try:
            span = timedelta(milliseconds=round(number * 86_400_000))
            if self._style in self.book.durations:
                return span
            if 0 <= number < 1:
                return (datetime.min + span).time()
            # Excel has a 29th of February 1900, as Lotus had.
            leap = timedelta(days=1 if not self.book.from_1904 and number < 60 else 0)
            first = datetime(1904, 1, 1) if self.book.from_1904 else datetime(1899, 12, 30)
            return _plain_day(first + span + leap)
        except OverflowError:
            raise self._fault(f"{self._cell()} holds a date beyond the year 9999") from None

    def _cell(self) -> str:
        return f"cell {coordinate(self._column, self._row)} of worksheet {self.title!r}"

    def _fault(self, message: str) -> DataError:
        return DataError(message, where=self.where)


def _plain_day(moment: datetime) -> datetime | date:
    return moment.date() if moment.time() == time() else moment
