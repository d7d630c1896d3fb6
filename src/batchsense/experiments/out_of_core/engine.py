"""Who does the passes: this process, or the workers of a cluster; the work is the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.out_of_core.budget import COMPILER, LIBRARIES, Blocks, blocks_for
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.out_of_core.pass_protocol import Pass, State
from batchsense.experiments.out_of_core.passes import Done, StateT, correct_blocks, sum_blocks
from batchsense.experiments.out_of_core.result_array import ResultArray, result_rows
from batchsense.experiments.out_of_core.runs import SpecimenRun, cut
from batchsense.machine_memory import resident_bytes, return_free_memory

#: Told now and then of the sums, and of the specimens that were added to what was there before, so
#: that they can be kept.
Keep = Callable[[State, Sequence[SpecimenRun]], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How both passes take the specimens, decided before either begins."""

    #: Of the first and the second pass.
    sums: Blocks
    correct: Blocks


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """What an engine is to do in one pass."""

    inputs: Any  #: the matrix and its design, or what else is added up
    sizes: Sizes  #: how the specimens are taken
    runs: Sequence[SpecimenRun]  #: the specimens
    done: Done  #: told of each run of specimens when it is done


class Engine(Protocol):
    """A way to do both passes; the implementations are final."""

    def sizes(self, inputs: PassInputs) -> Sizes:
        """Decide how both passes take the specimens; refuse where memory does not suffice."""

    def blocks(self, inputs: Pass) -> Blocks:
        """Decide how a pass that only adds up takes its runs."""

    def sums(self, given: Assignment, into: StateT, keep: Keep) -> StateT:
        """Add the assigned specimens to what the pass adds up."""

    def correct(self, given: Assignment, result: ResultArray, affine: Affine) -> None:
        """Correct the assigned specimens and put them where they belong."""


#: Bytes that are used where nothing else is asked, and those that are taken at least then. Larger
#: blocks would not be read faster (see ``LARGEST_BLOCK``), and 500 MB fit on any laptop beside a
#: browser; 200 MB hold a block of 20,000 features with its tables.
MEMORY, LEAST = 500_000_000, 200_000_000
#: Seconds between two times that the sums are kept: so much work a killed run loses at most, and
#: writing a few megabytes that often cannot be noticed.
_KEEP_EVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class ThisProcess:
    """The passes on the threads of this process.

    Attributes
    ----------
    memory : int or None
        Bytes that this process may occupy, all in all; 500 MB where nothing is asked, or more if it
        occupies so much already that less than 200 MB would be left.
    threads : int or None
        Threads that compute.
    shares : int
        How many such engines work in this process at the same time, each with its share of memory.
    """

    memory: int | None = None
    threads: int | None = None
    shares: int = 1

    def sizes(self, inputs: PassInputs) -> Sizes:
        """Decide how both passes take the specimens, for this process as it stands now.

        Raises
        ------
        DataError
            Memory does not suffice; says what is needed.
        """
        memory, occupied = self._memory()
        # The second pass needs more, so that it is the one that is refused.
        correct, sums = (
            blocks_for(inputs.location, memory, inputs.size, aligned, occupied)
            for aligned in (aligned_rows(inputs), inputs.location.rows)
        )
        return Sizes(sums, correct)

    def blocks(self, inputs: Pass) -> Blocks:
        """Decide how a pass that only adds up takes its runs, for this process as it stands now."""
        return inputs.blocks(*self._memory())

    def _memory(self) -> tuple[int, int]:
        """What this engine may occupy, and what of that is taken, with the compiler."""
        return_free_memory()
        occupied = resident_bytes() + (0 if "numba" in sys.modules else COMPILER)
        if self.shares > 1:  # the blocks of the others must not be counted
            occupied = min(occupied, LIBRARIES)
        memory = max(MEMORY, occupied + LEAST) if self.memory is None else self.memory
        return occupied + (memory - occupied) // self.shares, occupied

    def sums(self, given: Assignment, into: StateT, keep: Keep) -> StateT:
        """Add the assigned runs to what the pass adds up; keep it every 20 seconds."""
        added: list[SpecimenRun] = []
        kept = time.monotonic()

        def note(run: SpecimenRun) -> None:
            nonlocal kept
            added.append(run)
            if time.monotonic() - kept >= _KEEP_EVERY_S:
                keep(into, added)
                kept = time.monotonic()
            given.done(run)

        taken = list(cut(given.runs, given.sizes.sums.rows))
        number = min(given.sizes.sums.number, 2)
        return sum_blocks(given.inputs, taken, into, note, number=number, threads=self.threads)

    def correct(self, given: Assignment, result: ResultArray, affine: Affine) -> None:
        """Correct the assigned specimens and put them where they belong."""
        return_free_memory()
        taken = list(cut(given.runs, given.sizes.correct.rows))
        if taken:
            correct_blocks(
                given.inputs,
                result,
                taken,
                affine,
                given.done,
                number=given.sizes.correct.number,
                threads=self.threads,
            )


def aligned_rows(inputs: PassInputs) -> int:
    """The number of specimens at whose multiples blocks of the second pass may begin."""
    return int(np.lcm(inputs.location.rows, result_rows(inputs.location)))
