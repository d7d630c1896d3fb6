"""AnnData in memory: tables, corrections, and what a file records of an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from batchsense.errors import DataError, listed
from batchsense.experiments.row_labels import is_annotated
from batchsense.experiments.tables.annotated import COMPLETE, LAYER, load, unpack
from batchsense.experiments.tables.matrix import stored
from batchsense.experiments.tables.overlap import set_aside, with_aside
from batchsense.experiments.tables.table import Source, Table, check
from batchsense.experiments.value_kinds import ValueKind

if TYPE_CHECKING:
    from anndata import AnnData

    from batchsense.experiments.correction.interface import Corrected


def from_anndata(
    data: AnnData,
    layer: str | None = None,
    densify: bool = False,
    values_are: ValueKind | None = None,
) -> Table:
    """Make a table of an AnnData object, with its ``obs`` as the sheet.

    Parameters
    ----------
    data : AnnData
        Specimens in rows; not changed.
    layer : str, optional
        The layer to take; ``X`` by default.
    densify : bool
        Whether a sparse matrix may be unfolded even if it takes more than 4 GB.
    values_are : {"counts", "log", "intensities", "bounded", "numbers"}, optional
        What the values are; else they are looked at, and a note says as what they were read.

    Raises
    ------
    DataError
        No such layer, ids that occur twice, infinite values, or a sparse matrix that is too large.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from batchsense.experiments import correct, into_anndata
    >>> obs = pd.DataFrame({"month": ["May", "May", "July", "July"]}, index=[*"abcd"])
    >>> data = AnnData(np.array([[1.0], [2.0], [5.0], [6.0]]), obs=obs)
    >>> into_anndata(correct(from_anndata(data), "month"), data)
    >>> data.layers["batchsense"].ravel().tolist()
    [3.0, 4.0, 3.0, 4.0]
    """
    name = "the AnnData object"
    raw, sheet, categorical = unpack(data, name, densify, layer)
    source = Source(name, "its obs", id_column=next(iter(sheet)), dtype=raw.dtype, layer=layer)
    ids = raw.row_ids, raw.column_ids
    table = Table(raw.values, *ids, sheet, source, categorical, values_are=values_are)
    check(table)
    return set_aside(table).remarked()


def as_table(given: Table | AnnData) -> Table:
    """Take a table as it is, and an AnnData object by its ``X`` and ``obs``.

    Raises
    ------
    DataError
        Something else, or as :func:`from_anndata`.

    Examples
    --------
    >>> as_table("matrix.csv")
    Traceback (most recent call last):
    batchsense.errors.DataError: a table is needed, not a str: read(...) makes one of files, ...
    """
    if isinstance(given, Table):
        return given
    if is_annotated(given):
        return from_anndata(given)
    raise DataError(
        f"a table is needed, not a {type(given).__name__}: read(...) makes one of files, "
        "Table.from_arrays(...) of arrays and data frames, from_anndata(...) of an AnnData object"
    )


def into_anndata(corrected: Corrected, data: AnnData) -> None:
    """Put a correction into an AnnData object: values into a layer, what was done into ``uns``.

    ``layers["batchsense"]`` gets the values in the type of the original where nothing is lost;
    ``uns["batchsense"]`` says by which method, for which batches, and what was kept. ``X`` stays.

    Parameters
    ----------
    corrected : Corrected
        The correction.
    data : AnnData
        The object that the table was made of; changed in place.

    Raises
    ------
    DataError
        Specimens or features of the two are not the same, in the same order.
    """
    table = corrected.table
    values, features = with_aside(table, corrected.values)
    for kind, mine, theirs in (
        ("specimens", table.specimens, tuple(data.obs_names)),
        ("features", features, tuple(data.var_names)),
    ):
        if mine != theirs:
            odd = sorted(set(mine) ^ set(theirs))
            what = f"differ: {listed(map(repr, odd), 3)}" if odd else "are in another order"
            raise DataError(f"{kind} of the correction and of the AnnData object {what}")
    record = {key: value for key, value in corrected.record().items() if value not in ([], None)}
    data.layers[LAYER] = stored(values, table.source.dtype)
    data.uns[LAYER] = {**record, COMPLETE: True}


Holds = Literal["original", "corrected", "unknown"]


@dataclass(frozen=True, slots=True)
class RecordedCorrection:
    """An earlier correction, as ``uns["batchsense"]`` of an AnnData file records it.

    Attributes
    ----------
    method : str
        Name of the correction.
    batch_labels : str
        The batch column, several joined by ``" + "``; empty if the record does not say.
    batch_columns, numeric_batches : tuple of str
        The batch columns; which of several are numbers.
    keep : tuple of str
        What was kept.
    x_holds : str
        ``"original"`` where the corrected values lie in a layer beside X, ``"corrected"`` where X
        equals that layer, ``"unknown"`` where the layer is gone.
    """

    method: str
    batch_labels: str
    batch_columns: tuple[str, ...]
    numeric_batches: tuple[str, ...]
    keep: tuple[str, ...]
    x_holds: Holds

    def kinds(self, chosen: Iterable[str] | None) -> dict[str, str]:
        """The kinds of chosen batch columns, where they were several."""
        if len(self.batch_columns) < 2:
            return {}
        return {
            name: "numeric" if name in self.numeric_batches else "categorical"
            for name in chosen or ()
            if name in self.batch_columns
        }


def recorded_correction(table: Table) -> RecordedCorrection | None:
    """Look into the AnnData file that a table was read from for an earlier correction.

    None where it is from another file, or the file records none.

    Examples
    --------
    >>> recorded_correction(Table.from_arrays([[1.0], [2.0]], {"month": [1, 2]})) is None
    True
    """
    path = Path(table.source.matrix)
    if path.suffix.lower() not in (".h5ad", ".zarr") or not path.exists():
        return None
    data = load(path, backed="r")
    found = data.uns.get(LAYER)
    if not isinstance(found, Mapping):
        return None
    several, one = found.get("batch_columns"), found.get("batch") or ()
    return RecordedCorrection(
        method=str(found.get("method", "unknown")),
        batch_labels=str(found.get("batch", "")),
        batch_columns=tuple(map(str, _listed(one if several is None else several))),
        numeric_batches=tuple(map(str, _listed(found.get("numeric_batches", ())))),
        keep=tuple(str(name) for name in _listed(found.get("keep", ()))),
        x_holds=_x_holds(table, data.layers.get(LAYER)),
    )


def _x_holds(table: Table, layer: Any) -> Holds:
    if layer is None:
        return "unknown"
    values = np.asarray(layer.toarray() if hasattr(layer, "toarray") else layer, dtype=np.float64)
    precision = 1e-6 if table.source.dtype == "float32" else 1e-12
    original, _ = with_aside(table, table.values)
    same = values.shape == original.shape and np.allclose(
        values, original, rtol=precision, atol=precision, equal_nan=True
    )
    return "corrected" if same else "original"


def _listed(entry: Any) -> Iterable[Any]:
    """The entries of a list, which AnnData may have turned into an array or a single text."""
    return [entry] if isinstance(entry, str) else list(entry)
