"""Read a matrix and its sheet into a table, matched by id."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables import annotated, delimited, tenx, workbook
from batchsense.experiments.tables.alignment import align
from batchsense.experiments.tables.arrow import parquet
from batchsense.experiments.tables.columns import column
from batchsense.experiments.tables.matrix import (
    DELIMITERS,
    KNOWN,
    LARGEST_EXACT,
    RawMatrix,
    refuse_text,
    suffix_of,
)
from batchsense.experiments.tables.overlap import set_aside
from batchsense.experiments.tables.table import Column, Source, Table, check, repeated
from batchsense.experiments.tables.text import number
from batchsense.experiments.value_kinds import ValueKind
from batchsense.notes import Note
from batchsense.storage.inputs import check_input


def read(
    matrix: str | Path,
    sheet: str | Path | None = None,
    id_column: str | None = None,
    densify: bool = False,
    layer: str | None = None,
    values_are: ValueKind | None = None,
    sheet_columns: Sequence[str] = (),
) -> Table:
    """Read a matrix of observations and the sheet of its specimens.

    The file names tell the formats. Which axis of the matrix holds the specimens is told by the
    ids of the sheet (see :func:`~batchsense.experiments.tables.alignment.align`), and rows are
    matched by id, never by position.

    Parameters
    ----------
    matrix : path
        ``.csv``, ``.tsv``, ``.txt`` (each also ``.gz``), ``.parquet``, ``.xlsx`` (also
        ``FILE.xlsx#Sheet``), ``.h5ad``, ``.zarr`` or a folder with a ``matrix.mtx`` as 10x Genomics
        writes it; empty cells and ``NA`` are missing values.
    sheet : path, optional
        ``.csv``, ``.tsv``, ``.txt`` (each also ``.gz``), ``.parquet`` or ``.xlsx`` (also
        ``FILE.xlsx#Sheet``), one row per specimen. May be left out for ``.h5ad`` and ``.zarr``,
        whose ``obs`` then serves.
    id_column : str, optional
        The column of the sheet that holds the ids; by default the first column, or else the only
        one that matches.
    densify : bool
        Whether a sparse matrix, or a small file, may be unfolded to more than 4 GB.
    layer : str, optional
        The layer of an AnnData file to read; its ``X`` by default.
    values_are : {"counts", "log", "intensities", "bounded", "numbers"}, optional
        What the values are; else they are looked at, and a note says as what they were read.
    sheet_columns : sequence of str
        Columns of ``matrix`` that are its sheet, where it is one wide table of specimens: ids in
        the first column or ``id_column``, features in all others. Then there is no other sheet.

    Raises
    ------
    DataError
        A file is missing, empty or malformed, or it is an address or a pipe; the ids do not match
        exactly one axis, ids occur twice, a value is text or infinite, a feature has the name of a
        column of the sheet and other content, or both are one file; names the file, rows and
        columns concerned.
    MissingExtraError
        Parquet or AnnData files without the ``experiments`` extra.
    """
    check_input(matrix)
    if sheet_columns:
        return _read_wide(matrix, sheet, id_column, sheet_columns, values_are)
    if sheet is not None:
        _refuse_one_file(matrix, sheet)
    raw, entries, categorical = _read_matrix(matrix, densify, layer)
    notes: tuple[Note, ...] = ()
    if sheet is not None:
        entries, categorical, notes = read_sheet(sheet)
    if not entries:
        raise DataError(
            "a sheet is needed: one row per specimen, with its id and its batch; for one wide "
            "table name its columns that are no features: --sheet-columns"
        )
    sheet_name = str(matrix if sheet is None else sheet)
    if id_column is not None:
        column(entries, id_column, sheet_name)  # an unknown name is refused with the nearest one
    found = align(raw.row_ids, raw.column_ids, entries, id_column, (str(matrix), sheet_name))
    by_rows = found.axis == "row"
    table = Table(
        values=raw.values if by_rows else raw.values.T,
        specimens=raw.row_ids if by_rows else raw.column_ids,
        features=raw.column_ids if by_rows else raw.row_ids,
        sheet={n: tuple(labels[r] for r in found.sheet_rows) for n, labels in entries.items()},
        source=Source(
            matrix=str(matrix),
            sheet=sheet_name,
            orientation="specimens × features" if by_rows else "features × specimens",
            id_column=found.id_column,
            corner=raw.corner,
            dtype=raw.dtype,
            layer=layer,
        ),
        categorical=categorical,
        notes=(*raw.notes, *notes, *found.notes),
        values_are=values_are,
    )
    check(table)
    return set_aside(table).remarked()


def _refuse_one_file(matrix: str | Path, sheet: str | Path) -> None:
    """Refuse one file in both places: its labels would be features."""
    same = str(matrix) == str(sheet)
    with contextlib.suppress(OSError):
        # Two worksheets of one workbook are two tables.
        same = same or ("#" not in f"{matrix}{sheet}" and Path(matrix).samefile(sheet))
    if same:
        raise DataError(
            "one file is given as matrix and as sheet; leave the sheet out, and for a wide table "
            "name its columns that are no features: --sheet-columns",
            where=str(matrix),
        )


def _read_wide(
    path: str | Path,
    sheet: str | Path | None,
    id_column: str | None,
    columns: Sequence[str],
    values_are: ValueKind | None,
) -> Table:
    """Read one table of specimens whose columns are ids, a sheet and features."""
    where = str(path)
    if sheet is not None:
        raise DataError("columns of the matrix are named as its sheet, and a sheet is given", where)
    entries, categorical, notes = read_sheet(path)
    id_name = id_column or next(iter(entries))
    ids = column(entries, id_name, where)
    labels = {name: column(entries, name, where) for name in columns if name != id_name}
    features = [name for name in entries if name != id_name and name not in labels]
    if None in ids or repeated([str(one) for one in ids]) or not features:
        wrong = "must name every specimen once" if features else "has no features beside it"
        raise DataError(f"column {id_name!r} {wrong}; --id names another", where=where)
    values = np.empty((len(ids), len(features)))
    for place, name in enumerate(features):
        for row, text in enumerate(entries[name]):
            try:
                values[row, place] = np.nan if text is None else number(text)
            except ValueError:
                raise refuse_text(where, str(text), str(ids[row]), name) from None
    table = Table(
        values=values,
        specimens=tuple(str(one) for one in ids),
        features=tuple(features),
        sheet={id_name: ids, **labels},
        source=Source(
            where,
            where,
            id_column=id_name,
            corner=id_name,
            dtype=_written_as(values, entries, features),
            sheet_columns=tuple(labels),
        ),
        categorical=categorical & set(labels),
        notes=(*notes, _wide_note(features, labels)),
        values_are=values_are,
    )
    check(table)
    return set_aside(table).remarked()


def _wide_note(features: Sequence[str], labels: Mapping[str, Column]) -> Note:
    message = (
        f"Read as one wide table: {listed(map(repr, labels))} as its sheet, all other columns as "
        f"features: {listed(map(repr, features), 3)}."
    )
    return Note("wide_table", message, tuple(labels))


def _written_as(values: Floats, entries: Mapping[str, Column], features: Sequence[str]) -> str:
    """Whole numbers where all are written in digits only, as counts are."""
    texts = (text for name in features for text in entries[name])
    whole = all(text is not None and text.isdigit() for text in texts)
    return "int64" if whole and np.abs(values).max() <= LARGEST_EXACT else "float64"


def _read_matrix(
    path: str | Path, densify: bool, layer: str | None
) -> tuple[RawMatrix, dict[str, Column], frozenset[str]]:
    suffix = suffix_of(workbook.split(path)[0])
    if layer is not None and suffix not in annotated.SUFFIXES:
        raise DataError("only .h5ad and .zarr files have layers", where=str(path))
    if suffix in annotated.SUFFIXES:
        return annotated.read(path, densify, layer)
    if suffix in DELIMITERS:
        matrix = delimited.read_matrix(path, densify)
    elif suffix == ".parquet":
        matrix = parquet.read_matrix(path, densify)
    elif suffix == workbook.SUFFIX:
        matrix = workbook.read_matrix(path)
    elif suffix == ".mtx":
        matrix = tenx.read(path, densify)
    else:
        raise _unknown(path, "file")
    return matrix, {}, frozenset()


def read_sheet(path: str | Path) -> tuple[dict[str, Column], frozenset[str], tuple[Note, ...]]:
    """Read a sheet of specimens by the suffix of its file.

    None stands where a label is missing; columns that the file itself declares to be categories
    are named, and notes say what was passed over.

    Raises
    ------
    DataError
        The file is missing, empty or malformed, or of an unknown kind.
    """
    check_input(path)
    suffix = suffix_of(workbook.split(path)[0])
    if suffix in DELIMITERS:
        entries, notes = delimited.read_sheet(path)
        return entries, frozenset(), notes
    if suffix == ".parquet":
        return *parquet.read_sheet(path), ()
    if suffix == workbook.SUFFIX:
        entries, notes = workbook.read_sheet(path)
        return entries, frozenset(), notes
    raise _unknown(path, "sheet")


def _unknown(path: str | Path, kind: str) -> DataError:
    suffix = suffix_of(path)
    if suffix in (".rds", ".rda", ".rdata"):
        return DataError(f"R's own format is not read. {EXPORT}", where=str(path))
    if Path(path).is_dir():
        return DataError(
            "a folder without a matrix.mtx or matrix.mtx.gz; name a folder as 10x Genomics writes "
            "it, or a file",
            where=str(path),
        )
    hint = "save it as .xlsx. Known" if suffix == ".xls" else "known"
    return DataError(f"unknown kind of {kind} {suffix!r}; {hint}: {KNOWN}", where=str(path))


#: How to leave R with every digit.
EXPORT = """Export the matrix from R with all its digits:
  x <- as.matrix(readRDS("FILE.rds"))  # or assay(...), or GetAssayData(...) of Seurat
  x <- cbind(id = rownames(x), formatC(x, digits = 17, width = 1, format = "g"))
  write.table(x, gzfile("matrix.tsv.gz"), sep = "\t", quote = FALSE, row.names = FALSE)"""
