"""One shuffle of a whole table on disk, after which streaming it costs no randomness.

Each row is thrown into a bucket drawn at random; a bucket fits into memory, is shuffled there, and
the buckets are written one after the other. Every order of the rows is as likely as any other, for
two reads and two writes of the table.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.storage.atomic import writing
from batchsense.storage.rows import RowSource, open_rows
from batchsense.storage.rows.npy import NpyRows
from batchsense.storage.rows.parquet import ParquetRows

#: Share of the memory that a bucket takes on average: it is shuffled into a second place, and by
#: chance some are larger.
_BUCKET = 0.35
#: Bytes of rows that are read at a time, at most; a third of the memory if that is less.
_PIECE = 64_000_000
#: Rows of a row group that is written: a stream reads whole ones.
_GROUP_BYTES = 1_000_000


def shuffle_rows(
    source: str | Path,
    output: str | Path,
    memory_bytes: int,
    seed: int = 0,
    *,
    progress: Progress = silent,
) -> None:
    """Write the rows of a table in random order, within the memory that is allowed.

    A ``.npy`` file or a plain Zarr array becomes a ``.npy`` file, Parquet becomes one Parquet file
    with all columns. Needs as much room on the disk again beside the output while it works.

    Parameters
    ----------
    source, output : path
        The table and where the shuffled one goes, in one piece or not at all.
    memory_bytes : int
        What may be taken in memory.
    seed : int
        What chooses the order.
    progress : Progress
        Told how many rows are done.

    Raises
    ------
    DataError
        The table cannot be read, the output would be of another kind, or it cannot be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "a.npy"), np.arange(6.0)[:, None])
    ...     shuffle_rows(Path(folder, "a.npy"), Path(folder, "b.npy"), 1_000_000)
    ...     np.load(Path(folder, "b.npy")).ravel()
    array([4., 0., 3., 5., 2., 1.])
    """
    table = open_rows(source)
    kind = Path(output).suffix.lower()
    wanted = ".parquet" if isinstance(table, ParquetRows) else ".npy"
    if [one.name for one in table.fields] != [""] and not isinstance(table, NpyRows | ParquetRows):
        raise DataError(
            "AnnData is not shuffled: ids and annotation would have to follow. Shuffle the "
            "observations before the file is written, or give more memory",
            where=table.path,
        )
    if kind != wanted:
        raise DataError(
            f"rows of {table.path} are written as {wanted}; end the name with it", str(output)
        )
    buckets = max(1, -(-table.rows * table.row_bytes // max(int(_BUCKET * memory_bytes), 1)))
    generator = np.random.Generator(np.random.Philox(seed))
    with writing(output) as temporary, _beside(Path(output)) as folder:
        if isinstance(table, ParquetRows):
            _shuffle_parquet(table, temporary, folder, buckets, generator, progress)
        else:
            _shuffle_array(table, temporary, folder, (buckets, memory_bytes), generator, progress)


@contextlib.contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A folder on the disk of the output, which goes at the end."""
    try:
        with tempfile.TemporaryDirectory(prefix=".batchsense-", dir=output.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", str(output)) from None


def _shuffle_array(
    table: RowSource,
    output: Path,
    folder: Path,
    limits: tuple[int, int],
    generator: np.random.Generator,
    progress: Progress,
) -> None:
    """Scatter and gather rows of one type and length."""
    buckets, memory = limits
    (dtype, shape) = (
        (table.dtype, table.shape)
        if isinstance(table, NpyRows)
        else (table.fields[0].dtype, table.fields[0].shape)
    )
    step = max(table.unit, min(_PIECE, memory // 3) // table.row_bytes, 1)
    with table.opened() as fill:
        for low in range(0, table.rows, step):
            progress("scattering rows", low, 2 * table.rows)
            rows = fill([(low, min(low + step, table.rows))]).whole
            assert rows is not None
            chosen = generator.integers(buckets, size=len(rows))
            for bucket in np.unique(chosen):
                with (folder / f"{bucket}").open("ab") as stream:
                    rows[chosen == bucket].tofile(stream)
    done = 0
    with output.open("wb") as stream:
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (table.rows, *shape),
        }
        np.lib.format.write_array_header_2_0(stream, header)
        for bucket in range(buckets):
            progress("gathering rows", table.rows + done, 2 * table.rows)
            if not (piece := folder / f"{bucket}").exists():
                continue
            rows = np.fromfile(piece, dtype=dtype).reshape(-1, *shape)
            piece.unlink()
            rows[generator.permutation(len(rows))].tofile(stream)
            done += len(rows)
    if done != table.rows:
        raise DataError(f"{done} of {table.rows} rows were written", where=str(output))


def _shuffle_parquet(
    table: ParquetRows,
    output: Path,
    folder: Path,
    buckets: int,
    generator: np.random.Generator,
    progress: Progress,
) -> None:
    """Scatter and gather rows of Arrow tables, whatever their columns hold."""
    import pyarrow
    from pyarrow import parquet

    schema: Any = None
    with contextlib.ExitStack() as stack:
        writers: dict[int, Any] = {}
        for group in table.groups:
            progress("scattering rows", group.begins, 2 * table.rows)
            rows = parquet.ParquetFile(group.file).read_row_group(group.number, use_threads=False)
            schema = schema or rows.schema
            chosen = generator.integers(buckets, size=rows.num_rows)
            for bucket in map(int, np.unique(chosen)):
                if bucket not in writers:
                    writers[bucket] = stack.enter_context(
                        pyarrow.ipc.new_stream(str(folder / f"{bucket}"), schema)
                    )
                writers[bucket].write_table(rows.take(np.flatnonzero(chosen == bucket)))
    done = 0
    with parquet.ParquetWriter(output, schema) as writer:
        for bucket in range(buckets):
            progress("gathering rows", table.rows + done, 2 * table.rows)
            if not (piece := folder / f"{bucket}").exists():
                continue
            with pyarrow.OSFile(str(piece)) as stream, pyarrow.ipc.open_stream(stream) as reader:
                rows = reader.read_all()
            piece.unlink()
            rows = rows.take(generator.permutation(rows.num_rows))
            group_rows = max(1, min(_GROUP_BYTES // table.row_bytes, rows.num_rows))
            writer.write_table(rows, row_group_size=group_rows)
            done += rows.num_rows
    if done != table.rows:
        raise DataError(f"{done} of {table.rows} rows were written", where=str(output))
