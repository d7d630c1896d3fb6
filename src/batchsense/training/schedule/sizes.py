"""The one place where a batch size is decided, the learning rate follows, and both are noted."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch

from batchsense.errors import DataError
from batchsense.notes import Note
from batchsense.training.learning_rate import optimizer_family
from batchsense.training.running import ALONE, Ranks
from batchsense.training.schedule.coupling import (
    Coupling,
    change_learning_rate,
    check_coupling,
)
from batchsense.training.schedule.measured import MeasuredRule
from batchsense.training.schedule.written import WrittenSchedule

#: The rule for Adam was tried up to here; at 32 times it drifts.
_TRIED = 8
#: Beyond this share of the examples a shuffled step is no longer like an independent one.
_FINITE = 10


#: What says how large the next step is: written beforehand, or measured on the way.
SizeRule: TypeAlias = WrittenSchedule | MeasuredRule


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of the batch size, or the first one.

    Attributes
    ----------
    step, examples : int
        Made and consumed before it, over all processes.
    batch_size : int
        From there on.
    learning_rate : float
        Of the first parameter group, from there on.
    reason : str
        ``start``, ``written``, or what was measured.
    """

    step: int
    examples: int
    batch_size: int
    learning_rate: float
    reason: str


class ScheduledSizes:
    """Decides the size of each step and lets the optimizer follow; a ``BatchSizes`` of the engine.

    What is measured is decided on the first of the ``ranks``. No step is larger than ``limit``, the
    examples in the data set. Where the largest ``curvature`` λ is known, warns where
    ηλ ≥ 2(1 + m).

    >>> from batchsense.training.schedule.written import parse_schedule
    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> sizes = ScheduledSizes(sgd, parse_schedule("32, 64 at 60"), couple="lr")
    >>> [sizes(0, 0), sizes(1, 32), sizes(2, 64)], sgd.param_groups[0]["lr"]
    ([32, 32, 64], 0.2)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rule: SizeRule,
        *,
        couple: Coupling = None,
        lr_schedulers: Iterable[Any] | None = None,
        ranks: Ranks = ALONE,
        limit: int | None = None,
        curvature: float | None = None,
    ) -> None:
        self._schedulers = check_coupling(optimizer, couple, lr_schedulers)
        self._optimizer, self.rule, self._couple = optimizer, rule, couple
        self._ranks, self._limit, self._curvature = ranks, limit, curvature
        self.switches: list[Switch] = []
        for size in self.known:
            self._check(size)

    @property
    def known(self) -> tuple[int, ...]:
        """Sizes that are known beforehand: all that are written, or the first."""
        return self.rule.sizes if isinstance(self.rule, WrittenSchedule) else (self.rule.first,)

    def limit_to(self, examples: int) -> None:
        """Refuse steps of more than so many examples.

        Raises DataError: a size that is known beforehand is larger.
        """
        self._limit = examples
        for size in self.known:
            self._check(size)

    @property
    def batch_size(self) -> int:
        """The size now."""
        return self.switches[-1].batch_size if self.switches else self.rule.first

    def __call__(self, steps: int, examples: int) -> int:
        """Decide the size of the next step, and change the optimizer if it is another one."""
        size, reason = self.decide(steps, examples)
        self.begin(size, reason, steps, examples)
        return size

    def decide(self, steps: int, examples: int) -> tuple[int, str]:
        """The size of a step and why; nothing is changed.

        Raises DataError: it is larger than the data set.
        """
        size, reason = self.rule.next_size(steps, examples, self._ranks)
        self._check(size)
        return size, reason

    def begin(self, size: int, reason: str, steps: int, examples: int) -> None:
        """Let the optimizer follow, at the beginning of the first step of another size."""
        if self.switches and size == self.batch_size:
            return
        if not self.switches:
            reason = "start"
        factor = size / self.batch_size
        self._warn_of_instability(factor)
        change_learning_rate(self._optimizer, factor, self._couple, self._schedulers)
        rate = float(self._optimizer.param_groups[0].get("lr", 0.0))
        self.switches.append(Switch(steps, examples, size, rate, reason))

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to keep in mind about the sizes so far."""
        found = []
        sizes = [switch.batch_size for switch in self.switches] or [self.rule.first]
        ratio = max(sizes) / sizes[0]
        follows = self._couple in ("lr", "temperature")
        if follows and optimizer_family(self._optimizer) == "adam" and ratio > 1:
            beyond = f"; here it is {ratio:.3g}, tried were up to {_TRIED}" * (ratio > _TRIED)
            found.append(
                Note(
                    "adam_rule",
                    "The learning rate of Adam followed the square root of the batch size. In "
                    "trials that kept the loss within 3 % for a transformer, but on a small "
                    f"network of digits it was 7 to 15 % higher after a factor of four{beyond}.",
                )
            )
        if self._limit is not None and max(sizes) * _FINITE > self._limit and ratio > 1:
            found.append(
                Note(
                    "large_share",
                    f"Steps of {max(sizes):,} take more than a tenth of the {self._limit:,} "
                    "examples: their noise is smaller than the batch size says.",
                )
            )
        return tuple(found)

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from, in plain values."""
        return {
            "couple": self._couple,
            "switches": [asdict(switch) for switch in self.switches],
            "rule": self.rule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on; the optimizer's own state holds the learning rate.

        Raises DataError: the state is of another schedule or coupling.
        """
        if state.get("couple") != self._couple:
            raise DataError(f"the state is of couple={state.get('couple')!r}, not {self._couple!r}")
        self.rule.load_state_dict(state["rule"])
        self.switches = [Switch(**one) for one in state["switches"]]

    def _check(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise DataError(
                f"the schedule asks for {size:,} of {self._limit:,} examples a step; take "
                f"{self._limit:,} or less"
            )

    def _warn_of_instability(self, factor: float) -> None:
        """Warn where ηλ would be 2(1 + m) or more; for SGD, which has such a simple limit."""
        sgd = optimizer_family(self._optimizer) == "sgd"
        if not sgd or self._curvature is None or self._couple not in ("lr", "temperature"):
            return
        stable = min(
            2 * (1 + float(group["momentum"])) / (float(group["lr"]) * self._curvature)
            for group in self._optimizer.param_groups
        )
        if factor >= stable:
            warnings.warn(
                f"unstable_learning_rate: {factor:.3g} times the batch size brings the learning "
                f"rate times the curvature to 2(1 + m) or more, where descent runs away; stay "
                f"below {stable * self.batch_size:.0f} examples a step",
                RuntimeWarning,
                stacklevel=3,
            )
