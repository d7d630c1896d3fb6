"""A sketch of a matrix with many specimens: few random sums of its features in the place of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Matrix, Places
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.out_of_core.budget import Blocks, ModelSize, blocks_for
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.out_of_core.pass_protocol import BySpecimen
from batchsense.experiments.out_of_core.runs import SpecimenRun
from batchsense.experiments.out_of_core.summing import Totals

#: Values that are put into another order at a time: they stay in the cache.
_TOGETHER = 250_000


@dataclass(frozen=True, slots=True)
class Sketch:
    r"""How well a sketch stands for all features.

    The features are dealt out to so many columns at random, each column being their sum with random
    signs (a count sketch). A squared length then has the right mean, and a standard error of at
    most :math:`\sqrt{2/\text{columns}}` of itself.

    Attributes
    ----------
    columns : int
        Columns.
    relative_error : float
        The standard error of a squared length, at most.
    seed : int
        Of the signs and the dealing.

    References
    ----------
    Charikar, Chen and Farach-Colton 2004, Theor. Comput. Sci. 312, 3; Halko, Martinsson and Tropp
    2011, SIAM Rev. 53, 217 (components).
    """

    columns: int
    relative_error: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Dealt:
    """Features dealt out to columns.

    Attributes
    ----------
    order, starts : arrays of int
        The features column by column, and where each column begins.
    weights : array of shape (features,)
        The sign of each feature, in its own place; 0 for one that is left out, and larger or
        smaller where features are scaled.
    """

    order: Places
    starts: Places
    weights: Floats

    @classmethod
    def of(cls, features: int, columns: int, seed: int) -> Dealt:
        """Deal features out; with as many columns as features each has its own."""
        rng = np.random.default_rng([seed, features, columns])
        order = rng.permutation(features)
        starts = (np.arange(columns) * features) // columns
        return cls(order, starts, rng.choice([-1.0, 1.0], size=features))

    @property
    def apart(self) -> float:
        """How likely two features are to be dealt to different columns."""
        features = len(self.order)
        sizes = np.diff(self.starts, append=features)
        return 1.0 - float((sizes * (sizes - 1)).sum()) / max(features * (features - 1), 1)

    def sums(self, block: Matrix) -> Floats:
        """The columns of some specimens."""
        found = np.empty((len(block), len(self.starts)))
        weights = self.weights[self.order].astype(block.dtype)
        step = max(1, _TOGETHER // block.shape[1])
        for first in range(0, len(block), step):
            part = np.take(block[first : first + step], self.order, axis=1)
            part *= weights
            np.add.reduceat(
                part, self.starts, axis=1, dtype=np.float64, out=found[first : first + step]
            )
        return found


@dataclass(slots=True, eq=False)
class Sketched:
    """Sums by stratum, and a sketch of the specimens."""

    sums: BatchStatistics | None
    columns: Floats

    def merge(self, other: Sketched) -> Sketched:
        """Put two parts together; each holds zeros where the other has specimens."""
        both = None
        if self.sums is not None and other.sums is not None:
            both = self.sums.merge(other.sums)
        return Sketched(both, self.columns + other.columns)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give the state as named arrays."""
        return {"columns": self.columns, **({} if self.sums is None else self.sums.arrays())}


@dataclass(frozen=True, slots=True, eq=False)
class SketchPass(BySpecimen):
    """Sum up specimens, where that is not done yet, and sketch them.

    Attributes
    ----------
    dealt : Dealt
        Of the features.
    inputs : PassInputs or None
        What is summed up beside.
    """

    dealt: Dealt
    inputs: PassInputs | None

    def piece(self, run: SpecimenRun) -> SketchPass:
        """Keep the design of some specimens."""
        return replace(self, inputs=None if self.inputs is None else self.inputs.piece(run))

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many specimens to take at a time, beside two sketches."""
        size = ModelSize(1) if self.inputs is None else self.inputs.size
        held = 2 * 8 * self.location.shape[0] * len(self.dealt.starts)
        return blocks_for(self.location, memory, size, self.aligned, occupied + held)

    def empty(self) -> Sketched:
        """Nothing was read."""
        columns = np.zeros((self.location.shape[0], len(self.dealt.starts)))
        return Sketched(None if self.inputs is None else self.inputs.empty(), columns)

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Sketched:
        """What was kept."""
        sums = None if self.inputs is None else BatchStatistics.from_arrays(arrays)
        return Sketched(sums, arrays["columns"])

    def add(self, into: Sketched, block: Matrix, run: SpecimenRun, threads: int | None) -> None:
        """Add specimens."""
        if self.inputs is not None and into.sums is not None:
            self.inputs.add(into.sums, block, run, threads)
        left_out = self.dealt.weights == 0.0
        if left_out.any():  # they may be missing
            block[:, left_out] = 0.0
        into.columns[run[0] : run[1]] = self.dealt.sums(block)


@dataclass(frozen=True, slots=True, eq=False)
class AlongPass(BySpecimen):
    """Products of all features with directions that were found, and images of known columns.

    Attributes
    ----------
    directions : array of shape (specimens, directions)
        Columns of sum zero, from specimen ``first`` on.
    columns : array of shape (features, columns)
        What the scaled specimens are multiplied with; scaled once more.
    means, weights : arrays of shape (features,)
        What is taken off each feature before, and its scale; 0 for one that is left out.
    """

    directions: Floats
    columns: Floats
    means: Floats
    weights: Floats
    first: int = 0

    def piece(self, run: SpecimenRun) -> AlongPass:
        """Keep the directions of some specimens."""
        return replace(self, directions=self._own(run), first=run[0])

    def _own(self, run: SpecimenRun) -> Floats:
        return self.directions[run[0] - self.first : run[1] - self.first]

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many specimens to take at a time."""
        width = 2 * self.directions.shape[1] + 3 * self.columns.shape[1]
        held = 8 * (self.location.shape[1] * width + self.location.shape[0] * width)
        return blocks_for(self.location, memory, ModelSize(1), self.aligned, occupied + held)

    def empty(self) -> Totals:
        """Nothing was read."""
        specimens, features = self.location.shape
        along = np.zeros((self.directions.shape[1], features))
        return Totals({"along": along, "images": np.zeros((specimens, self.columns.shape[1]))})

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Totals:
        """What was kept."""
        return Totals(dict(arrays))

    def add(self, into: Totals, block: Matrix, run: SpecimenRun, threads: int | None) -> None:
        """Add specimens."""
        left_out = self.weights == 0.0
        if left_out.any():
            block[:, left_out] = 0.0
        block -= np.where(left_out, 0.0, self.means).astype(block.dtype)
        into.sums["along"] += self._own(run).T.astype(block.dtype) @ block
        into.sums["images"][run[0] : run[1]] = block @ self.columns.astype(block.dtype)
