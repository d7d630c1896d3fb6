"""A sketch of a matrix with many specimens: few random sums of them in the place of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers, Matrix, Places
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.out_of_core.budget import Blocks, ModelSize, blocks_for
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.out_of_core.pass_protocol import BySpecimen
from batchsense.experiments.out_of_core.runs import SpecimenRun
from batchsense.experiments.out_of_core.summing import Totals
from batchsense.storage.matrices.folded import Folded


@dataclass(frozen=True, slots=True)
class Sketch:
    r"""How well a sketch stands for products of all specimens.

    The specimens are dealt out to so many sums at random, with random signs (a count sketch). A
    squared length then has the right mean, and a standard error of at most
    :math:`\sqrt{2/\text{sums}}` of itself; the variance of what chance does to a share, twice that.

    Attributes
    ----------
    sums : int
        Sums.
    relative_error : float
        The standard error of a squared length, at most.
    seed : int
        Of the signs and the dealing.

    References
    ----------
    Charikar, Chen and Farach-Colton 2004, Theor. Comput. Sci. 312, 3; Halko, Martinsson and Tropp
    2011, SIAM Rev. 53, 217 (components).
    """

    sums: int
    relative_error: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Dealt:
    """Specimens dealt out to sums: to which each goes, with which sign, and how many there are."""

    to: Places
    signs: Integers
    sums: int

    @classmethod
    def of(cls, specimens: int, sums: int, seed: int) -> Dealt:
        """Deal specimens out; with as many sums as specimens each has its own."""
        rng = np.random.default_rng([seed, specimens, sums])
        to = rng.permutation(specimens) % min(sums, specimens)
        return cls(to, rng.choice([-1, 1], size=specimens), min(sums, specimens))

    @property
    def apart(self) -> float:
        """How likely two specimens go to different sums."""
        sizes, specimens = np.bincount(self.to), len(self.to)
        return 1.0 - float((sizes * (sizes - 1)).sum()) / (specimens * (specimens - 1))

    def summed(self, columns: Floats) -> Floats:
        """The sums of columns of shape (specimens, columns)."""
        found = np.zeros((self.sums, columns.shape[1]))
        np.add.at(found, self.to, columns * self.signs[:, None])
        return found


@dataclass(slots=True, eq=False)
class Sketched:
    """Sums by stratum, and the random ones, of shape (sums, features)."""

    sums: BatchStatistics
    mixed: Matrix

    def merge(self, other: Sketched) -> Sketched:
        """Put two parts together."""
        return Sketched(self.sums.merge(other.sums), self.mixed + other.mixed)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give the state as named arrays."""
        return {"mixed": self.mixed, **self.sums.arrays()}


@dataclass(frozen=True, slots=True, eq=False)
class SketchPass(BySpecimen):
    """Sum up specimens by stratum, and at random."""

    dealt: Dealt  #: of all specimens
    inputs: PassInputs  #: strata and directions

    def piece(self, run: SpecimenRun) -> SketchPass:
        """Keep the design of some specimens."""
        return replace(self, inputs=self.inputs.piece(run))

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many specimens to take at a time, beside two sketches."""
        held = 2 * 8 * self.location.shape[1] * self.dealt.sums
        return self.inputs.blocks(memory, occupied + held)

    def room(self, length: int) -> Any:
        """Room for specimens."""
        return self.inputs.room(length)

    def empty(self) -> Sketched:
        """Nothing was read."""
        shape = self.dealt.sums, self.location.shape[1]
        mixed = np.zeros(shape, dtype=self.location.working)
        return Sketched(self.inputs.empty(), mixed)

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Sketched:
        """What was kept."""
        return Sketched(BatchStatistics.from_arrays(arrays), arrays["mixed"])

    def add(self, into: Sketched, block: Any, run: SpecimenRun, threads: int | None) -> None:
        """Add specimens."""
        self.inputs.add(into.sums, block, run, threads)
        to, signs = self.dealt.to[run[0] : run[1]], self.dealt.signs[run[0] : run[1]]
        if isinstance(block, Folded):
            block.mix(to, signs, into.mixed)
            return
        for place, sign, values in zip(to, signs, block, strict=True):
            line = into.mixed[place]
            (np.add if sign > 0 else np.subtract)(line, values, out=line)


@dataclass(frozen=True, slots=True, eq=False)
class AlongPass(BySpecimen):
    """What specimens hold of some columns, and their squared lengths."""

    #: (features, columns): what the specimens are multiplied with, centred and scaled before.
    columns: Floats
    #: (features,): what is taken off each feature before, and its scale; 0 for one that is left
    #: out.
    means: Floats
    weights: Floats

    def piece(self, run: SpecimenRun) -> AlongPass:
        """Nothing of it belongs to single specimens."""
        return self

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many specimens to take at a time."""
        held = 8 * sum(self.location.shape) * (2 * self.columns.shape[1] + 1)
        return blocks_for(self.location, memory, ModelSize(1), self.aligned, occupied + held)

    def empty(self) -> Totals:
        """Nothing was read."""
        specimens, width = self.location.shape[0], self.columns.shape[1]
        return Totals({"images": np.zeros((specimens, width)), "squares": np.zeros(specimens)})

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Totals:
        """What was kept."""
        return Totals(dict(arrays))

    def room(self, length: int) -> Any:
        """Room for specimens; what is left out may be missing, and is not multiplied with."""
        return (self.folded_room if self.weights.all() else partial(BySpecimen.room, self))(length)

    def add(self, into: Totals, block: Any, run: SpecimenRun, threads: int | None) -> None:
        """Add specimens."""
        own, weights = slice(*run), self.weights[:, None]
        if isinstance(block, Folded):  # scales go to the columns, means are taken off afterwards
            scaled, centre = weights * self.columns, weights**2 * self.means[:, None]
            found, lengths = block.times(np.hstack([scaled, centre]), self.weights)
            into.sums["images"][own] = found[:, :-1] - self.means @ scaled
            into.sums["squares"][own] = lengths - 2.0 * found[:, -1] + self.means @ centre[:, 0]
            return
        left_out = self.weights == 0.0
        if left_out.any():
            block[:, left_out] = 0.0
        block -= np.where(left_out, 0.0, self.means).astype(block.dtype)
        if (weights != 1.0).any():
            block *= self.weights.astype(block.dtype)
        into.sums["images"][own] = block @ self.columns.astype(block.dtype)
        into.sums["squares"][own] = np.einsum("ij,ij->i", block, block)
