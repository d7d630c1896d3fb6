"""A pass over specimens that picks out a few features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Matrix, Places
from batchsense.experiments.out_of_core.budget import Blocks, ModelSize, blocks_for
from batchsense.experiments.out_of_core.pass_protocol import BySpecimen
from batchsense.experiments.out_of_core.runs import SpecimenRun
from batchsense.experiments.out_of_core.summing import Totals


@dataclass(frozen=True, slots=True, eq=False)
class Picked(BySpecimen):
    """All values of some features."""

    places: Places  #: (features,): which

    def piece(self, run: SpecimenRun) -> Picked:
        """Nothing of it belongs to single specimens."""
        return self

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many specimens to take at a time."""
        held = 8 * self.location.shape[0] * len(self.places)
        return blocks_for(self.location, memory, ModelSize(1), self.aligned, occupied + held)

    def empty(self) -> Totals:
        """No value was read."""
        return Totals({"values": np.zeros((self.location.shape[0], len(self.places)))})

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Totals:
        """Values that were read."""
        return Totals(dict(arrays))

    def add(self, into: Totals, block: Matrix, run: SpecimenRun, threads: int | None) -> None:
        """Put the values of some specimens in their place."""
        into.sums["values"][run[0] : run[1]] = block[:, self.places]
