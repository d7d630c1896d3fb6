"""The sweep: every size with several learning rates, the most telling runs first."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from batchsense.errors import UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.training.step_time import measure_step_time
from batchsense.training.verify.advice import Advice
from batchsense.training.verify.store import SweepStore
from batchsense.training.verify.training_run import OutOfTimeError, SweptRun, train_to_loss
from batchsense.training.workload.workload import Workload

#: Learning rates around the rule, and how often the grid grows when the best is at its edge.
MULTIPLIERS = (1.0, 0.5, 2.0)
EXTENSIONS = 3
#: Orders of the examples at the best learning rate of each size.
REPEATS = 5
#: The first run of a size gives up after this many times the predicted steps.
_GIVE_UP = 8.0
_STEP_TIME_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class SweptSize:
    """What the sweep found at one batch size.

    Attributes
    ----------
    batch_size : int
        Examples per step.
    steps : tuple of float
        Steps to the target at the best learning rate, one for each order of the examples; empty
        if no learning rate reached it.
    multiplier : float
        The best learning rate over that of the rule.
    at_edge : bool
        Whether a better one may lie beyond those tried, or only one was tried.
    """

    batch_size: int
    steps: tuple[float, ...]
    multiplier: float
    at_edge: bool

    @property
    def mean_steps(self) -> float:
        """The geometric mean over orders."""
        return math.exp(float(np.mean(np.log(self.steps))))


@dataclass(frozen=True, slots=True)
class Sweep:
    """All sizes of a sweep.

    Attributes
    ----------
    sizes : tuple of SweptSize
        Ascending by batch size; only those that were tried.
    step_seconds : dict of int to float
        Time of a step at each size.
    complete : bool
        Whether every planned run was made within the budget.
    seconds : float
        Time of all runs, those of earlier calls included.
    """

    sizes: tuple[SweptSize, ...]
    step_seconds: dict[int, float]
    complete: bool
    seconds: float


def sweep(
    workload: Workload,
    advice: Advice,
    sizes: tuple[int, ...],
    store: SweepStore,
    *,
    budget: float = 300.0,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: Progress = silent,
) -> Sweep:
    """Train copies from the same weights to the same loss at every size.

    First the learning rate of the rule at every size, then half and twice of it, then beyond the
    edge where the best lies at one, then further orders of the examples at the best. A learning
    rate is given up as soon as it is slower than the best so far. Runs of one order see the same
    examples in the same sequence, whatever their batch size.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    advice : Advice
        Target loss and learning rates.
    sizes : tuple of int
        Batch sizes.
    store : SweepStore
        What was found before; grows with every run.
    budget : float
        Seconds after which to stop.
    repeats : int
        Orders of the examples.
    seed : int
        Seed of the orders.
    progress : Progress
        Told the seconds spent.

    Returns
    -------
    Sweep
        As far as the budget went.

    Raises
    ------
    DataError
        The workload cannot be trained or evaluated.
    """
    work = _Work(workload, advice, sizes, store, budget, seed, progress)
    complete = True
    try:
        work.run(repeats)
    except OutOfTimeError:
        complete = False
    return Sweep(
        sizes=tuple(summary for size in sizes if (summary := work.summary(size)) is not None),
        step_seconds=store.step_seconds,
        complete=complete,
        seconds=sum(run.seconds for run in store.runs),
    )


class _Work:
    """The runs still to make and the time still to spend."""

    def __init__(
        self,
        workload: Workload,
        advice: Advice,
        sizes: tuple[int, ...],
        store: SweepStore,
        budget: float,
        seed: int,
        progress: Progress,
    ) -> None:
        self.workload, self.advice, self.store = workload, advice, store
        self.sizes = sorted(sizes, key=lambda size: (_place(size, sizes, advice), size))
        self.budget, self.seed, self.progress = budget, seed, progress
        self._began = time.monotonic()

    def run(self, repeats: int) -> None:
        """Make every run that is not in the store yet."""
        if not set(self.sizes) <= set(self.store.step_seconds):
            timed = measure_step_time(
                self.workload,
                sorted(self.sizes),
                seconds=min(6.0, _STEP_TIME_SHARE * self.budget),
                seed=self.seed,
                progress=self.progress,
            )
            pairs = zip(timed.batch_sizes, timed.typical, strict=True)
            self.store.keep_step_seconds({int(size): float(time) for size, time in pairs})
        for multiplier in MULTIPLIERS:
            for size in self.sizes:
                self._try(size, multiplier)
        for _ in range(EXTENSIONS):
            for size in self.sizes:
                beyond = self._beyond(size)
                if beyond is not None and abs(math.log2(beyond)) <= 1 + EXTENSIONS:
                    self._try(size, beyond)
        for repeat in range(1, repeats):
            for size in self.sizes:
                best = self._best(size)
                if best is not None:
                    self._try(size, best.multiplier, repeat)

    def summary(self, size: int) -> SweptSize | None:
        """Say what is known of a size; None if it was not tried."""
        if not self._tuning(size):
            return None
        best = self._best(size)
        if best is None:
            return SweptSize(size, (), math.nan, at_edge=True)
        steps = tuple(
            run.steps
            for run in self.store.runs
            if (run.batch_size, run.multiplier) == (size, best.multiplier) and run.steps is not None
        )
        return SweptSize(size, steps, best.multiplier, at_edge=self._beyond(size) is not None)

    def _try(self, size: int, multiplier: float, repeat: int = 0) -> None:
        """Make a run, unless it was made before."""
        if self.store.find(size, multiplier, repeat) is not None:
            return
        best = self._best(size)
        if best is None or best.steps is None:
            most = _GIVE_UP * self.advice.predicted_steps(size) + 50
        else:
            most = (4.0 if repeat else 1.1) * best.steps + 5
        run = train_to_loss(
            self.workload,
            self.advice,
            size,
            multiplier,
            repeat,
            math.ceil(most),
            seed=self.seed,
            out_of_time=self._out_of_time,
        )
        if run.steps == 0.0:
            raise UnresolvedError(
                f"the loss is {self.advice.target_loss:.4g} or below before the first step, so "
                "there is nothing to train for",
                "a lower target with --loss",
            )
        self.store.add(run)

    def _out_of_time(self) -> bool:
        """Whether the budget is spent; tells the listener how much of it."""
        spent = time.monotonic() - self._began
        self.progress("training copies", min(int(spent), int(self.budget)), int(self.budget))
        return spent > self.budget

    def _tuning(self, size: int) -> list[SweptRun]:
        """Give the runs of the first order at a size."""
        return [run for run in self.store.runs if run.batch_size == size and run.repeat == 0]

    def _best(self, size: int) -> SweptRun | None:
        """Give the fastest run of the first order."""
        arrived = [run for run in self._tuning(size) if run.steps is not None]
        return min(arrived, key=lambda run: run.steps or math.inf, default=None)

    def _beyond(self, size: int) -> float | None:
        """Give the learning rate to try next where the best one lies at an edge of those tried."""
        tried = sorted(run.multiplier for run in self._tuning(size))
        best = self._best(size)
        if not tried or (best is None and len(tried) > len(MULTIPLIERS)):
            return None
        if best is None or best.multiplier == tried[0]:
            return tried[0] / 2
        return tried[-1] * 2 if best.multiplier == tried[-1] else None


def _place(size: int, sizes: tuple[int, ...], advice: Advice) -> int:
    """Rank a size: the advice first, then the ends, then what lies between."""
    if size == advice.batch_size:
        return 0
    return 1 if size in (sizes[0], sizes[-1]) else 2
