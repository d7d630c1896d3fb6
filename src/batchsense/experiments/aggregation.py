"""Rows of one specimen made one: replicates to their mean, counts of cells to their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.columns import label_factor, unit_factor
from batchsense.experiments.tables.table import Column, Table, check
from batchsense.notes import Note

if TYPE_CHECKING:
    from anndata import AnnData


def aggregate(table: Table | AnnData, by: str | Sequence[str], needed: Sequence[str] = ()) -> Table:
    """Make one specimen of all rows that share their entries of some columns.

    Counts are summed, other values averaged over the rows in which they were observed. Columns of
    the sheet that are constant within every specimen stay; the others are left out, with a note.

    Parameters
    ----------
    table : Table or AnnData
        Rows that are replicates, or cells.
    by : str or sequence of str
        ``"donor"``; or several columns, where one specimen is a donor under one condition.
    needed : sequence of str
        Columns that an analysis needs, so that they may not be left out.

    Raises
    ------
    DataError
        An unknown column or missing labels; one specimen only, or one for each row; a needed
        column that varies within a specimen; whole numbers that may be counts or not.

    Examples
    --------
    >>> table = Table.from_arrays(
    ...     [[1.5], [2.5], [7.5], [8.5]],
    ...     {
    ...         "donor": ["A", "A", "B", "B"],
    ...         "drug": ["no", "no", "yes", "yes"],
    ...         "well": [1, 2, 1, 2],
    ...     },
    ... )
    >>> found = aggregate(table, "donor", ["drug"])
    >>> found.values.tolist(), found.sheet["drug"], found.notes[-1].where
    ([[2.0], [8.0]], ('no', 'yes'), ('well',))
    """
    table = as_table(table)
    columns = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    where, name = table.source.sheet, " and ".join(columns)
    codes, ids = _groups(table, columns)
    count, rows = len(ids), len(codes)
    if count in (1, rows):
        what = "all rows into one specimen" if count == 1 else "no two rows into one specimen"
        raise DataError(
            f"aggregating by {name} puts {what}; name the column that says which rows are of one "
            "specimen",
            where=where,
        )
    kept: dict[str, Column] = {}
    varying = []
    firsts = np.unique(codes, return_index=True)[1]
    for column, entries in table.sheet.items():
        short = tuple(entries[first] for first in firsts)
        if all(short[code] == entry for code, entry in zip(codes.tolist(), entries, strict=True)):
            kept[column] = short
        elif column in needed:
            _refuse_varying(table, column, columns, codes, ids)
        elif column != table.source.id_column:
            varying.append(column)
    kept.setdefault(table.source.id_column, tuple(ids))
    values, how = _combined(table, codes, count)
    sizes = np.bincount(codes)
    each = f"{sizes.min():,}" if np.ptp(sizes) == 0 else f"{sizes.min():,} to {sizes.max():,}"
    message = f"{rows:,} rows became {count:,} specimens, one for each {name} ({each} rows): {how}."
    if varying:
        message += f" Left out of the sheet, because they vary within {name}: {listed(varying)}."
    whole = replace(
        table,
        values=values,
        specimens=tuple(ids),
        sheet=kept,
        notes=(*table.notes, Note("aggregated", message, tuple(varying))),
    )
    check(whole)
    return whole


def _groups(table: Table, columns: Sequence[str]) -> tuple[Integers, list[str]]:
    """The specimen of each row, in the order in which they first occur, and their names."""
    # Beside the subjects a dose may say which rows are alike; alone it cannot.
    read_labels = unit_factor if len(columns) == 1 else label_factor
    factors = [read_labels(table, column) for column in columns]
    index: dict[tuple[str, ...], int] = {}
    labels = zip(*([one.levels[code] for code in one.codes] for one in factors), strict=True)
    codes = np.array([index.setdefault(label, len(index)) for label in labels], dtype=np.int64)
    return codes, [" / ".join(label) for label in index]


def _refuse_varying(
    table: Table, column: str, by: Sequence[str], codes: Integers, ids: Sequence[str]
) -> None:
    entries = table.sheet[column]
    for code, name in enumerate(ids):
        found = dict.fromkeys(entries[row] for row in np.flatnonzero(codes == code).tolist())
        if len(found) > 1:
            options = " ".join(f"--aggregate {one}" for one in (*by, column))
            raise DataError(
                f"column {column!r} varies within {' and '.join(by)} {name!r}: "
                f"{listed((repr(one) if one else 'no label' for one in found), 4)}. Leave it out "
                f"of the question, or make one specimen of each combination: {options}",
                where=table.source.sheet,
            )


def _combined(table: Table, codes: Integers, count: int) -> tuple[Floats, str]:
    """Sums of counts, means of the observed values otherwise; and which it was."""
    read, values = table.values_read(), table.values
    if read.whole and read.lowest >= 0 and not read.declared and read.kind != "counts":
        raise DataError(
            f"the values were read as {read}. Counts are summed and other values averaged, so say "
            "what they are: --values counts, or --values numbers (values_are in Python)",
            where=table.source.matrix,
        )
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(count))
    if read.kind == "counts":  # a missing count makes a missing sum
        return np.add.reduceat(values[order], starts, axis=0), "counts were summed"
    seen = ~np.isnan(values[order])
    sums = np.add.reduceat(np.where(seen, values[order], 0.0), starts, axis=0)
    observed = np.add.reduceat(seen, starts, axis=0, dtype=np.int64)
    means = np.where(observed > 0, sums / np.maximum(observed, 1), np.nan)
    return means, "values were averaged"
