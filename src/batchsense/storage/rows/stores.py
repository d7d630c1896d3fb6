"""Rows of Zarr arrays and of AnnData files and stores, the matrix dense or CSR."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from batchsense.arrays import Matrix
from batchsense.errors import DataError, MissingExtraError, listed
from batchsense.storage.matrices.chunks import csr_parts, opened, zarr_bounded
from batchsense.storage.matrices.location import (
    MatrixLocation,
    find,
    open_hdf5,
    open_zarr,
)
from batchsense.storage.rows.fingerprint import Stamp
from batchsense.storage.rows.source import (
    Field,
    Fill,
    Room,
    Rows,
    RowSource,
    Span,
    count_rows,
    place,
    refuse_empty,
)

#: Rows whose lengths are looked at, at most; and how many at a time.
_LENGTHS, _AT_ONCE = 65_536, 1 << 20
#: Rows that are longer than all but this share of the others count as that long.
_LONG = 0.99
#: Fills an array with the rows from ``low`` to ``high``.
_Read: TypeAlias = Callable[[int, int, Matrix], None]


def rows_of_store(path: Path, columns: Sequence[str] | None) -> RowSource:
    """Look at a Zarr array or an AnnData file or store; see :func:`open_rows`."""
    where = str(path)
    is_folder = path.is_dir()
    try:
        import h5py  # noqa: F401
        import zarr  # noqa: F401
    except ImportError:
        what = "Zarr stores" if is_folder else "AnnData files"
        raise MissingExtraError(what, "streaming") from None
    if is_folder and hasattr(array := open_zarr(where), "shape"):
        return ZarrRows.of(where, array, columns)
    return AnnDataRows.of(where, columns)


@dataclass(frozen=True)
class ZarrRows(RowSource):
    """Rows of a plain Zarr array along its first axis."""

    @classmethod
    def of(cls, path: str, array: Any, columns: Sequence[str] | None) -> ZarrRows:
        """Look at its metadata."""
        if columns is not None:
            raise DataError("a plain array has no named columns to choose", where=path)
        if array.dtype.kind not in "biufc":
            raise DataError(f"the array holds {array.dtype}, not numbers", where=path)
        if not array.shape:
            raise DataError("a single number, no rows", where=path)
        refuse_empty(path, array.shape[0])
        chunks = array.shards or array.chunks
        field = Field.dense("", array.dtype.newbyteorder("="), tuple(array.shape[1:]))
        unit = min(int(chunks[0]), int(array.shape[0]))
        # Two chunks are unpacked at a time, and what is packed lies beside.
        most = 4 * int(np.prod(chunks)) * array.dtype.itemsize
        return cls(path, int(array.shape[0]), (field,), unit, most, "its chunks", Stamp.of(path))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Fill]:
        (field,), room = self.fields, Room()
        with zarr_bounded():
            array = open_zarr(self.path)

            def read(low: int, high: int, into: Matrix) -> None:
                with told(place(self.path, low, high)):
                    into[:] = array[low:high]

            def fill(spans: Sequence[Span]) -> Rows:
                held = _gathered(spans, field, room, read)
                return Rows({"": held}, whole=held)

            yield fill


@dataclass(frozen=True)
class AnnDataRows(RowSource):
    """Rows of the matrix of an AnnData file or store, with columns of its ``obs``.

    Attributes
    ----------
    location : MatrixLocation
        Where the matrix lies.
    """

    location: MatrixLocation

    @classmethod
    def of(cls, path: str, columns: Sequence[str] | None) -> AnnDataRows:
        """Look where the matrix lies and, of a CSR one, how long its rows are."""
        chosen = list(columns or ["X"])
        matrices = [name for name in chosen if name == "X" or name.startswith("layers/")]
        if len(matrices) > 1:
            raise DataError(f"one matrix at a time, not {listed(matrices)}", where=path)
        location = find(path, matrices[0] if matrices else "X")
        refuse_empty(path, location.shape[0])
        stamp = Stamp.of(path)
        with opened_root(location) as root, told(path):
            fields = [_obs_field(root, name, location) for name in chosen if name not in matrices]
            unit, unit_bytes, where = location.rows, 4 * location.chunk_bytes, "its chunks"
            if matrices and location.form == "csr":
                matrix, longest, row = _csr_field(root, matrices[0], location)
                fields.append(matrix)
                unit, unit_bytes, where = 1, longest, f"row {row + 1}"
            elif matrices:
                fields.append(Field.dense(matrices[0], location.working, (location.shape[1],)))
            else:
                unit, unit_bytes = 1, 0
        return cls(path, location.shape[0], tuple(fields), unit, unit_bytes, where, stamp, location)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Fill]:
        room = Room()
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(opened_root(self.location))
            dense = None
            if self.location.form == "dense" and any(one.shape for one in self.fields):
                dense = stack.enter_context(opened(self.location))

            def fill(spans: Sequence[Span]) -> Rows:
                found = Rows({})
                for one in self.fields:
                    if one.shape and dense is None:
                        found.sparse[one.name] = self._sparse(root[one.name], spans, one, room)
                        continue
                    read = dense if one.shape and dense else self._obs(root, one.name)
                    found.arrays[one.name] = _gathered(spans, one, room, read)
                return found

            yield fill

    def _obs(self, root: Any, name: str) -> _Read:
        element = root[f"obs/{name}"]
        values = element if hasattr(element, "shape") else element["codes"]

        def read(low: int, high: int, into: Matrix) -> None:
            with told(place(self.path, low, high)):
                into[:] = values[low:high]

        return read

    def _sparse(self, group: Any, spans: Sequence[Span], field: Field, room: Room) -> Any:
        from scipy.sparse import csr_matrix

        with told(place(self.path, spans[0][0], spans[-1][1])):
            bounds = [np.asarray(group["indptr"][low : high + 1], np.int64) for low, high in spans]
            lengths = np.concatenate([np.diff(one) for one in bounds])
            starts = np.concatenate([[0], np.cumsum(lengths)])
            data = room.get("data", field.dtype, (int(starts[-1]),))
            indices = room.get("indices", np.dtype(np.int32), (int(starts[-1]),))
            at = 0
            for one in bounds:
                first, last = int(one[0]), int(one[-1])
                parts = csr_parts(group, first, last)
                data[at : at + last - first], indices[at : at + last - first] = parts
                at += last - first
        return csr_matrix((data, indices, starts), shape=(len(lengths), *field.shape), copy=False)


@contextlib.contextmanager
def opened_root(location: MatrixLocation) -> Iterator[Any]:
    """The file or store in which a matrix lies."""
    if location.store == "zarr":
        with zarr_bounded():
            yield open_zarr(location.path)
    else:
        with open_hdf5(location.path) as root:
            yield root


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Name the place at which a library stumbles."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read: {error}", where=where) from None


def _gathered(spans: Sequence[Span], field: Field, room: Room, read: _Read) -> Matrix:
    held = room.get(field.name, field.dtype, (count_rows(spans), *field.shape))
    at = 0
    for low, high in spans:
        read(low, high, held[at : at + high - low])
        at += high - low
    return held


def _csr_field(root: Any, name: str, location: MatrixLocation) -> tuple[Field, int, int]:
    """The matrix as a field, the bytes of its longest row and which that is."""
    starts, rows = root[name]["indptr"], location.shape[0]
    longest, where, lengths = 0, 0, []
    every = -(-rows // _LENGTHS)
    for low in range(0, rows, _AT_ONCE):
        bounds = np.asarray(starts[low : min(low + _AT_ONCE, rows) + 1], np.int64)
        found = np.diff(bounds)
        if len(found) and (found.min() < 0 or len(bounds) < min(_AT_ONCE, rows - low) + 1):
            raise DataError("the places of its rows (indptr) are broken", where=location.path)
        lengths.append(found[::every])
        if found.max(initial=0) > longest:
            longest, where = int(found.max()), low + int(found.argmax())
    held = int(root[name]["data"].shape[0])
    if int(starts[rows]) != held:
        raise DataError(f"{held} numbers are stored, {int(starts[rows])} promised", location.path)
    dtype = np.dtype(location.dtype)
    each = dtype.itemsize + 4
    typical = int(np.ceil(np.quantile(np.concatenate(lengths), _LONG)))
    field = Field(name, dtype, (location.shape[1],), typical * each + 8)
    return field, longest * (each + dtype.itemsize + 8), where


def _obs_field(root: Any, name: str, location: MatrixLocation) -> Field:
    if "obs" not in root or name not in root["obs"] or "/" in name:
        known = listed(sorted(root["obs"])) if "obs" in root else "none"
        raise DataError(f"no column {name!r} in obs; there are {known}", where=location.path)
    element = root[f"obs/{name}"]
    levels: tuple[str, ...] = ()
    if hasattr(element, "shape"):
        values = element
    elif "codes" in element and "categories" in element:
        values = element["codes"]
        levels = tuple(
            one.decode() if isinstance(one, bytes) else str(one) for one in element["categories"][:]
        )
    else:
        raise DataError(
            f"column {name!r} of obs is stored as {element.attrs.get('encoding-type')}; make it "
            "numbers or a category",
            where=location.path,
        )
    if values.dtype.kind not in "biuf" or values.shape != (location.shape[0],):
        raise DataError(f"column {name!r} of obs holds texts; make it a category", location.path)
    return Field(name, np.dtype(values.dtype), (), values.dtype.itemsize, levels)
