"""What a loader fetches when: rows of each part of each step, and the queue of what is fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from batchsense.errors import DataError
from batchsense.training.running import EndlessOrder, Ranks


@dataclass(frozen=True, slots=True)
class Part:
    """A micro-batch of this process: a part of a step, or its whole share."""

    planned: int  # examples of the step by the schedule, over all processes
    size: int  # as it is; another one for the remainder of a run
    examples: int  # of this part
    # The factor on its mean loss, so that the parts of all processes, averaged over these, make the
    # mean over the step.
    scale: float
    first: bool
    last: bool
    reason: str = ""


@dataclass(slots=True, eq=False)
class EpochDraws:
    """The batch sampler of one epoch: decides at every draw, and queues what it drew.

    A loader with worker processes draws ahead of what is consumed, so a size is never read from
    the schedule later: it travels with its minibatch through the queue, first in, first out.
    """

    order: EndlessOrder
    start: int
    end: int
    final: bool  # whether the remainder makes a step, instead of waiting for another epoch
    micro_batch: int | None  # examples of a part; None for whole steps
    ranks: Ranks
    decide: Callable[[int, int], tuple[int, str]]  # by steps and examples: the size, and why
    steps: int
    queue: deque[Part] = field(default_factory=deque)

    def __iter__(self) -> Iterator[list[int]]:
        """Rows of each part of this process."""
        world, rank = self.ranks.world_size, self.ranks.rank
        for at, planned, size, reason in self._whole_steps():
            rows = np.array_split(self.order.at(at, size), world)[rank].tolist()
            most = self.micro_batch or len(rows)
            for place in range(0, len(rows), most):
                own = rows[place : place + most]
                first, last = place == 0, place + most >= len(rows)
                scale = len(own) * world / size
                self.queue.append(Part(planned, size, len(own), scale, first, last, reason))
                yield own

    def __len__(self) -> int:
        """Parts, by going through the schedule."""
        world, rank = self.ranks.world_size, self.ranks.rank
        shares = (size // world + (rank < size % world) for _, _, size, _ in self._whole_steps())
        return sum(-(-share // (self.micro_batch or share)) for share in shares)

    def _whole_steps(self) -> Iterator[tuple[int, int, int, str]]:
        """Where each step begins, its size by the schedule and as it is, and why."""
        at, steps, world = self.start, self.steps, self.ranks.world_size
        while at < self.end:
            planned, reason = self.decide(steps, at)
            check_size(planned, self.ranks, None)
            size, left = planned, self.end - at
            # Fewer examples than processes cannot be shared: they join the step before.
            if self.final and left < size + world:
                size = left
            if size > left or size < world:
                return
            yield at, planned, size, reason
            at, steps = at + size, steps + 1


def check_size(size: int, ranks: Ranks, micro_batch: int | None, *, whole: bool = False) -> None:
    """Refuse a size that processes, or micro-batches in them, cannot share evenly.

    With ``whole`` a process takes its share at once, which is a micro-batch at most.

    Raises DataError: with the nearest size that can be.
    """
    world = ranks.world_size
    unit = world if whole or micro_batch is None else world * micro_batch
    nearest = max(unit, round(size / unit) * unit)
    if whole and micro_batch is not None and size > micro_batch * world:
        raise DataError(
            f"{size} examples a step are more than {micro_batch} a process; take "
            f"{micro_batch * world} or less, or mode='accumulate'"
        )
    if size != nearest:
        parts = "" if unit == world else f" in micro-batches of {micro_batch}"
        raise DataError(
            f"{size} examples a step cannot be shared evenly by {world} "
            f"process{'es' if world > 1 else ''}{parts}; the nearest size that can: {nearest}"
        )
