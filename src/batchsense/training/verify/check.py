"""Check a plan on the job itself, within a budget of time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.verify.advice import Advice, swept_sizes
from batchsense.training.verify.sweeping import (
    REPEATS,
    Sweep,
    SweepStore,
    fingerprint_of,
    sweep,
)
from batchsense.training.verify.verdict import Verdict, judge
from batchsense.training.workload import Workload, check_workload


@dataclass(frozen=True, slots=True)
class StateFile:
    """Where a check keeps its finished runs, so that the same call goes on from there.

    Attributes
    ----------
    path : str or path
        The file.
    restart : bool
        Begin anew even if it exists.
    """

    path: str | Path
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """A checked plan.

    Attributes
    ----------
    advice : Advice
        What was claimed.
    sweep : Sweep
        What was found.
    verdict : Verdict
        What follows.
    """

    advice: Advice
    sweep: Sweep
    verdict: Verdict


def verify_plan(
    workload: Workload,
    advice: Advice,
    *,
    budget: float = 300.0,
    allowed: float = 0.15,
    repeats: int = REPEATS,
    state: StateFile | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Verification:
    """Train copies at five batch sizes around the advice and see which is fastest.

    All start from the model's weights and run to the loss that the plan holds down to; learning
    rates are searched around the rule. See :func:`~batchsense.training.verify.sweep`.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    advice : Advice
        The plan's claims.
    budget : float
        Seconds of this call; what was done stays in ``state``.
    allowed : float
        Time that the advice may lose against the best size, as a fraction.
    repeats : int
        Orders of the examples per size, where time allows.
    state : StateFile, optional
        Makes the check resumable.
    seed : int
        Seed of the orders; times are not repeatable.
    progress : Progress
        Told the seconds spent.

    Returns
    -------
    Verification
        Sweep and verdict.

    Raises
    ------
    DataError
        The workload cannot be trained, or ``state`` belongs to another check.
    UnresolvedError
        Too few sizes reached the target within the budget.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> from batchsense.variation import Interval
    >>> advice = Advice(
    ...     batch_size=96,
    ...     critical_batch_size=Interval(50.0, 30.0, 90.0),
    ...     used_critical_batch_size=50.0,
    ...     target_loss=1.8,
    ...     learning_rate_batch_size=32,
    ...     steps=60,
    ...     run_batch_size=32,
    ...     largest=1797,
    ... )
    >>> checked = verify_plan(load_target("digits"), advice, repeats=1, budget=60)
    >>> checked.sweep.complete, [size.batch_size for size in checked.sweep.sizes]
    (True, [12, 34, 96, 272, 768])
    """
    if not budget > 0:
        raise DataError(f"the budget must be positive, not {budget} seconds")
    if not allowed > 0:
        raise DataError(f"the allowed loss of time must be positive, not {allowed}")
    checked = check_workload(workload, seed)
    sizes = swept_sizes(
        advice.batch_size, advice.largest, smallest=2 if checked.coupled_modules else 1
    )
    mark = fingerprint_of(workload, advice, seed)
    store = SweepStore(mark) if state is None else SweepStore(mark, state.path, state.restart)
    found = sweep(
        workload,
        advice,
        sizes,
        store,
        budget=budget,
        repeats=repeats,
        seed=seed,
        progress=progress,
    )
    return Verification(advice, found, judge(advice, found, allowed))
