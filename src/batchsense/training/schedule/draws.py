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
    """A micro-batch of this process: a part of a step, or its whole share.

    Attributes
    ----------
    planned : int
        Examples of the step by the schedule, over all processes.
    size : int
        As it is; another one for the remainder of a run.
    examples : int
        Of this part.
    scale : float
        The factor on its mean loss, so that the parts of all processes, averaged over these, make
        the mean over the step.
    first, last : bool
        Whether it begins or ends the step.
    reason : str
        Why the step has this size.
    """

    planned: int
    size: int
    examples: int
    scale: float
    first: bool
    last: bool
    reason: str = ""


@dataclass(slots=True, eq=False)
class EpochDraws:
    """The batch sampler of one epoch: decides at every draw, and queues what it drew.

    A loader with worker processes draws ahead of what is consumed, so a size is never read from
    the schedule later: it travels with its minibatch through the queue, first in, first out.

    Attributes
    ----------
    order : EndlessOrder
        Which examples.
    start, end : int
        Examples drawn before the epoch, and at its end.
    final : bool
        Whether the remainder makes a step of its own, instead of waiting for another epoch.
    micro_batch : int or None
        Examples of a part; None for whole steps.
    ranks : Ranks
        The processes.
    decide : callable
        The size of the step after so many steps and examples, and why.
    steps : int
        Made before.
    """

    order: EndlessOrder
    start: int
    end: int
    final: bool
    micro_batch: int | None
    ranks: Ranks
    decide: Callable[[int, int], tuple[int, str]]
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
            refuse_uneven(planned, world)
            size, left = planned, self.end - at
            # Fewer examples than processes cannot be shared: they join the step before.
            if self.final and left < size + world:
                size = left
            if size > left or size < world:
                return
            yield at, planned, size, reason
            at, steps = at + size, steps + 1


def refuse_uneven(size: int, world: int) -> None:
    """Refuse a size that processes cannot share evenly.

    Raises
    ------
    DataError
        With the nearest size that they can.
    """
    if size % world:
        nearest = max(world, round(size / world) * world)
        raise DataError(
            f"{size} examples a step cannot be shared evenly by {world} processes; the nearest "
            f"size that can: {nearest}"
        )
