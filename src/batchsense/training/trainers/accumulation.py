"""What both trainers share: steps of a schedule, cut into micro-batches by the trainer itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from batchsense.errors import DataError
from batchsense.training.running import Ranks, present_ranks
from batchsense.training.schedule import (
    Coupling,
    ScheduledSizes,
    SizeRule,
    WrittenSchedule,
    parse_schedule,
)
from batchsense.training.schedule.draws import check_size


class Accumulation(int):
    """A number of micro-batches that is counted from where the step began, not from the epoch's.

    Trainers step where ``counted % accumulation == 0``. That is on time only if every step before
    had the same number of micro-batches.

    Examples
    --------
    >>> four = Accumulation.after(4, begun=3)
    >>> [counted for counted in range(4, 12) if counted % four == 0], four + 1
    ([7, 11], 5)
    """

    begun: int = 0

    @classmethod
    def after(cls, count: int, begun: int) -> Accumulation:
        """So many micro-batches, counted from the first ``begun``."""
        made = cls(count)
        made.begun = begun
        return made

    def __rmod__(self, counted: int) -> int:
        """Where ``counted`` lies in a step."""
        return (counted - self.begun) % int(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Saved with the arguments of a trainer, it is a plain number."""
        return int, (int(self),)


class TrainerSteps:
    """The steps of a schedule inside a trainer: how many micro-batches each takes.

    Parameters
    ----------
    schedule : WrittenSchedule, str or SizeRule
        Sizes count examples over all processes.
    couple : {"lr", "temperature", "seesaw"} or None
        What the learning rate does.
    """

    def __init__(self, schedule: WrittenSchedule | SizeRule | str, couple: Coupling) -> None:
        self._rule = parse_schedule(schedule) if isinstance(schedule, str) else schedule
        self._couple = couple
        self._sizes: ScheduledSizes | None = None
        self._loaded: Mapping[str, Any] | None = None
        self.steps = self.examples = 0
        self._micro = 1

    @property
    def sizes(self) -> ScheduledSizes:
        """Bound to an optimizer."""
        if self._sizes is None:
            raise DataError("the schedule has no optimizer yet; it gets it when training begins")
        return self._sizes

    def bind(
        self,
        optimizer: torch.optim.Optimizer,
        schedulers: Iterable[Any],
        micro_batch: int | None,
        world: int,
    ) -> None:
        """Take the optimizer and the loader's size; refuse what they do not allow.

        Raises
        ------
        DataError
            A size is no whole number of micro-batches; with the nearest that is.
        """
        if micro_batch is None:
            raise DataError("the loader names no batch_size; give it one: it is the micro-batch")
        self._micro = micro_batch * world
        ranks = present_ranks()
        self._sizes = ScheduledSizes(
            optimizer, self._rule, couple=self._couple, lr_schedulers=schedulers, ranks=ranks
        )
        for size in self._sizes.known:
            check_size(size, Ranks(0, world), micro_batch)
        if self._loaded is None:
            self.steps = self.examples = 0
        else:
            self._sizes.load_state_dict(self._loaded)
            self._loaded = None

    def begin(self) -> int:
        """How many micro-batches the next step takes."""
        return self.sizes(self.steps, self.examples) // self._micro

    def refuse_not_finite(self, number: float) -> None:
        """Stop where a loss or a gradient is no number; a DataError names the step."""
        if not math.isfinite(number):
            raise DataError(f"the loss or its gradient is {number} at step {self.steps + 1}")

    def end(self, examples: int) -> None:
        """A step of so many examples was made."""
        self.steps, self.examples = self.steps + 1, self.examples + examples
        self._rule.after_step()

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from, in plain values."""
        return {
            "steps": self.steps,
            "examples": self.examples,
            "sizes": self.sizes.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, at once or when the optimizer comes."""
        self.steps, self.examples, self._loaded = state["steps"], state["examples"], state["sizes"]
        if self._sizes is not None:
            self._sizes.load_state_dict(state["sizes"])
