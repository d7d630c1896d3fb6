"""The sheet and the ids that belong to a matrix on disk, without reading the matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from batchsense.errors import DataError, MissingExtraError, listed
from batchsense.experiments.tables.alignment import align
from batchsense.experiments.tables.annotated import frame_of, sheet_of_frame
from batchsense.experiments.tables.columns import column
from batchsense.experiments.tables.elements import Frame
from batchsense.experiments.tables.reading import read_sheet
from batchsense.experiments.tables.table import Column, Source, Table, repeated
from batchsense.notes import Note
from batchsense.storage.matrices.location import MatrixLocation, open_hdf5, open_zarr


def describe(
    location: MatrixLocation, sheet: str | Path | None = None, id_column: str | None = None
) -> Table:
    """A table without its values: ids, sheet and source of a matrix that stays on disk.

    The sheet is the annotation of the AnnData store if left out.

    Raises
    ------
    DataError
        The ids of the sheet do not match the specimens, ids occur twice, a feature has the name of
        a column of the sheet, or there is no sheet.
    """
    if not location.inside:
        return _of_plain_array(location, sheet, id_column)
    observations, variables = _annotation(location)
    specimens, features = observations.index, variables.index
    if sheet is None:
        entries, categorical = sheet_of_frame(observations, location.path)
        notes: tuple[Note, ...] = ()
    else:
        entries, categorical, notes = read_sheet(sheet)
    sheet_name = str(location.path if sheet is None else sheet)
    if id_column is not None:
        column(entries, id_column, sheet_name)
    found = align(specimens, features, entries, id_column, (location.path, sheet_name))
    if found.axis == "column":
        raise DataError(
            "the sheet describes the variables (columns) of the store; out of core the specimens "
            "must be its observations (rows), so transpose it, or correct it in memory "
            "(--no-out-of-core)",
            where=location.path,
        )
    aligned = {name: tuple(labels[r] for r in found.sheet_rows) for name, labels in entries.items()}
    source = Source(
        location.path,
        sheet_name,
        id_column=found.id_column,
        dtype=str(location.working),
        layer=location.layer,
    )
    notes = (*notes, *found.notes)
    labels = set(aligned) - {found.id_column}
    if shared := [one for one in features if one.strip() in labels]:
        raise DataError(
            f"features have names of columns of the sheet: {listed(map(repr, shared))}; rename one "
            "of the two, or correct in memory (--no-out-of-core), which compares their contents",
            where=location.path,
        )
    return _checked(location, specimens, features, aligned, source, categorical, notes)


def _of_plain_array(
    location: MatrixLocation, sheet: str | Path | None, id_column: str | None
) -> Table:
    if sheet is None:
        raise DataError(
            "a plain array needs a sheet: one row per specimen, in order", location.path
        )
    entries, categorical, notes = read_sheet(sheet)
    name = id_column or next(iter(entries))
    ids = column(entries, name, str(sheet))
    rows = len(ids)
    if rows != location.shape[0]:
        raise DataError(
            f"the array has {location.shape[0]} rows and no ids, the sheet {rows} rows; give one "
            "row per specimen, in the order of the array",
            where=str(sheet),
        )
    if None in ids or repeated([str(entry) for entry in ids]):
        raise DataError(f"column {name!r} must name every specimen once", where=str(sheet))
    note = Note(
        "rows_by_position",
        "The array carries no ids: the rows of the sheet were taken to be its rows, in order. An "
        "AnnData store carries ids, and is matched by them.",
    )
    return _checked(
        location,
        tuple(str(entry) for entry in ids),
        tuple(f"feature {number + 1}" for number in range(location.shape[1])),
        entries,
        Source(location.path, str(sheet), id_column=name, dtype=str(location.working)),
        categorical,
        (*notes, note),
    )


def _checked(
    location: MatrixLocation,
    specimens: tuple[str, ...],
    features: tuple[str, ...],
    entries: dict[str, Column],
    source: Source,
    categorical: frozenset[str],
    notes: tuple[Note, ...],
) -> Table:
    if (len(specimens), len(features)) != location.shape:
        raise DataError(
            f"{len(specimens)} specimen ids and {len(features)} feature ids do not fit a matrix of "
            f"shape {location.shape}",
            where=location.path,
        )
    if location.shape[0] < 2 or location.shape[1] < 1:
        raise DataError("at least 2 specimens and 1 feature are needed", where=location.path)
    values = np.empty((len(specimens), 0))
    return Table(values, specimens, features, entries, source, categorical, notes)


def _annotation(location: MatrixLocation) -> tuple[Frame, Frame]:
    if location.store == "zarr":
        return _frames(open_zarr(location.path), location.path)
    with open_hdf5(location.path) as root:
        return _frames(root, location.path)


def _frames(root: Any, path: str) -> tuple[Frame, Frame]:
    missing = [name for name in ("obs", "var") if name not in root]
    if missing:
        raise DataError(f"not an AnnData store: it has no {listed(missing)}", where=path)
    try:
        observations, variables = frame_of(root["obs"]), frame_of(root["var"])
    except ImportError:
        raise MissingExtraError("AnnData files", "experiments") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"its annotation cannot be read: {error}", where=path) from None
    if observations is None or variables is None:
        raise DataError("its annotation has the layout of long ago; write it anew", where=path)
    return observations, variables
