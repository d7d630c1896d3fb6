"""A plan, as a trainer or a loop applies it: examples of a step, micro-batches, learning rate."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from batchsense.errors import DataError
from batchsense.storage.documents import read_result
from batchsense.training.learning_rate import matching_learning_rate
from batchsense.training.planning.batch_size import used_critical_batch_size
from batchsense.training.planning.plan import TrainingPlan
from batchsense.training.running import Ranks
from batchsense.training.schedule.coupling import change_learning_rate
from batchsense.training.schedule.draws import check_size
from batchsense.variation.interval import Interval

_COMMAND = "batchsense plan TARGET -o FILE"
_HOW = f"write one with `{_COMMAND}`"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What a plan asks of a training: its batch size, and how the learning rate follows.

    Attributes
    ----------
    batch_size : int
        Examples of a step over all processes.
    planned_from : tuple of (float, int) or None
        The learning rate of the first parameter group and the examples that it belonged to when it
        was planned; None where the plan did not know.
    critical_batch_size : float
        In examples; infinite where it is unknown.
    examples, parameters : int
        Of the planned job.

    Examples
    --------
    >>> found = {"examples": 1797, "parameters": 2410, "learning_rate": 0.35, "batch_size": 96}
    >>> found["learning_rate_rule"] = {"factor": 1.75, "from_batch_size": 32}
    >>> found["critical_batch_size"] = {"estimate": 96, "low": 70, "high": 130}
    >>> step = PlannedStep.of({"command": "plan", "result": found})
    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    >>> step.apply(sgd)
    >>> step.micro_batches(32), round(sgd.param_groups[0]["lr"], 9)
    (3, 0.4)
    """

    batch_size: int
    planned_from: tuple[float, int] | None
    critical_batch_size: float
    examples: int
    parameters: int

    @classmethod
    def of(cls, plan: Any, workers: int = 1) -> Self:
        """Read a plan: the answer of ``plan_training``, a document of ours, or the file of one.

        Where the document compared numbers of workers, the size is that for ``workers``.

        Raises
        ------
        DataError
            It is no plan, holds a refusal, or is of another version.
        """
        if isinstance(plan, TrainingPlan):
            rate = plan.learning_rate
            return cls(
                plan.advice.batch_size,
                None if rate is None else (rate.learning_rate / rate.factor, rate.from_batch_size),
                plan.advice.used_critical_batch_size,
                plan.check.examples,
                plan.check.parameters,
            )
        found = _result(plan)
        try:
            compared = (found.get("workers") or {}).get("choices", ())
            sizes = {one["workers"]: one["batch_size"] for one in compared}
            rule, ends = found["learning_rate_rule"], found["critical_batch_size"]
            return cls(
                int(sizes.get(workers, found["batch_size"])),
                None
                if rule is None
                else (found["learning_rate"] / rule["factor"], int(rule["from_batch_size"])),
                used_critical_batch_size(
                    Interval(
                        _or(ends["estimate"], math.inf),
                        _or(ends["low"], 0.0),
                        _or(ends["high"], math.inf),
                    )
                ),
                int(found["examples"]),
                int(found["parameters"]),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(f"no plan of this version of batchsense ({error!r}); {_HOW}") from None

    def check_job(self, examples: int, parameters: int) -> None:
        """Refuse a training of other data or another model than was planned.

        Raises
        ------
        DataError
            With the numbers of both.
        """
        if (examples, parameters) != (self.examples, self.parameters):
            raise DataError(
                f"planned for {self.parameters:,} parameters and {self.examples:,} examples, but "
                f"this training has {parameters:,} and {examples:,}; plan it"
            )

    def micro_batches(self, micro_batch: int, world: int = 1) -> int:
        """Of how many micro-batches of each process a step consists.

        Raises
        ------
        DataError
            It is no whole number; with the nearest size that is.
        """
        check_size(self.batch_size, Ranks(0, world), micro_batch)
        return self.batch_size // (micro_batch * world)

    def apply(self, optimizer: torch.optim.Optimizer, schedulers: Iterable[Any] = ()) -> None:
        """Give an optimizer and its schedulers the planned learning rate, and β₂, ε and decay.

        Where it has them already, as from a checkpoint of a planned training, nothing is changed.

        Raises
        ------
        DataError
            Its learning rate is neither the one planned from nor the planned one.
        """
        if self.planned_from is None:
            return
        before, size = self.planned_from
        rate = matching_learning_rate(optimizer, size, self.batch_size, self.critical_batch_size)
        group = optimizer.param_groups[0]
        now = float(group.get("initial_lr", group["lr"]))
        if math.isclose(now, before * rate.factor, rel_tol=_SAME):
            return
        if not math.isclose(now, before, rel_tol=_SAME):
            raise DataError(
                f"planned from a learning rate of {before:.6g} for {size:,} examples, but the "
                f"optimizer has {now:.6g}; plan with this one"
            )
        if rate.rule == "square_root":
            change_learning_rate(optimizer, self.batch_size / size, "temperature", schedulers)
        else:
            change_learning_rate(optimizer, rate.factor, "lr", schedulers)


#: Learning rates that went through a document differ by rounding only.
_SAME = 1e-6


def _result(plan: Any) -> Any:
    """The result of a document of ours, in plain values."""
    if isinstance(plan, str | os.PathLike):
        return read_result(Path(plan), "plan", _COMMAND)
    plan = plan.model_dump() if hasattr(plan, "model_dump") else plan
    if not isinstance(plan, dict):
        raise DataError(f"a {type(plan).__name__} is no plan; {_HOW}")
    if plan.get("command", "plan") != "plan":
        raise DataError(f"an answer of {plan['command']} is no plan; {_HOW}")
    found = plan.get("result", plan) if "command" in plan else plan
    if found is None:
        raise DataError("holds a refusal, not a plan: there is no advice to apply")
    return found


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
