"""Passes over runs of features: all specimens of some features are in memory at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Matrix
from batchsense.errors import DataError
from batchsense.experiments.out_of_core import budget
from batchsense.experiments.out_of_core.budget import Blocks
from batchsense.experiments.out_of_core.runs import SpecimenRun
from batchsense.experiments.out_of_core.summing import Totals
from batchsense.experiments.tables.matrix import refuse_magnitude
from batchsense.machine_memory import format_bytes
from batchsense.storage.matrices.chunks import Reader, opened_by_feature
from batchsense.storage.matrices.location import MatrixLocation

#: Numbers that are worked on at a time, in double precision: 8 MB, and a few copies of them.
_AT_ONCE, _COPIES = 1_000_000, 6

#: ``ask(values, low)``: what is added up over features, and what each of them tells, from values of
#: shape (specimens, features) that begin at feature ``low``. The last axis of the latter is theirs.
Ask = Callable[[Floats, int], tuple[dict[str, Floats], dict[str, Floats]]]


@dataclass(frozen=True, slots=True, eq=False)
class ByFeature:
    """A question that is asked of all features, a few at a time."""

    location: MatrixLocation  #: the whole matrix
    ask: Ask  #: what is asked; can be pickled
    held: int  #: bytes that its state takes

    @property
    def total(self) -> int:
        """How many features there are."""
        return self.location.shape[1]

    @property
    def aligned(self) -> int:
        """Features that are stored together, where not all are."""
        return 1 if self._whole_rows else -(-self.total // max(self.location.chunks_per_row, 1))

    @property
    def _whole_rows(self) -> bool:
        """Whether each run goes through all that is stored."""
        return self.location.form == "csr" or self.location.chunks_per_row == 1

    @property
    def width(self) -> int:
        """Bytes of a feature."""
        return self.location.shape[0] * self.location.working.itemsize

    def piece(self, run: SpecimenRun) -> ByFeature:
        """Nothing of it belongs to single features."""
        return self

    def reads(self, runs: int) -> int:
        """How often so many runs go through the stored matrix."""
        return runs if self._whole_rows else 1

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many features to take at a time: all that memory holds, if each run reads all."""
        specimens = self.location.shape[0]
        scratch = 8 * _COPIES * max(_AT_ONCE, specimens) + 4 * self.location.chunk_bytes
        free = memory - occupied - budget.RESERVE - self.held - scratch
        number = 1 if self._whole_rows else 2
        most = self.total if self._whole_rows else max(1, budget.LARGEST_BLOCK // self.width)
        rows = min(free // (self.width * number), most, self.total)
        if rows >= self.aligned:
            rows -= rows % self.aligned
        if rows < 1:
            needed = memory - free + self.width
            raise DataError(
                f"{format_bytes(memory)} of memory are too little: at least {format_bytes(needed)} "
                f"are needed for {specimens} specimens, of which the program itself takes "
                f"{format_bytes(occupied)}; give more",
                where=self.location.path,
            )
        return Blocks(rows, number)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Reader]:
        """Open the matrix, to be read by features."""
        with opened_by_feature(self.location) as read:
            yield lambda low, high, into: read(low, high, self._upright(into))

    def room(self, length: int) -> Matrix:
        """Room for features, one after the other; what is read lies in it specimen by specimen."""
        return np.empty((length, self.location.shape[0]), dtype=self.location.working)

    def _upright(self, block: Matrix) -> Matrix:
        return block.reshape(-1).reshape(self.location.shape[0], len(block))

    def empty(self) -> Totals:
        """Nothing was asked yet."""
        return Totals({})

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Totals:
        """What was told before."""
        return Totals(dict(arrays))

    def add(self, into: Totals, block: Matrix, run: SpecimenRun, threads: int | None) -> None:
        """Ask some features."""
        upright = self._upright(block)
        step = max(1, _AT_ONCE // len(upright))
        for first in range(0, upright.shape[1], step):
            values = np.array(upright[:, first : first + step], dtype=np.float64)
            if np.isinf(values).any():
                raise DataError(
                    f"infinite values among features {run[0] + first + 1} to "
                    f"{run[0] + first + values.shape[1]}; replace them, or store NaN where a value "
                    "is missing",
                    where=self.location.path,
                )
            low = run[0] + first
            sizes = np.fmax.reduce(np.abs(values), axis=0)
            names = [f"feature {low + place + 1}" for place in range(len(sizes))]
            refuse_magnitude(sizes, names, self.location.path)
            summed, told = self.ask(values, low)
            for name, array in summed.items():
                into.sums[name] = into.sums[name] + array if name in into.sums else array
            for name, array in told.items():
                if name not in into.sums:
                    into.sums[name] = np.zeros((*array.shape[:-1], self.total))
                into.sums[name][..., low : low + values.shape[1]] += array
