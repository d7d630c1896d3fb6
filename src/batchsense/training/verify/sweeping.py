"""The sweep: every size with several learning rates, the most telling runs first.

What was found so far is kept in a file, so that an interrupted check goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsense import clock
from batchsense.errors import DataError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.storage.atomic import write_text
from batchsense.storage.seal import BrokenSealError, sealed, unsealed
from batchsense.training.step_time import measure_step_time
from batchsense.training.verify.advice import Advice
from batchsense.training.verify.training_run import OutOfTimeError, SweptRun, train_to_loss
from batchsense.training.workload import Workload

#: Learning rates around the rule, and how often the grid grows when the best is at its edge.
MULTIPLIERS = (1.0, 0.5, 2.0)
EXTENSIONS = 3
#: Orders of the examples at the best learning rate of each size.
REPEATS = 5
#: The first run of a size gives up after this many times the predicted steps: a plan that is wrong
#: by more is refuted anyhow.
_GIVE_UP = 8.0
#: For step times, of the budget and at most; the rest is for the runs, which tell more.
_STEP_TIME_SHARE, _STEP_TIME_SECONDS = 0.1, 6.0
_KIND = "batchsense verify state"
_FORMAT = f"{_KIND} 2"


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


class SweepStore:
    """Finished runs, by condition, written to a file after each one; nothing without a path.

    The ``fingerprint`` says what the runs are about. With ``restart`` what the file holds is
    ignored; it must be the state of some check even then.

    Raises DataError: the file belongs to another check, or is no such file.
    """

    def __init__(
        self, fingerprint: str, path: str | Path | None = None, restart: bool = False
    ) -> None:
        self._fingerprint = fingerprint
        self._path = None if path is None else Path(path)
        self._runs: dict[tuple[int, float, int], SweptRun] = {}
        self.step_seconds: dict[int, float] = {}
        if self._path is not None and self._path.exists():
            self._read(self._path, restart)

    @property
    def runs(self) -> tuple[SweptRun, ...]:
        """All finished runs, in the order in which they were made."""
        return tuple(self._runs.values())

    def find(self, batch_size: int, multiplier: float, repeat: int) -> SweptRun | None:
        """Return the run of a condition, if it was made."""
        return self._runs.get((batch_size, multiplier, repeat))

    def add(self, run: SweptRun) -> None:
        """Keep a run and write the file."""
        self._runs[run.batch_size, run.multiplier, run.repeat] = run
        self._write()

    def keep_step_seconds(self, seconds: dict[int, float]) -> None:
        """Keep the measured step times and write the file."""
        self.step_seconds = dict(seconds)
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        document = {
            "format": _FORMAT,
            "fingerprint": self._fingerprint,
            "step_seconds": {str(size): time for size, time in self.step_seconds.items()},
            "runs": [asdict(run) for run in self._runs.values()],
        }
        text = json.dumps(sealed(document), indent=1, allow_nan=False)
        write_text(self._path, text + "\n")

    def _read(self, path: Path, restart: bool) -> None:
        where = str(path)
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
            known = document["format"]
            if not known.startswith(_KIND):
                raise ValueError(known)
        except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
            why = f" ({error.strerror})" if isinstance(error, OSError) else ""
            raise DataError(
                f"not the state of a check{why}; give another name with --state",
                where=where,
            ) from None
        if restart:
            return
        if known != _FORMAT:
            raise DataError("is of another version; --restart replaces it", where=where)
        try:
            held = unsealed(document)
        except BrokenSealError:
            raise DataError(
                "was damaged or changed after it was written; --restart replaces it", where=where
            ) from None
        if held["fingerprint"] != self._fingerprint:
            if not held["runs"]:
                return
            raise DataError(
                "belongs to the check of another plan, model, loss or seed; --restart replaces it",
                where=where,
            )
        runs = [SweptRun(**run) for run in held["runs"]]
        self._runs = {(run.batch_size, run.multiplier, run.repeat): run for run in runs}
        self.step_seconds = {int(size): time for size, time in held["step_seconds"].items()}


def fingerprint_of(workload: Workload, advice: Advice, seed: int) -> str:
    """Return a hash of what decides a sweep: weights, number of examples, claims and seed."""
    digest = hashlib.sha256(f"{advice!r} {seed} {len(workload.examples)}".encode())
    for parameter in workload.model.parameters():
        digest.update(parameter.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()


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
    """Train copies from the same weights to the same loss at every size, as far as the budget goes.

    First the learning rate of the rule at every size, then half and twice of it, then beyond the
    edge where the best lies at one, then further orders of the examples at the best, ``repeats`` in
    all. A learning rate is given up as soon as it is slower than the best so far. Runs of one order
    see the same examples in the same sequence, whatever their batch size. The ``store`` holds what
    was found before, and grows with every run. The budget is in seconds.
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
        self._began = clock.now()

    def run(self, repeats: int) -> None:
        if not set(self.sizes) <= set(self.store.step_seconds):
            timed = measure_step_time(
                self.workload,
                sorted(self.sizes),
                seconds=min(_STEP_TIME_SECONDS, _STEP_TIME_SHARE * self.budget),
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
        spent = clock.now() - self._began
        self.progress("training copies", min(int(spent), int(self.budget)), int(self.budget))
        return spent > self.budget

    def _tuning(self, size: int) -> list[SweptRun]:
        return [run for run in self.store.runs if run.batch_size == size and run.repeat == 0]

    def _best(self, size: int) -> SweptRun | None:
        arrived = [run for run in self._tuning(size) if run.steps is not None]
        return min(arrived, key=lambda run: run.steps or math.inf, default=None)

    def _beyond(self, size: int) -> float | None:
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
