"""Where the numbers of a result go: a reserved piece of an HDF5 file, or a Zarr array."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsense.arrays import Matrix
from batchsense.storage.atomic import sync_one
from batchsense.storage.matrices.chunks import zarr_bounded
from batchsense.storage.matrices.location import MatrixLocation, Store

#: Bytes of a chunk of a Zarr result where the input has none (a sparse matrix): few files, and a
#: block in memory holds several of them (see ``LARGEST_BLOCK``).
_CHUNK = 8_000_000


@dataclass(frozen=True, slots=True)
class ResultArray:
    """A location for the result, ready to be filled in any order and by several processes."""

    path: str  #: the unfinished file or store
    #: How it is written. HDF5 keeps the structure of a file in memory while it is open, and a
    #: process that is killed leaves it in an unknown state. So the structure is written before,
    #: with room for all numbers in one piece, and the numbers go straight to their place.
    store: Store
    inside: str  #: where in a Zarr store; empty for a plain array
    offset: int  #: where the numbers begin in an HDF5 file, in bytes
    flag: int  #: where the byte is that says the HDF5 file is complete
    shape: tuple[int, int]  #: specimens and features
    dtype: str  #: ``"float32"`` or ``"float64"``
    #: Blocks must begin at a multiple of this, so that no stored chunk is written twice.
    rows: int


#: ``write(low, values)`` stores specimens from ``low`` on; ``sync(low, high)`` returns when these
#: specimens are on the disk itself.
ResultWriter = tuple[Callable[[int, Matrix], None], Callable[[int, int], None]]


@contextlib.contextmanager
def filling(result: ResultArray) -> Iterator[ResultWriter]:
    """Open the room for a result.

    Raises
    ------
    OSError
        The disk is full, for example; what was synced stays.
    """
    if result.store == "hdf5":
        descriptor = os.open(result.path, os.O_RDWR)
        try:
            yield _straight(result, descriptor)
        finally:
            os.close(descriptor)
        return
    import zarr

    with zarr_bounded():
        root: Any = zarr.open(result.path, mode="r+")
        yield _chunked(result, root[result.inside] if result.inside else root)


def _straight(result: ResultArray, descriptor: int) -> ResultWriter:
    width = result.shape[1] * np.dtype(result.dtype).itemsize

    def write(low: int, values: Matrix) -> None:
        rest = np.ascontiguousarray(values, dtype=result.dtype).data.cast("B")
        at = result.offset + low * width
        while rest:
            done = os.pwrite(descriptor, rest, at)
            rest, at = rest[done:], at + done

    return write, lambda low, high: os.fdatasync(descriptor)


def _chunked(result: ResultArray, array: Any) -> ResultWriter:
    def write(low: int, values: Matrix) -> None:
        array[low : low + len(values)] = values

    def sync(low: int, high: int) -> None:
        columns = range(-(-result.shape[1] // chunk_shape(array)[1]))
        for row in range(low // result.rows, -(-high // result.rows)):
            for column in columns:
                sync_one(
                    Path(result.path, result.inside, array.metadata.encode_chunk_key((row, column)))
                )

    return write, sync


def result_rows(location: MatrixLocation) -> int:
    """The specimens per stored chunk of the result, before there is one.

    Examples
    --------
    >>> layout = ("csr", (9_000, 20_000), "float32", 1, 0, 0)
    >>> result_rows(MatrixLocation("m.zarr", "zarr", "X", *layout))
    100
    """
    if location.store == "hdf5":
        return 1
    if location.form == "dense":
        return location.rows
    width = location.shape[1] * location.working.itemsize
    return min(max(1, _CHUNK // width), location.shape[0])


def chunk_shape(array: Any) -> tuple[int, int]:
    """The shape of what is stored in one file: a shard where there are shards."""
    rows, columns = array.shards or array.chunks
    return int(rows), int(columns)
