"""Matrices and sheets of specimens as Excel workbooks (.xlsx), read strictly.

What a spreadsheet shows need not be what it stores: merged cells hold one label for many rows,
formulas may have no stored value. Both would become missing labels silently, so both are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from itertools import chain
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.delimited import sheet_of
from batchsense.experiments.tables.heading import (
    annotation_columns,
    annotation_note,
    is_title,
    refuse_nameless,
    title_note,
)
from batchsense.experiments.tables.matrix import (
    LARGEST_EXACT,
    RawMatrix,
    check_ids,
    refuse_text,
    shortened,
)
from batchsense.experiments.tables.table import Column
from batchsense.experiments.tables.text import did_you_mean, label_text, number
from batchsense.experiments.tables.workbook.cells import (
    Cells,
    Found,
    Value,
    column_letters,
    coordinate,
    filled_rows,
)
from batchsense.experiments.tables.workbook.package import Worksheet, opened, read_book
from batchsense.notes import Note

SUFFIX = ".xlsx"
#: A table of more cells than this, of which fewer than one in twenty holds anything, is taken for
#: a slip: it is not what someone typed, and would take memory for nothing.
_MANY_CELLS = 10_000_000
_MOSTLY_EMPTY = 20


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

    Of ``FILE.xlsx`` the only visible worksheet with anything in it is read, of
    ``FILE.xlsx#Sheet`` the one named.

    Raises
    ------
    DataError
        The file cannot be read, there is no such worksheet or a choice of several, it is empty, a
        column has no name or the name of another one, or a cell is merged, an error, or a formula
        without stored value.
    """
    where = str(path)
    with _reading(path, "sheet") as table:
        rows = list(table.rows)
        if not rows:
            raise DataError(
                f"worksheet {table.title!r} is empty; give the names of the columns in the first "
                "row and one row per specimen",
                where=where,
            )
        columns = sorted({*table.header, *(column for _, cells in rows for column in cells)})
        # A first column without a name holds the ids, as row names are often written.
        _refuse_nameless("sheet", {*table.header, columns[0]}, rows, where)
        _refuse_emptiness(rows, len(columns), where)
        header = [_text(table.header.get(column)) for column in columns]
        entries = [[_text(cells.get(column)) for column in columns] for _, cells in rows]
    return sheet_of(header, entries, where), table.notes()


def read_matrix(path: str | Path) -> RawMatrix:
    """Read a matrix from a worksheet: ids in its first row and column, numbers elsewhere.

    Raises
    ------
    DataError
        As :func:`read_sheet`, or a cell is text, a date or a truth value.
    """
    where = str(path)
    with _reading(path, "matrix") as table:
        first = next(table.rows, None)
        if first is None:
            raise DataError("the matrix has a header but no rows", where=where)
        ids_in = min(*table.header, *first[1])
        corner = _text(table.header.pop(ids_in, None))
        columns = list(table.header)
        left_out = annotation_columns([_text(name) for name in table.header.values()], corner)
        names = {column: _text(table.header[column]) for column in columns[left_out:]}
        skipped = set(columns[:left_out])
        if not names:
            raise DataError("the header has one cell only: no columns to read", where=where)
        rows = _Rows(names, {ids_in, *skipped}, where)
        for numbered, cells in chain([first], table.rows):
            rows.add(numbered, cells, ids_in)
    dated = [str(value) for value in [*table.header.values(), *rows.dated] if _is_day(value)]
    check_ids(tuple(rows.ids), "row", where)
    check_ids(tuple(names.values()), "column", where)
    values = np.vstack(rows.values)
    dtype = "int64" if rows.whole and np.abs(values).max() <= LARGEST_EXACT else "float64"
    notes = (
        *table.notes(),
        *([annotation_note()] if left_out else []),
        *([_dates_note(dated)] if dated else []),
    )
    return RawMatrix(values, tuple(rows.ids), tuple(names.values()), corner, dtype, notes)


