"""Matrices and sheets as delimited text (.csv, .tsv, .txt, each also .gz), read strictly.

Every line must have as many cells as the header: a short line would otherwise become missing
values, and a long one would lose its end, both silently.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.matrix import (
    DELIMITERS,
    LARGEST_EXACT,
    RawMatrix,
    check_ids,
    refuse_text,
    suffix_of,
)
from batchsense.experiments.tables.table import Column, repeated
from batchsense.experiments.tables.text import label_text, number

_OTHER_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


def read_matrix(path: str | Path) -> RawMatrix:
    """Read a matrix: ids in the first row and in the first column, numbers elsewhere.

    A header that is one cell shorter than the lines below it (as R writes it) is understood.

    Raises
    ------
    DataError
        The file is missing, empty, not text, ragged, or a cell is not a number.
    """
    where = str(path)
    rows: list[Floats] = []
    row_ids: list[str] = []
    whole = True
    with _lines(path) as lines:
        header = _header(lines, path)
        corner: str | None = header[0]
        columns = header[1:]
        for line, cells in enumerate(lines, start=2):
            if not cells:
                continue
            if not rows and len(cells) == len(header) + 1:
                corner, columns = None, header
            if len(cells) != len(columns) + 1:
                raise _ragged(where, line, len(cells), len(columns) + 1)
            row_ids.append(cells[0])
            rows.append(_numbers(cells, columns, where))
            # Digits only, as counts are written.
            whole = whole and all(text.isdigit() for text in cells[1:])
    if not rows:
        raise DataError("the matrix has a header but no rows", where=where)
    values = np.vstack(rows)
    if corner is None and np.isnan(values[:, -1]).all():
        raise DataError(
            "every line but the header ends with a delimiter; remove it, or the numbers would be "
            "read under the name of their neighbour",
            where=where,
        )
    check_ids(tuple(row_ids), "row", where)
    check_ids(tuple(columns), "column", where)
    dtype = "int64" if whole and np.abs(values).max() <= LARGEST_EXACT else "float64"
    return RawMatrix(values, tuple(row_ids), tuple(columns), corner, dtype)


def read_sheet(path: str | Path) -> dict[str, Column]:
    """Read a sheet: names of the columns in the first row, one line per specimen.

    None where a label is missing.

    Raises
    ------
    DataError
        The file is missing, empty, not text or ragged, or a column name occurs twice.
    """
    where = str(path)
    with _lines(path) as lines:
        header = [name.strip() for name in _header(lines, path, alone=True)]
        entries: list[list[str]] = []
        for line, cells in enumerate(lines, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if not entries and len(cells) == len(header) + 1:
                header = ["id", *header]
            if len(cells) != len(header):
                raise _ragged(where, line, len(cells), len(header))
            entries.append(cells)
    if not entries:
        raise DataError("the sheet is empty; give one row per specimen", where=where)
    return sheet_of(header, entries, where)


def sheet_of(header: list[str], rows: list[list[str]], where: str) -> dict[str, Column]:
    """Turn rows of text into the columns of a sheet; None where a label is missing."""
    columns = zip(named_columns(header, where), zip(*rows, strict=True), strict=True)
    return {name: tuple(map(label_text, entries)) for name, entries in columns}


def named_columns(header: list[str], where: str) -> list[str]:
    """Call a nameless first column ``id`` (as row names are often written); refuse others."""
    names = ["id", *header[1:]] if not header[0] and "id" not in header else header
    nameless = [str(place + 1) for place, name in enumerate(names) if not name]
    if nameless:
        raise DataError(f"sheet columns without a name: number {listed(nameless)}", where=where)
    if twice := repeated(names):
        raise DataError(
            f"sheet columns occur more than once: {listed(map(repr, twice))}", where=where
        )
    return names


@contextlib.contextmanager
def _lines(path: str | Path) -> Iterator[Iterator[list[str]]]:
    target = Path(path)
    where = str(path)
    delimiter = DELIMITERS[suffix_of(path)]
    try:
        with _text(target) as stream:
            yield csv.reader(stream, delimiter=delimiter, strict=True)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text (byte {error.start}); save it as UTF-8", where) from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"the compressed file is damaged: {error}", where) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where) from None
    except csv.Error as error:
        raise DataError(f"not a delimited text file: {error}", where) from None


def _text(target: Path) -> io.TextIOBase:
    # A byte-order mark is skipped.
    if target.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(target, "rb"), encoding="utf-8-sig", newline="")
    return target.open(encoding="utf-8-sig", newline="")


def _header(lines: Iterator[list[str]], path: str | Path, alone: bool = False) -> list[str]:
    """Take the first line; notice a file that uses another delimiter than its name says."""
    header = next((cells for cells in lines if cells), None)
    if header is None:
        raise DataError("the file is empty", where=str(path))
    if len(header) == 1:
        own = DELIMITERS[suffix_of(path)]
        for mark, name in _OTHER_DELIMITERS.items():
            if mark != own and mark in header[0]:
                raise DataError(
                    f"the cells seem to be separated by {name}; a {suffix_of(path)} file needs "
                    f"{_OTHER_DELIMITERS[own]}",
                    where=str(path),
                )
        if not alone:
            raise DataError("the header has one cell only: no columns to read", where=str(path))
    return header


def _numbers(cells: list[str], columns: list[str], where: str) -> Floats:
    # The quick way serves lines without missing values.
    texts = cells[1:]
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
            raise refuse_text(where, text, cells[0], columns[place]) from None
    return values


def _ragged(where: str, line: int, found: int, wanted: int) -> DataError:
    return DataError(
        f"line {line} has {found} cells where the header makes {wanted} expected; "
        "a delimiter may be missing or stand inside a name without quotes",
        where=where,
    )
