"""Who does the passes: this process, or the workers of a cluster; the work is the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.out_of_core.affine import Affine
from batchsense.experiments.out_of_core.budget import COMPILER, LIBRARIES, Blocks, blocks_for
from batchsense.experiments.out_of_core.pass_inputs import Work
from batchsense.experiments.out_of_core.passes import Done, correct_blocks, sum_blocks
from batchsense.experiments.out_of_core.result_array import Slot, result_rows
from batchsense.experiments.out_of_core.specimen_runs import Span, cut
from batchsense.machine_memory import resident_bytes, return_free_memory


class Keep(Protocol):
    """Told of the sums now and then, so that they can be kept."""

    def __call__(self, statistics: BatchStatistics, spans: Sequence[Span]) -> None:
        """Keep the sums of what is in ``spans`` beside what was there before."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How both passes take the specimens, decided before either begins.

    Attributes
    ----------
    sums, correct : Blocks
        Of the first and the second pass.
    """

    sums: Blocks
    correct: Blocks


class Engine(Protocol):
    """A way to do both passes; the implementations are final."""

    def sizes(self, work: Work) -> Sizes:
        """Decide how both passes take the specimens; refuse where memory does not suffice."""

    def sums(
        self,
        work: Work,
        sizes: Sizes,
        spans: Sequence[Span],
        into: BatchStatistics,
        keep: Keep,
        done: Done,
    ) -> BatchStatistics:
        """Add the specimens of ``spans`` to the statistics."""

    def correct(
        self,
        work: Work,
        sizes: Sizes,
        slot: Slot,
        spans: Sequence[Span],
        affine: Affine,
        done: Done,
    ) -> None:
        """Correct the specimens of ``spans`` and put them where they belong."""


#: Bytes that are used where nothing else is asked, and those that are taken at least then.
MEMORY, LEAST = 500_000_000, 200_000_000
#: Seconds between two times that the sums are kept.
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

    def sizes(self, work: Work) -> Sizes:
        """Decide how both passes take the specimens, for this process as it stands now.

        Raises
        ------
        DataError
            Memory does not suffice; says what is needed.
        """
        return_free_memory()
        occupied = resident_bytes() + (0 if "numba" in sys.modules else COMPILER)
        if self.shares > 1:  # the blocks of the others must not be counted
            occupied = min(occupied, LIBRARIES)
        memory = max(MEMORY, occupied + LEAST) if self.memory is None else self.memory
        memory = occupied + (memory - occupied) // self.shares
        # The second pass needs more, so that it is the one that is refused.
        correct, sums = (
            blocks_for(work.place, memory, work.size, aligned, occupied)
            for aligned in (aligned_rows(work), work.place.rows)
        )
        return Sizes(sums, correct)

    def sums(
        self,
        work: Work,
        sizes: Sizes,
        spans: Sequence[Span],
        into: BatchStatistics,
        keep: Keep,
        done: Done,
    ) -> BatchStatistics:
        """Add the specimens of ``spans`` to the statistics; keep them every 20 seconds."""
        added: list[Span] = []
        kept = time.monotonic()

        def note(span: Span) -> None:
            """Count a block, and keep the sums where it is time."""
            nonlocal kept
            added.append(span)
            if time.monotonic() - kept >= _KEEP_EVERY_S:
                keep(into, added)
                kept = time.monotonic()
            done(span)

        taken = list(cut(spans, sizes.sums.rows))
        number = min(sizes.sums.number, 2)
        return sum_blocks(work, taken, into, note, number=number, threads=self.threads)

    def correct(
        self,
        work: Work,
        sizes: Sizes,
        slot: Slot,
        spans: Sequence[Span],
        affine: Affine,
        done: Done,
    ) -> None:
        """Correct the specimens of ``spans`` and put them where they belong."""
        return_free_memory()
        taken = list(cut(spans, sizes.correct.rows))
        number = sizes.correct.number
        if taken:
            correct_blocks(work, slot, taken, affine, done, number=number, threads=self.threads)


def aligned_rows(work: Work) -> int:
    """Give the number of specimens at whose multiples blocks of the second pass may begin."""
    return int(np.lcm(work.place.rows, result_rows(work.place)))
