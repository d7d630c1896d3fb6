"""Which reader a table needs: by the ending of its name, and by what lies in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchsense.errors import DataError
from batchsense.storage.inputs import check_input
from batchsense.storage.rows.source import RowSource

#: Endings of names that are read.
KINDS = (".npy", ".parquet", ".zarr", ".h5ad")


def open_rows(path: str | Path, columns: Sequence[str] | None = None) -> RowSource:
    """Look at a table on disk whose rows are to be read in spans.

    A ``.npy`` file, plain or structured; a Parquet file, or a folder of its parts; a Zarr array of
    any number of axes; an AnnData file or store (``.h5ad``, ``.zarr``), dense or CSR.

    Parameters
    ----------
    path : path
        The file or folder.
    columns : sequence of str, optional
        Which columns of a Parquet file or fields of a structured array; all by default. Of an
        AnnData store ``X`` or ``layers/NAME`` and columns of ``obs``; ``X`` alone by default.

    Raises
    ------
    DataError
        It cannot be read, is of another kind, has no rows, or holds something else than numbers.
    MissingExtraError
        pyarrow, zarr or h5py is not installed.

    Examples
    --------
    >>> open_rows("atlas.csv")
    Traceback (most recent call last):
    batchsense.errors.DataError: atlas.csv: cannot be read: no such file
    """
    check_input(path)
    target, where = Path(path), str(path)
    if not target.exists():
        raise DataError("cannot be read: no such file", where=where)
    chosen = None if columns is None else tuple(dict.fromkeys(columns))
    if chosen == ():
        raise DataError("no columns were chosen", where=where)
    kind = target.suffix.lower()
    if target.is_file() and target.stat().st_size == 0:
        raise DataError("the file is empty", where=where)
    if kind == ".npy" and target.is_file():
        from batchsense.storage.rows.npy import NpyRows

        return NpyRows.of(target, chosen)
    if kind == ".parquet" or (target.is_dir() and any(target.glob("*.parquet"))):
        from batchsense.storage.rows.parquet import ParquetRows

        return ParquetRows.of(target, chosen)
    if kind in (".h5ad", ".zarr"):
        from batchsense.storage.rows.stores import rows_of_store

        return rows_of_store(target, chosen)
    raise DataError(f"not a table that is read in spans; these are: {', '.join(KINDS)}", where)