def worksheets(file: Path) -> tuple[str, ...]:
    """The names of the visible worksheets, in order."""
    with opened(file) as archive:
        return _visible(read_book(archive, names_only=True).worksheets, str(file))


@dataclass(slots=True)
class _Table:
    """A worksheet whose header was read, and whose rows are read as they are asked for."""

    title: str
    kind: str
    header: Cells
    header_row: int
    rows: Iterator[tuple[int, Cells]]
    found: Found
    heading: tuple[Note, ...] = ()

    def notes(self) -> tuple[Note, ...]:
        """What a reader must know of it, after all rows were read."""
        found, notes = self.found, list(self.heading)
        if found.formulas:
            message = (
                f"{found.formulas} cells of the {self.kind} hold formulas (the first is "
                f"{found.first_formula}); the values stored with them were read."
            )
            notes.append(Note("formulas", message, (found.first_formula,)))
        hidden = [f"row {row}" for row in found.hidden_rows if row >= self.header_row]
        hidden += [
            f"column {column_letters(column)}"
            for first, last in found.hidden_columns
            for column in sorted(self.header)
            if first <= column <= last
        ]
        if hidden:
            message = (
                f"Hidden rows and columns of the {self.kind} were read like the others: "
                f"{listed(hidden, 5)}."
            )
            notes.append(Note("hidden_cells", message, tuple(hidden[:10])))
        return tuple(notes)


@contextmanager
def _reading(path: str | Path, kind: str) -> Iterator[_Table]:
    file, wanted = split(path)
    where = str(path)
    with opened(file) as archive:
        book, found = read_book(archive), Found()
        chosen = _chosen(book.worksheets, wanted, where)
        if wanted is None and len(_visible(book.worksheets, where)) > 1:
            shown = [one for one in book.worksheets if one.visible]
            filled = [one for one in shown if next(filled_rows(archive, book, one, Found()), None)]
            if len(filled) > 1:
                raise _several([one.title for one in filled], where)
            chosen = filled[0] if filled else chosen
        rows = filled_rows(archive, book, chosen, found)
        table = _headed(chosen.title, kind, rows, found)
        try:
            yield table
            for _ in table.rows:
                pass
        except DataError:
            # Merged cells, which are named at the end of a worksheet, explain much else.
            for _ in rows:
                pass
            _refuse_merged(table, where)
            raise
        _refuse_merged(table, where)


def _headed(title: str, kind: str, rows: Iterator[tuple[int, Cells]], found: Found) -> _Table:
    """Take the header off; a title above it is passed over."""
    nothing: tuple[int, Cells] = (0, {})
    number, header = next(rows, nothing)
    below = next(rows, nothing)
    notes: list[Note] = []
    while is_title(*([_text(value) for value in row.values()] for row in (header, below[1]))):
        notes.append(title_note(number, _text(next(iter(header.values()))), kind))
        number, header = below
        below = next(rows, nothing)
    left = chain([below], rows) if below[1] else iter(())
    return _Table(title, kind, dict(sorted(header.items())), number, left, found, tuple(notes))


def _visible(known: tuple[Worksheet, ...], where: str) -> tuple[str, ...]:
    names = tuple(one.title for one in known if one.visible)
    if not names:
        raise DataError("the workbook has no visible worksheet", where=where)
    return names


def _chosen(known: tuple[Worksheet, ...], wanted: str | None, where: str) -> Worksheet:
    name = _visible(known, where)[0] if wanted is None else wanted
    for one in known:
        if one.title == name:
            return one
    titles = [one.title for one in known]
    raise DataError(
        f"no worksheet {name!r}; {did_you_mean(name, titles)}Worksheets: "
        f"{listed(map(repr, titles), 20)}",
        where=where,
    )


def _several(titles: list[str], where: str) -> DataError:
    return DataError(
        f"the workbook has {len(titles)} worksheets: {listed(map(repr, titles), 20)}; choose one "
        f"as FILE.xlsx#NAME, for example {Path(where).name}#{titles[0]}",
        where=where,
    )


