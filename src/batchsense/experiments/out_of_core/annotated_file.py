"""Results in AnnData files: a copy of the input with room for a layer, marked as unfinished."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from batchsense.experiments.out_of_core.result_array import ResultArray
from batchsense.experiments.tables.elements import ARRAY, FOLDER, write_folder
from batchsense.storage.matrices.location import COMPLETE, MARK, MatrixLocation, open_hdf5

#: Bytes that the system is asked to copy at a time, and that are copied through this process at a
#: time: large enough to go at the speed of the disk, small enough to stop within a second.
_COPIED, _PIECE = 1 << 26, 1 << 20


def copy_original(location: MatrixLocation, work: Path, with_matrix: bool, stop: Event) -> None:
    """Copy the input, or all of it but the matrix, by the system or in small pieces.

    ``with_matrix`` says whether the original numbers are copied too; ``stop`` is set by who no
    longer waits for the end.
    """
    work.unlink(missing_ok=True)
    if with_matrix:
        copy_file(Path(location.path), work, stop)
        return
    import h5py

    with open_hdf5(location.path) as source, h5py.File(work, "w") as target:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        _copy_members(source, target, location.inside)


def _copy_members(source: Any, target: Any, left_out: str) -> None:
    first, _, rest = left_out.partition("/")
    for name in source:
        if name != first:
            source.copy(source[name], target, name)
        elif rest:
            group = target.create_group(name)
            group.attrs.update(source[name].attrs)
            _copy_members(source[name], group, rest)


def copy_file(source: Path, target: Path, stop: Event) -> None:
    """Copy a file without taking it into this process, where the system can do that.

    ``stop`` is set by who no longer waits for the end.
    """
    with source.open("rb") as read, target.open("wb") as written:
        with contextlib.suppress(OSError, AttributeError):
            while not stop.is_set() and os.copy_file_range(
                read.fileno(), written.fileno(), _COPIED
            ):
                pass
        # Whatever the system could not copy follows; both files stand where it stopped.
        while not stop.is_set() and (piece := read.read(_PIECE)):
            written.write(piece)


def reserve(location: MatrixLocation, work: Path, provenance: Mapping[str, Any]) -> ResultArray:
    """Make room for the layer and write everything but its numbers.

    ``provenance`` is what was done: text, numbers and lists of text by plain names.
    """
    import h5py

    with h5py.File(work, "r+") as root:
        layers, notes = group_in(root, "layers"), group_in(root, "uns")
        if MARK in layers:
            del layers[MARK]
        write_folder(notes, MARK, unfinished(provenance))
        reserved = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        reserved.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        reserved.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        numbers = h5py.h5d.create(
            layers.id,
            MARK.encode(),
            h5py.h5t.py_create(location.working, logical=True),
            h5py.h5s.create_simple(location.shape),
            reserved,
        )
        layers[MARK].attrs.update(ARRAY)
        root.flush()
        offset, flag = numbers.get_offset(), notes[MARK][COMPLETE].id.get_offset()
    return ResultArray(
        str(work), "hdf5", f"layers/{MARK}", offset, flag, location.shape, str(location.working), 1
    )


def mark_complete(result: ResultArray) -> None:
    """Say in the file that it is complete: one byte, after all numbers are on the disk."""
    descriptor = os.open(result.path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        os.pwrite(descriptor, b"\x01", result.flag)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def group_in(root: Any, name: str) -> Any:
    """A group of an AnnData file or store; made if it is missing."""
    if name not in root:
        root.create_group(name).attrs.update(FOLDER)
    return root[name]


def unfinished(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of itself while it is being written; what is empty is left out."""
    known = {key: value for key, value in provenance.items() if value not in ([], None)}
    return {**known, COMPLETE: np.bool_(False)}
