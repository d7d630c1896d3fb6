"""A table on disk as whatever reads it sees it: how many rows, of what, and how they are stored."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from batchsense.arrays import Integers, Matrix
from batchsense.errors import DataError
from batchsense.storage.rows.fingerprint import Stamp

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Rows from ``low`` to ``high``, the second not included.
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that every row has.

    Attributes
    ----------
    name : str
        Its column; empty for the rows of a plain array.
    dtype : numpy.dtype
        Type of its numbers; ``object`` for texts.
    shape : tuple of int
        Of one row.
    row_bytes : int
        What a row of it takes in a pool.
    levels : tuple of str
        What the numbers of a categorical column stand for; empty for others.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row_bytes: int
    levels: tuple[str, ...] = ()

    @classmethod
    def dense(cls, name: str, dtype: np.dtype[Any], shape: tuple[int, ...] = ()) -> Field:
        """A field all of whose numbers are stored."""
        return cls(name, dtype, shape, dtype.itemsize * math.prod(shape))

    @property
    def minibatch_bytes(self) -> int:
        """What a row of it takes in a minibatch, where nothing is sparse."""
        return max(self.dtype.itemsize * math.prod(self.shape), self.row_bytes * (not self.shape))


@dataclass(slots=True)
class Rows:
    """Some rows in memory, sparse ones as they are stored.

    Attributes
    ----------
    arrays : dict of str to ndarray
        By the names of fields, of shape (rows, ...).
    sparse : dict of str to csr_matrix
        Those that are stored without their zeros.
    whole : ndarray or None
        The one array, perhaps a structured one, whose rows these are; None if there are several.
    """

    arrays: dict[str, Matrix]
    sparse: dict[str, csr_matrix] = field(default_factory=dict)
    whole: Matrix | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return int(next(iter([*self.arrays.values(), *self.sparse.values()])).shape[0])

    def take(self, places: Integers) -> dict[str, Matrix]:
        """Copy rows, by place, with their zeros."""
        found = {name: values[places] for name, values in self.arrays.items()}
        return found | {name: matrix[places].toarray() for name, matrix in self.sparse.items()}


#: Reads spans of rows; what it gave before is overwritten.
Fill: TypeAlias = Callable[[Sequence[Span]], Rows]


@dataclass(frozen=True)
class RowSource(abc.ABC):
    """A table on disk.

    Attributes
    ----------
    path : str
        The file or folder.
    rows : int
        How many there are.
    fields : tuple of Field
        What each row has.
    unit : int
        Rows that are stored together: reading one unpacks them all. 1 where rows lie one by one.
    unit_bytes : int
        What unpacking them takes beside the rows themselves.
    unit_place : str
        Where the largest of these units lies, in words.
    stamp : Stamp
        Tells whether the file is still the one that was looked at.
    """

    path: str
    rows: int
    fields: tuple[Field, ...]
    unit: int
    unit_bytes: int
    unit_place: str
    stamp: Stamp

    @property
    def row_bytes(self) -> int:
        """What a row takes in a pool."""
        return max(sum(one.row_bytes for one in self.fields), 1)

    @property
    def minibatch_row_bytes(self) -> int:
        """What a row takes in a minibatch, with its zeros."""
        return max(sum(one.minibatch_bytes for one in self.fields), 1)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Fill]:
        """Open the table and give the function that reads spans of it into one place in memory.

        Raises
        ------
        DataError
            The file cannot be read, or is not the one any more that was looked at.
        """
        self.stamp.check()
        with self._opened() as fill:

            def checked(spans: Sequence[Span]) -> Rows:
                self.stamp.check()
                return fill(spans)

            yield checked

    @abc.abstractmethod
    def _opened(self) -> contextlib.AbstractContextManager[Fill]:
        """Give the function that reads spans, all of whose rows exist."""


class Room:
    """Arrays that are made once and filled again and again."""

    def __init__(self) -> None:
        self._held: dict[str, Matrix] = {}

    def get(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Matrix:
        """An array of this shape, in what an earlier one of the name occupied if that suffices."""
        held = self._held.get(name)
        if held is None or held.dtype != dtype or len(held) < shape[0]:
            self._held.pop(name, None)
            del held  # before the larger one is made
            held = np.empty(shape, dtype)
            self._held[name] = held
        return held[: shape[0]]


def count_rows(spans: Sequence[Span]) -> int:
    """How many rows some spans have together."""
    return sum(high - low for low, high in spans)


def place(path: str, low: int, high: int) -> str:
    """Name rows of a file, counted from 1.

    Examples
    --------
    >>> place("x.npy", 0, 8)
    'x.npy, rows 1 to 8'
    """
    return f"{path}, rows {low + 1} to {high}"


def refuse_empty(path: str | Path, rows: int) -> None:
    """Refuse a table without rows."""
    if rows < 1:
        raise DataError("there are no rows in it", where=str(path))
