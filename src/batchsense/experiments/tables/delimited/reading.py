"""Matrices and sheets as delimited text (.csv, .tsv, .txt, each also .gz), read strictly.

Every line must have as many cells as the header: a short line would otherwise become missing
values, and a long one would lose its end, both silently.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.delimited.lines import Records, records
from batchsense.experiments.tables.delimited.numbers import arrow_is_here, numbers_of
from batchsense.experiments.tables.heading import (
    annotation_columns,
    annotation_note,
    refuse_nameless,
)
from batchsense.experiments.tables.matrix import (
    LARGEST_EXACT,
    RawMatrix,
    check_ids,
    refuse_packed,
    refuse_text,
)
from batchsense.experiments.tables.table import Column, repeated
from batchsense.experiments.tables.text import cell_text, number
from batchsense.notes import Note

#: Bytes from which a file is given to Arrow: below, loading it takes longer than reading.
_LARGE = 1_000_000
#: So many signs are read at a time: enough that a block costs nothing, little beside the matrix.
_BLOCK_SIGNS = 1 << 21


def read_matrix(path: str | Path, densify: bool = False) -> RawMatrix:
    """Read a matrix: ids in the first row and in the first column, numbers elsewhere.

    A header that is one cell shorter than the lines below it (as R writes it) is understood.
    Columns of featureCounts that tell where a gene lies are left out.

    Raises
    ------
    DataError
        The file is missing, empty, not text, ragged, or a cell is not a number.
    """
    where = str(path)
    rows = _plain_rows(path, densify)
    if rows is None:
        with records(path, "matrix") as lines:
            rows = _NumberRows(lines, where)
            rows.read(path, densify)
    notes = rows.lines.notes()
    values = np.vstack(rows.values) if rows.room is None else rows.room[: len(rows.ids)]
    columns = rows.columns
    if rows.corner is None and np.isnan(values[:, -1]).all():
        raise _trailing_delimiter("numbers", where)
    nameless = [place for place, name in enumerate(columns) if not name.strip()]
    if any(not np.isnan(values[:, place]).all() for place in nameless):
        raise refuse_nameless("matrix", [str(place + 1) for place in nameless], where)
    if nameless:
        values = np.delete(values, nameless, axis=1)
        columns = [name for name in columns if name.strip()]
        if not columns:
            raise DataError("no column of the header has a name: nothing to read", where=where)
    check_ids(tuple(rows.ids), "row", where)
    dtype = "int64" if rows.whole and np.abs(values).max() <= LARGEST_EXACT else "float64"
    left_out = [annotation_note()] if rows.left_out else []
    return RawMatrix(
        values, tuple(rows.ids), tuple(columns), rows.corner, dtype, (*notes, *left_out)
    )


def _plain_rows(path: str | Path, densify: bool) -> _NumberRows | None:
    """The rows of a large file if all its lines are plain; else all is read, and told, strictly."""
    with contextlib.suppress(OSError, DataError):
        if os.path.getsize(path) >= _LARGE and arrow_is_here():
            with records(path, "matrix") as lines:
                rows = _NumberRows(lines, str(path))
                if rows.columns and lines.delimiter != '"' and rows.read_plain(path, densify):
                    return rows
    return None


class _NumberRows:
    """The rows of a matrix as numbers, row after row."""

    def __init__(self, lines: Records, where: str) -> None:
        self.lines, self.where = lines, where
        self.corner: str | None = lines.header[0]
        self.columns = lines.header[1:]
        self.left_out = annotation_columns(self.columns, self.corner)
        self.columns = self.columns[self.left_out :]
        self.ids: list[str] = []
        self.values: list[Floats] = []
        self.room: Floats | None = None  # of plain rows, which are put in their place at once
        self.whole = True

    def read(self, path: str | Path, densify: bool) -> None:
        """Read all rows."""
        header = self.lines.header
        for line, cells in self.lines:
            if not self.ids and len(cells) == len(header) + 1 and not self.left_out:
                self.corner, self.columns = None, header
            elif not self.ids and not self.columns:
                raise DataError("the header has one cell only: no columns to read", self.where)
            width = 1 + self.left_out + len(self.columns)
            texts = _of_width(cells, width, line, self.where)[1 + self.left_out :]
            self.ids.append(cells[0])
            self.values.append(_numbers(texts, cells[0], self.columns, self.where))
            # Digits only, as counts are written; what has no name holds nothing.
            self.whole = self.whole and all(
                text.isdigit() or not name for text, name in zip(texts, self.columns, strict=True)
            )
            # Looked at now and then: a thousand rows are little beside the limit.
            if len(self.ids) % 1000 == 0:
                refuse_packed((len(self.ids), len(self.columns)), path, densify)
        if not self.ids:
            raise DataError("the matrix has a header but no rows", where=self.where)

    def read_plain(self, path: str | Path, densify: bool) -> bool:
        """Read all rows by Arrow; whether every line was plain, and every cell a number."""
        delimiter, left_out = self.lines.delimiter, self.left_out
        ids: list[str] = []
        texts: list[str] = []
        signs = 0
        for line in self.lines.plain:
            name, text = _id_and_cells(line.rstrip("\r\n"), delimiter, left_out)
            cells = text.count(delimiter) + 1
            if not self.ids and not ids and cells == len(self.columns) + 1 and not left_out:
                self.corner, self.columns = None, self.lines.header
            if cells != len(self.columns) or '"' in text or not name.strip():
                if line.isspace():
                    continue
                return False
            ids.append(name)
            texts.append(text)
            signs += len(text)
            if signs > _BLOCK_SIGNS:
                if not self._add(ids, texts, path):
                    return False
                refuse_packed((len(self.ids), len(self.columns)), path, densify)
                ids, texts, signs = [], [], 0
        named = all(map(str.strip, self.columns))
        return named and (not ids or self._add(ids, texts, path)) and bool(self.ids)

    def _add(self, ids: list[str], texts: list[str], path: str | Path) -> bool:
        delimiter, start, width = self.lines.delimiter, len(self.ids), len(self.columns)
        values = numbers_of(texts, delimiter, len(ids) * width)
        if values is None:
            return False
        self.ids += ids
        if self.room is None or len(self.room) < len(self.ids):
            # Room for all by the size of the file; it grows where that is packed. Unused is free.
            signs = 1 + sum(map(len, texts)) / len(texts)
            grown = np.empty((max(2 * len(self.ids), int(os.path.getsize(path) / signs)), width))
            grown[:start] = 0.0 if self.room is None else self.room[:start]
            self.room = grown
        self.room[start : len(self.ids)] = values.reshape(-1, width)
        digits = all(text.replace(delimiter, "").isdigit() for text in texts)
        self.whole = self.whole and digits and not np.isnan(values).any()
        return True


def _id_and_cells(line: str, delimiter: str, left_out: int) -> tuple[str, str]:
    """The id of a line, perhaps quoted, and its other cells; no id where that is not plain."""
    quoted = line.startswith('"')
    name, mark, text = line[quoted:].partition('"' * quoted + delimiter)
    for _ in range(left_out):
        between, mark, text = text.partition(delimiter)
        name += '"' * ('"' in between)
    return (name, text) if mark and '"' not in name else ("", text)


def read_sheet(path: str | Path) -> tuple[dict[str, Column], tuple[Note, ...]]:
    """Read a sheet: names of the columns in the first row, one line per specimen.

    None where a label is missing.

    Raises
    ------
    DataError
        The file is missing, empty, not text or ragged, or a column name occurs twice.
    """
    where = str(path)
    with records(path, "sheet") as lines:
        header = [name.strip() for name in lines.header]
        shorter = False
        entries: list[list[str]] = []
        for line, cells in lines:
            if not entries and len(cells) == len(header) + 1:
                header, shorter = ["id", *header], True
            entries.append(_of_width(cells, len(header), line, where))
        notes = lines.notes()
    if not entries:
        raise DataError("the sheet is empty; give one row per specimen", where=where)
    if shorter and not any(cells[-1].strip() for cells in entries):
        raise _trailing_delimiter("labels", where)
    filled = [
        place
        for place, name in enumerate(header)
        if name or place == 0 or any(cells[place].strip() for cells in entries)
    ]
    header = [header[place] for place in filled]
    return sheet_of(header, [[cells[place] for place in filled] for cells in entries], where), notes


def sheet_of(header: list[str], rows: list[list[str]], where: str) -> dict[str, Column]:
    """Turn rows of text into the columns of a sheet; None where a label is missing."""
    columns = zip(named_columns(header, where), zip(*rows, strict=True), strict=True)
    return {name: tuple(map(cell_text, entries)) for name, entries in columns}


def named_columns(header: list[str], where: str) -> list[str]:
    """Call a nameless first column ``id`` (as row names are often written); refuse others."""
    names = ["id", *header[1:]] if not header[0] and "id" not in header else header
    nameless = [str(place + 1) for place, name in enumerate(names) if not name]
    if nameless:
        raise refuse_nameless("sheet", nameless, where)
    if twice := repeated(names):
        raise DataError(
            f"sheet columns occur more than once: {listed(map(repr, twice))}", where=where
        )
    return names


def _numbers(texts: list[str], row: str, columns: list[str], where: str) -> Floats:
    # The quick way serves lines without missing values.
    if "_" not in "".join(texts):
        try:
            return np.array(texts, dtype=np.float64)
        except ValueError:
            pass
    values = np.empty(len(texts))
    for place, text in enumerate(texts):
        try:
            values[place] = number(text)
        except ValueError:
            raise refuse_text(where, text, row, columns[place]) from None
    return values


def _of_width(cells: list[str], width: int, line: int, where: str) -> list[str]:
    """The cells of a line, of which further ones must be empty, as spreadsheets leave them."""
    if len(cells) < width or any(cell.strip() for cell in cells[width:]):
        raise _ragged(where, line, len(cells), width)
    return cells[:width]


def _trailing_delimiter(what: str, where: str) -> DataError:
    return DataError(
        f"every line but the header ends with a delimiter; remove it, or the {what} would be "
        "read under the name of their neighbour",
        where=where,
    )


def _ragged(where: str, line: int, found: int, wanted: int) -> DataError:
    return DataError(
        f"line {line} has {found} cells where the header makes {wanted} expected; "
        "a delimiter may be missing or stand inside a name without quotes",
        where=where,
    )
