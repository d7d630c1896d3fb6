"""Matrices as AnnData files (.h5ad): ``X`` is read and never changed, results go to a layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsense.errors import DataError, MissingExtraError
from batchsense.experiments.tables.matrix import RawMatrix, free_name
from batchsense.experiments.tables.parquet import sheet_of
from batchsense.experiments.tables.table import Column

if TYPE_CHECKING:
    from anndata import AnnData

#: The layer that holds the result, and the key under which its provenance is kept.
LAYER = "batchsense"
#: A sparse matrix is unfolded up to this size; a correction fills its zeros anyway.
DENSE_LIMIT_GB = 4.0


def read(path: str | Path) -> tuple[RawMatrix, dict[str, Column], frozenset[str]]:
    """Read ``X`` and the annotation of the observations.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    matrix : RawMatrix
        ``X``, observations in rows.
    sheet : dict
        The columns of ``obs``, the index first, as ``id``.
    categorical : frozenset of str
        Columns of ``obs`` of categorical or boolean type.

    Raises
    ------
    DataError
        The file cannot be read, has no ``X``, or ``X`` is sparse and too large to unfold.
    MissingExtraError
        anndata is not installed.
    """
    data = _read(path)
    where = str(path)
    if data.X is None:
        raise DataError("the file has no X", where=where)
    values, dtype = _dense(data.X, where)
    matrix = RawMatrix(values, tuple(data.obs_names), tuple(data.var_names), "id", dtype)
    frame = data.obs.reset_index(names=free_name("id", map(str, data.obs.columns)))
    return matrix, *sheet_of(frame, where)


def write(
    path: str | Path, original: str | Path, matrix: RawMatrix, provenance: Mapping[str, Any]
) -> None:
    """Copy an AnnData file with a result in ``layers["batchsense"]``.

    Parameters
    ----------
    path : path
        The new file.
    original : path
        The file that was read; its ``X`` and everything else are kept.
    matrix : RawMatrix
        The result, in the layout of ``X``.
    provenance : mapping
        What was done, for ``uns["batchsense"]``: text, numbers and lists of text by plain names
        (AnnData stores no lists of mappings, and no names with a slash).
    """
    data = _read(original)
    data.layers[LAYER] = matrix.values.astype(matrix.dtype, copy=False)
    data.uns[LAYER] = {key: value for key, value in provenance.items() if value not in ([], None)}
    data.write_h5ad(path)


def _read(path: str | Path) -> AnnData:
    """Read the file; say plainly why it cannot be read."""
    try:
        from anndata import read_h5ad
    except ImportError:
        raise MissingExtraError("AnnData files", "experiments") from None
    try:
        return read_h5ad(path)
    except OSError as error:
        reason = "no such file" if not Path(path).exists() else f"not an AnnData file ({error})"
        raise DataError(f"cannot be read: {reason}", where=str(path)) from None
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"not an AnnData file: {error}", where=str(path)) from None


def _dense(values: Any, where: str) -> tuple[np.ndarray[Any, np.dtype[np.float64]], str]:
    """Give ``X`` as a dense float64 array, and the type it had."""
    dtype = "float32" if values.dtype == np.float32 else "float64"
    if hasattr(values, "toarray"):
        gigabytes = values.shape[0] * values.shape[1] * 8 / 1e9
        if gigabytes > DENSE_LIMIT_GB:
            raise DataError(
                f"X is sparse and would take {gigabytes:.1f} GB as a dense matrix (limit "
                f"{DENSE_LIMIT_GB:g} GB); select features first",
                where=where,
            )
        values = values.toarray()
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise DataError(f"X holds {array.dtype}, not numbers", where=where)
    return array.astype(np.float64), dtype
