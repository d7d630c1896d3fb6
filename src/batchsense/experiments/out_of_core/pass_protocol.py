"""What a pass over a matrix on disk must offer, whatever it adds up."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Matrix
from batchsense.experiments.correction.two_passes.pass_runner import compiled_for
from batchsense.experiments.out_of_core.budget import Blocks
from batchsense.experiments.out_of_core.runs import SpecimenRun
from batchsense.storage.matrices.chunks import Reader, opened
from batchsense.storage.matrices.folded import Folded
from batchsense.storage.matrices.location import MatrixLocation


class State(Protocol):
    """What was added up so far."""

    def merge(self, other: Self) -> Self:
        """Put two parts together."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give the state as named arrays, to be stored."""


class Pass(Protocol):
    """What a pass adds up, of which runs of specimens or of features."""

    @property
    def location(self) -> MatrixLocation:
        """The whole matrix."""

    @property
    def total(self) -> int:
        """How many specimens, or features, there are."""

    @property
    def aligned(self) -> int:
        """At whose multiples runs had better begin."""

    @property
    def width(self) -> int:
        """Bytes of one specimen, or feature."""

    def piece(self, run: SpecimenRun) -> Pass:
        """Keep only what some of them need, so that little travels to another process."""

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many to take at a time; refuses where memory does not suffice."""

    def reads(self, runs: int) -> int:
        """How often so many runs go through the stored matrix."""

    def opened(self) -> AbstractContextManager[Reader]:
        """Open the matrix, to be read in runs."""

    def room(self, length: int) -> Matrix:
        """Make room for so many of them; the first axis is that of the runs."""

    def empty(self) -> Any:
        """The state before anything was read."""

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
        """A state that was stored."""

    def add(self, into: Any, block: Matrix, run: SpecimenRun, threads: int | None) -> None:
        """Add a block to a state."""


@dataclass(frozen=True, slots=True, eq=False)
class BySpecimen:
    """What passes over runs of specimens have in common."""

    location: MatrixLocation  #: the whole matrix

    @property
    def total(self) -> int:
        """How many specimens there are."""
        return self.location.shape[0]

    @property
    def aligned(self) -> int:
        """Specimens that are stored together."""
        return self.location.rows

    @property
    def width(self) -> int:
        """Bytes of a specimen."""
        return self.location.shape[1] * self.location.working.itemsize

    def reads(self, runs: int) -> int:
        """Specimens are stored one after the other."""
        return 1

    def opened(self) -> AbstractContextManager[Reader]:
        """Open the matrix."""
        return opened(self.location)

    def room(self, length: int) -> Matrix:
        """Room for specimens."""
        return np.empty((length, self.location.shape[1]), dtype=self.location.working)

    @property
    def compiled(self) -> Any:
        """What works on a sparse matrix as it is stored; None where it is unfolded."""
        whole = self.location.shape[0] * self.location.shape[1]
        return compiled_for(whole) if self.location.form == "csr" else None

    def folded_room(self, length: int) -> Any:
        """Room for specimens; those of a large sparse matrix stay folded."""
        if self.compiled is None:
            return BySpecimen.room(self, length)
        return Folded((length, self.location.shape[1]), self.location.working, self.compiled)
