"""Who does the passes: this process, or the workers of a cluster; the work is the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from batchsense.experiments.correction.combat_statistics import CombatStatistics
from batchsense.experiments.scale.affine import Affine
from batchsense.experiments.scale.budget import COMPILER, LIBRARIES, Blocks, blocks_for
from batchsense.experiments.scale.passes import Done, correct_blocks, sum_blocks
from batchsense.experiments.scale.place import Place
from batchsense.experiments.scale.slot import Slot
from batchsense.experiments.scale.spans import Span, cut
from batchsense.experiments.scale.work import Work
from batchsense.machine_memory import resident_bytes, return_free_memory


class Keep(Protocol):
    """Told of the sums now and then, so that they can be kept."""

    def __call__(self, statistics: CombatStatistics, spans: Sequence[Span]) -> None:
        """Keep the sums of what is in ``spans`` beside what was there before."""


class Engine(Protocol):
    """A way to do both passes; the implementations are final."""

    def sums(
        self, work: Work, spans: Sequence[Span], into: CombatStatistics, keep: Keep, done: Done
    ) -> CombatStatistics:
        """Add the specimens of ``spans`` to the statistics."""

    def correct(
        self, work: Work, slot: Slot, spans: Sequence[Span], affine: Affine, done: Done
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

    def sums(
        self, work: Work, spans: Sequence[Span], into: CombatStatistics, keep: Keep, done: Done
    ) -> CombatStatistics:
        """Add the specimens of ``spans`` to the statistics; keep them every 20 seconds."""
        size = self._blocks(work, work.place.rows)
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

        taken = list(cut(spans, size.rows))
        number = min(size.number, 2)
        return sum_blocks(work, taken, into, note, number=number, threads=self.threads)

    def correct(
        self, work: Work, slot: Slot, spans: Sequence[Span], affine: Affine, done: Done
    ) -> None:
        """Correct the specimens of ``spans`` and put them where they belong."""
        size = self._blocks(work, aligned_rows(work.place, slot))
        taken = list(cut(spans, size.rows))
        if taken:
            correct_blocks(
                work, slot, taken, affine, done, number=size.number, threads=self.threads
            )

    def _blocks(self, work: Work, aligned: int) -> Blocks:
        """Give size and number of blocks, for this process as it stands now."""
        return_free_memory()
        occupied = resident_bytes() + (0 if "numba" in sys.modules else COMPILER)
        if self.shares > 1:  # the blocks of the others must not be counted
            occupied = min(occupied, LIBRARIES)
        memory = max(MEMORY, occupied + LEAST) if self.memory is None else self.memory
        free = (memory - occupied) // self.shares
        return blocks_for(work.place, occupied + free, work.size, aligned, occupied)


def aligned_rows(place: Place, slot: Slot) -> int:
    """Give the number of specimens at whose multiples blocks of the second pass may begin."""
    return int(np.lcm(place.rows, slot.rows))
