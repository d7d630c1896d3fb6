"""Rows of tables on disk, read in spans: NumPy arrays, Parquet, Zarr arrays, AnnData."""

from batchsense.storage.rows.opening import open_rows
from batchsense.storage.rows.source import Field, Rows, RowSource

__all__ = ["Field", "RowSource", "Rows", "open_rows"]
