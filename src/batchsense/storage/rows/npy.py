"""Rows of NumPy's ``.npy`` files, read at their place without mapping the file into memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsense.errors import DataError
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


@dataclass(frozen=True)
class NpyRows(RowSource):
    """Rows of an array in a ``.npy`` file; those of a structured array have named fields.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the array; for a structured one with all its fields.
    shape : tuple of int
        Of one row.
    begins : int
        Where the first row lies in the file, in bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begins: int

    @classmethod
    def of(cls, path: str | Path, columns: Sequence[str] | None = None) -> NpyRows:
        """Look at the head of a file.

        Raises
        ------
        DataError
            It is no such file, is cut short, has no rows, is stored by columns (Fortran order) or
            holds Python objects or anything else that is no number.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "x.npy")
        ...     np.save(file, np.arange(12.0).reshape(4, 3))
        ...     source = NpyRows.of(file)
        ...     with source.opened() as fill:
        ...         fill([(0, 1), (2, 3)]).take(np.array([1, 0]))[""]
        array([[6., 7., 8.],
               [0., 1., 2.]])
        """
        where = str(path)
        stamp = Stamp.of(path)
        array = _looked_at(where)
        fields = _fields(array.dtype, array.shape[1:], where)
        if columns is not None:
            fields = _chosen(fields, columns, where)
        return cls(
            path=where,
            rows=array.shape[0],
            fields=fields,
            unit=1,
            unit_bytes=0,
            unit_place="",
            stamp=stamp,
            dtype=array.dtype,
            shape=array.shape[1:],
            begins=int(array.offset),
        )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Fill]:
        room, descriptor = Room(), os.open(self.path, os.O_RDONLY)
        try:
            yield lambda spans: self._filled(descriptor, room, spans)
        finally:
            os.close(descriptor)

    @property
    def row_bytes(self) -> int:
        """All fields of a structured array lie side by side, and are read together."""
        return max(self.dtype.itemsize * int(np.prod(self.shape, dtype=int)), 1)

    def _filled(self, descriptor: int, room: Room, spans: Sequence[Span]) -> Rows:
        width = self.row_bytes
        held = room.get("", self.dtype, (count_rows(spans), *self.shape))
        into = held.reshape(-1).view(np.uint8).data
        at = 0
        for low, high in spans:
            begin, length = self.begins + low * width, (high - low) * width
            _read(descriptor, into[at : at + length], begin, place(self.path, low, high))
            at += length
        for low, high in spans:  # what was read once does not push out what others read again
            _forget(descriptor, self.begins + low * width, (high - low) * width)
        if self.dtype.names is None:
            return Rows({"": held}, whole=held)
        return Rows({one.name: held[one.name] for one in self.fields}, whole=held)


def _looked_at(where: str) -> Any:
    """The array as a map of the file, of which only the head is read."""
    try:
        array = np.load(where, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=where) from None
    except (ValueError, EOFError, SyntaxError) as error:
        message = str(error)
        if "object" in message.lower():
            raise DataError(
                "holds Python objects, not numbers; save them as numbers", where
            ) from None
        if "mmap length" in message or "larger than" in message:
            raise DataError("the file is cut short: its head promises more rows", where) from None
        raise DataError(f"not a .npy file: {message}", where=where) from None
    if not isinstance(array, np.memmap):
        raise DataError("an archive of arrays; save one array with numpy.save", where=where)
    if array.ndim < 1:
        raise DataError("a single number, no rows", where=where)
    refuse_empty(where, array.shape[0])
    if array.ndim > 1 and not array.flags.c_contiguous:
        raise DataError(
            "stored by columns (Fortran order), so a row lies in as many places as there are "
            "columns; save numpy.ascontiguousarray of it",
            where=where,
        )
    return array


def _fields(dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> tuple[Field, ...]:
    if dtype.names is None:
        _check_numbers(dtype, "the array", where)
        return (Field.dense("", dtype, shape),)
    if shape:
        raise DataError("a structured array must have one axis", where=where)
    found = []
    for name in dtype.names:
        part = dtype[name]
        _check_numbers(part.base, f"field {name!r}", where)
        found.append(Field.dense(name, part.base, part.shape))
    return tuple(found)


def _check_numbers(dtype: np.dtype[Any], what: str, where: str) -> None:
    if dtype.kind not in "biufc":
        raise DataError(f"{what} holds {dtype}, not numbers", where=where)


def _chosen(fields: tuple[Field, ...], columns: Sequence[str], where: str) -> tuple[Field, ...]:
    known = {one.name: one for one in fields}
    if list(known) == [""]:
        raise DataError("a plain array has no named columns to choose", where=where)
    for name in columns:
        if name not in known:
            raise DataError(f"no column {name!r}; there are {', '.join(known)}", where=where)
    return tuple(known[name] for name in columns)


def _read(descriptor: int, into: memoryview, begin: int, where: str) -> None:
    done = 0
    while done < len(into):
        try:
            read = os.preadv(descriptor, [into[done:]], begin + done)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=where) from None
        if read == 0:
            raise DataError("the file ends before them: it was cut short", where=where)
        done += read


def _forget(descriptor: int, begin: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_DONTNEED)