def _refuse_merged(table: _Table, where: str) -> None:
    # What is merged above the header is a title.
    merged = sorted(
        cells
        for cells in table.found.merged
        if max(map(int, re.findall(r"\d+", cells)), default=0) >= table.header_row
    )
    if merged:
        raise DataError(
            f"cells of worksheet {table.title!r} are merged: {listed(merged)}; separate them "
            "and write the label into every row",
            where=where,
        )


def _refuse_nameless(kind: str, named: set[int], rows: list[tuple[int, Cells]], where: str) -> None:
    if all(cells.keys() <= named for _, cells in rows):
        return
    nameless = {
        column: f"{column} (cell {coordinate(column, row)} holds {shortened(_text(value), 20)})"
        for row, cells in reversed(rows)
        for column, value in cells.items()
        if column not in named
    }
    raise refuse_nameless(kind, [nameless[column] for column in sorted(nameless)], where)


def _refuse_emptiness(rows: list[tuple[int, Cells]], columns: int, where: str) -> None:
    filled = sum(len(cells) for _, cells in rows)
    _refuse_empty_rectangle(len(rows), columns, filled, where)


def _refuse_empty_rectangle(rows: int, columns: int, filled: int, where: str) -> None:
    if rows * columns > max(_MANY_CELLS, _MOSTLY_EMPTY * filled):
        raise DataError(
            f"{filled:,} of {rows:,} × {columns:,} cells hold anything; delete what does not "
            "belong to the table",
            where=where,
        )


def _text(value: Value | None) -> str:
    return label_text(value) or ""


def _is_day(value: Value) -> bool:
    return isinstance(value, date)


def _dates_note(days: list[str]) -> Note:
    return Note(
        "dates_as_ids",
        f"Ids of the matrix are dates ({listed(days, 3)}): spreadsheet programs turn names of "
        "genes such as SEPT2 into dates. They were read as they are.",
        tuple(days[:10]),
    )


@dataclass(slots=True)
class _Rows:
    """The rows of a matrix as numbers, row after row; ``others`` are columns to pass over."""

    names: dict[int, str]
    others: set[int]
    where: str
    places: dict[int, int] = field(init=False)
    known: set[int] = field(init=False)
    ids: list[str] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    dated: list[Value] = field(default_factory=list)
    whole: bool = True
    filled: int = 0

    def __post_init__(self) -> None:
        self.places = {column: place for place, column in enumerate(self.names)}
        self.known = {*self.others, *self.names}

    def add(self, number_of_row: int, cells: Cells, ids_in: int) -> None:
        """Take a row in."""
        if ids_in not in cells:
            column, value = next(iter(cells.items()))
            raise DataError(
                f"row without an id: number {number_of_row} (cell "
                f"{coordinate(column, number_of_row)} holds {shortened(_text(value), 20)})",
                where=self.where,
            )
        _refuse_nameless("matrix", self.known, [(number_of_row, cells)], self.where)
        row = np.full(len(self.names), np.nan)
        self.ids.append(_text(cells[ids_in]))
        if _is_day(cells[ids_in]):
            self.dated.append(cells[ids_in])
        kinds = set()
        for column, value in cells.items():
            if column not in self.others:
                row[self.places[column]] = self._number(value, column, number_of_row)
                kinds.add(type(value))
        self.whole = self.whole and kinds == {int} and not np.isnan(row).any()
        self.filled += len(cells)
        _refuse_empty_rectangle(len(self.ids), len(self.names), self.filled, self.where)
        self.values.append(row)

    def _number(self, value: Value, column: int, row: int) -> float:
        if isinstance(value, bool | date | time | timedelta):
            kind = "a truth value" if isinstance(value, bool) else "a date or time"
            raise DataError(
                f"cell {coordinate(column, row)} holds {kind} ({_text(value)}), where numbers "
                "are expected; spreadsheet programs turn entries such as 5.10 into dates",
                where=self.where,
            )
        if not isinstance(value, str):
            return float(value)
        try:
            return number(value)
        except ValueError:
            raise refuse_text(self.where, value, self.ids[-1], self.names[column]) from None
