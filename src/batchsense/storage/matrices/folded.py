"""Specimens of a sparse matrix as they are stored, unfolded a few at a time inside the cache."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from batchsense.arrays import Floats, Integers, Matrix, Places


class Unfolding(Protocol):
    """What unfolds rows of a CSR matrix; compiled."""

    def unfold(self, data: Matrix, indices: Matrix, starts: Places, *into: Any) -> None:
        """Put rows, from one feature to another, into an array, with their zeros."""

    def mix(self, data: Matrix, indices: Matrix, starts: Places, *into: Any) -> None:
        """Add rows, with signs, to rows of an array."""

    def times(self, data: Matrix, indices: Matrix, starts: Places, *by: Any) -> None:
        """Multiply rows with columns, into an array."""

    def in_order(self, indices: Matrix, starts: Places, features: int) -> bool:
        """Whether all indices are in range, and ascend in each row."""


class Folded:
    """Room for specimens of a CSR matrix, used for one block after the other.

    Attributes
    ----------
    shape : pair of int
        Specimens and features.
    dtype : data type
        Of what is unfolded.
    compiled : module
        What works on it.
    stored : triple of arrays
        Stored values, their features, and where each specimen begins.

    Examples
    --------
    >>> from batchsense.experiments.correction.two_passes import kernels
    >>> stored = {"data": np.array([1.0, 2.0]), "indices": np.array([2, 0])}
    >>> block = Folded((2, 3), "float64", kernels)
    >>> block.read(stored, np.array([0, 1, 2]))
    >>> block.rows(np.array([1, 0])).tolist()
    [[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, compiled: Unfolding) -> None:
        self.shape, self.dtype, self.compiled = shape, np.dtype(dtype), compiled
        self._room = shape[0]
        self._rooms: list[Matrix] = [np.empty(0), np.empty(0, dtype=np.int32)]
        self.stored = self._rooms[0], self._rooms[1], np.zeros(shape[0] + 1, dtype=np.int64)

    def __getitem__(self, own: slice) -> Folded:
        """The same room, for fewer specimens."""
        self.shape = (len(range(self._room)[own]), self.shape[1])
        return self

    def __len__(self) -> int:
        """Count the specimens."""
        return self.shape[0]

    def read(self, group: Any, bounds: Places) -> None:
        """Read what is stored between some bounds, as scipy does where it is in disorder."""
        first, last = int(bounds[0]), int(bounds[-1])
        length = last - first
        if hasattr(group["data"], "read_direct"):  # fresh memory is slow at first touch
            for place, name in enumerate(("data", "indices")):
                array, room = group[name], self._rooms[place]
                if len(room) < length or room.dtype != array.dtype:
                    room = np.empty(length, dtype=array.dtype)
                    self._rooms[place] = room
                array.read_direct(room, np.s_[first:last], np.s_[:length])
        else:
            self._rooms = [group["data"][first:last], group["indices"][first:last]]
        data, indices = (room[:length] for room in self._rooms)
        starts = bounds - first
        if not self.compiled.in_order(indices, starts, self.shape[1]):
            from scipy.sparse import csr_matrix

            mended = csr_matrix((data.copy(), indices.copy(), starts), shape=self.shape)
            mended.sum_duplicates()
            data, indices, starts = mended.data, mended.indices, mended.indptr
            if len(indices) and not 0 <= indices.min() <= indices.max() < self.shape[1]:
                raise ValueError("it names columns that do not exist")
        self.stored = data, indices, starts.astype(np.int64)

    def mix(self, to: Places, signs: Integers, sums: Floats) -> None:
        """Add each specimen, with its sign, to its row of some sums."""
        self.compiled.mix(*self.stored, to, signs, sums)

    def times(self, columns: Floats, weights: Floats) -> tuple[Matrix, Floats]:
        """Products with some columns, and the squared lengths of weighted specimens."""
        found = np.zeros((self.shape[0], columns.shape[1]), dtype=self.dtype)
        lengths, given = np.empty(self.shape[0]), columns.astype(self.dtype, order="C")
        self.compiled.times(*self.stored, given, weights, found, lengths)
        return found, lengths

    def rows(self, places: Places | None = None) -> Matrix:
        """Some specimens, or all, with their zeros."""
        places = np.arange(self.shape[0]) if places is None else places
        out = np.empty((len(places), self.shape[1]), dtype=self.dtype)
        self.compiled.unfold(*self.stored, places, 0, self.shape[1], out)
        return out
