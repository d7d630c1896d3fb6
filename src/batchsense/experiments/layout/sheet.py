"""Sheets without a matrix: read before anything is measured, and written with the layout."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsense.errors import DataError, listed
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.row_labels import is_annotated, labelled_sheet
from batchsense.experiments.tables.columns import column
from batchsense.experiments.tables.matrix import DELIMITERS, free_name, suffix_of
from batchsense.experiments.tables.reading import read_sheet
from batchsense.experiments.tables.table import Column, Source, Table, repeated
from batchsense.experiments.tables.text import label_text
from batchsense.notes import Note
from batchsense.storage.atomic import writing

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True)
class SheetColumns(ColumnKinds):
    """Which columns of the sheet play which part, beside those that are balanced.

    Attributes
    ----------
    categorical, numeric : sequence of str
        Balanced columns whose kind is declared.
    new_column : str
        Name of the column that the layout adds.
    id_column : str, optional
        The column with the ids; by default the first one if its entries are distinct, else rows are
        named by their number.
    """

    new_column: str = "batch"
    id_column: str | None = None


def sheet_table(
    sheet: Table | AnnData | Mapping[str, Iterable[object]] | str | Path,
    id_column: str | None = None,
) -> Table:
    """A sheet as a table that has no observations yet.

    Columns that carry an index are brought into one order by it. An index of ids, such as that of
    an AnnData object, becomes the first column.
    """
    if isinstance(sheet, Table):
        return sheet
    declared: frozenset[str] = frozenset()
    notes: tuple[Note, ...] = ()
    if isinstance(sheet, str | Path):
        where = str(sheet)
        columns, declared, notes = read_sheet(sheet)
    else:
        where = "the sheet"
        sheet = _in_one_order(sheet)
        columns = {str(name): tuple(map(label_text, entry)) for name, entry in sheet.items()}
    if not columns:
        raise DataError("the sheet is empty; give one row per specimen", where=where)
    lengths = {name: len(entries) for name, entries in columns.items()}
    rows = next(iter(lengths.values()))
    if odd := [name for name, length in lengths.items() if length != rows]:
        raise DataError(f"columns differ in length: {listed(odd)}", where=where)
    if rows < 2:
        raise DataError("a layout needs two specimens or more", where=where)
    ids, name = _ids(columns, id_column, where)
    source = Source(where, where, id_column=name)
    return Table(np.zeros((rows, 1)), ids, ("none",), columns, source, declared, notes)


def _in_one_order(sheet: Any) -> Mapping[str, Iterable[object]]:
    """The columns, those of pandas in one order, with the ids that an index carries in front."""
    frame = sheet.obs if is_annotated(sheet) else sheet
    _, ordered = labelled_sheet(None, frame)
    index: Any = getattr(ordered, "index", None)
    if hasattr(index, "nlevels") and (index.name is not None or index.dtype.kind not in "iu"):
        name = free_name("id" if index.name is None else str(index.name), map(str, ordered))
        return {name: index, **ordered}
    return ordered


def _ids(
    columns: Mapping[str, Column], id_column: str | None, where: str
) -> tuple[tuple[str, ...], str]:
    name = id_column or next(iter(columns))
    entries = column(columns, name, where)
    ids = tuple(entry for entry in entries if entry is not None)
    twice = repeated(ids)
    if len(ids) == len(entries) and not twice:
        return ids, name
    if id_column is not None:
        wrong = f"ids more than once: {listed(twice)}" if twice else "rows without an id"
        raise DataError(f"column {name!r} has {wrong}", where=where)
    # Line 1 of a file is its header.
    return tuple(f"row {k + 2}" for k in range(len(entries))), name


def check_sheet_format(output: str | Path) -> None:
    """Refuse, before any work, a file that is not delimited text."""
    if suffix_of(output) not in DELIMITERS:
        raise DataError("a sheet is written as text: .csv, .tsv or .txt (also .gz)", str(output))


def sheet_text(columns: Mapping[str, Column], delimiter: str = ",") -> str:
    """Write a sheet as delimited text; nothing stands where a label is missing.

    Examples
    --------
    >>> print(sheet_text({"id": ("a", "b"), "arm": ("x", None)}), end="")
    id,arm
    a,x
    b,
    """
    stream = io.StringIO()
    lines = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows(
        ["" if entry is None else entry for entry in row]
        for row in zip(*columns.values(), strict=True)
    )
    return stream.getvalue()


def write_sheet(columns: Mapping[str, Column], output: str | Path) -> None:
    """Write a sheet to a file, in one piece or not at all."""
    check_sheet_format(output)
    text = sheet_text(columns, DELIMITERS[suffix_of(output)]).encode()
    if Path(output).suffix.lower() == ".gz":
        # Without a time stamp: equal input, equal bytes.
        text = gzip.compress(text, mtime=0)
    with writing(output) as temporary:
        temporary.write_bytes(text)
