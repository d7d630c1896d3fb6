"""What a file says of an earlier correction: its provenance, and which values its X holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from batchsense.errors import DataError, MissingExtraError
from batchsense.experiments.tables.annotated import LAYER
from batchsense.experiments.tables.table import Table

Holds = Literal["original", "corrected", "unknown"]


@dataclass(frozen=True, slots=True)
class RecordedCorrection:
    """An earlier correction, as ``uns["batchsense"]`` of an AnnData file records it.

    Attributes
    ----------
    method : str
        Name of the correction.
    batch_labels : str
        The batch column; empty if the record does not say.
    keep : tuple of str
        What was kept.
    x_holds : str
        ``"original"`` where the corrected values lie in a layer beside X, ``"corrected"`` where X
        equals that layer, ``"unknown"`` where the layer is gone.
    """

    method: str
    batch_labels: str
    keep: tuple[str, ...]
    x_holds: Holds


def recorded_correction(table: Table) -> RecordedCorrection | None:
    """Look into the AnnData file of a table for an earlier correction.

    Parameters
    ----------
    table : Table
        A table that was read from a file.

    Returns
    -------
    RecordedCorrection or None
        None where the table is not from an AnnData file, or the file records none.

    Examples
    --------
    >>> recorded_correction(Table.from_arrays([[1.0], [2.0]], {"month": [1, 2]})) is None
    True
    """
    path = Path(table.source.matrix)
    if path.suffix.lower() not in (".h5ad", ".zarr") or not path.exists():
        return None
    data = _read(path)
    found = data.uns.get(LAYER)
    if not isinstance(found, Mapping):
        return None
    return RecordedCorrection(
        method=str(found.get("method", "unknown")),
        batch_labels=str(found.get("batch", "")),
        keep=tuple(str(name) for name in _listed(found.get("keep", ()))),
        x_holds=_x_holds(table, data.layers.get(LAYER)),
    )


def _x_holds(table: Table, layer: Any) -> Holds:
    """Compare the values that were read as X with the layer of corrected values."""
    if layer is None:
        return "unknown"
    values = np.asarray(layer.toarray() if hasattr(layer, "toarray") else layer, dtype=np.float64)
    precision = 1e-6 if table.source.dtype == "float32" else 1e-12
    same = values.shape == table.values.shape and np.allclose(
        values, table.values, rtol=precision, atol=precision, equal_nan=True
    )
    return "corrected" if same else "original"


def _listed(entry: Any) -> Iterable[Any]:
    """Give the entries of a list, which AnnData may have turned into an array or a single text."""
    return [entry] if isinstance(entry, str) else list(entry)


def _read(path: Path) -> Any:
    """Read the annotation of a file."""
    try:
        from anndata import read_h5ad, read_zarr
    except ImportError:
        raise MissingExtraError("AnnData files", "experiments") from None
    try:
        return read_h5ad(path, backed="r") if path.suffix == ".h5ad" else read_zarr(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"not an AnnData file: {error}", where=str(path)) from None
