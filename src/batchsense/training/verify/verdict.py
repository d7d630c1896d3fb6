"""Check a plan on the job itself: whether its advice was right, by the error of the sweep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.training.verify.advice import Advice, swept_sizes
from batchsense.training.verify.sweeping import (
    REPEATS,
    Sweep,
    SweepStore,
    SweptSize,
    fingerprint_of,
    sweep,
)
from batchsense.training.workload import Workload, check_workload
from batchsense.variation.interval import Interval, student_quantile

#: Relative errors below this are not believed, however well five points fit.
LEAST_ERROR = 0.03
#: Critical batch sizes tried, up to this factor beyond both ends of the sizes: 0.6 % apart.
_GRID, _BEYOND = 4001, 1e4
#: Relative error of a measured step time: assumed, no study stands behind it.
_TIME_ERROR = 0.02
_LEVEL = 0.95
#: ``confirmed``: certainly within what is allowed; ``refuted``: certainly not; else between.
Outcome = Literal["confirmed", "not_refuted", "refuted"]


@dataclass(frozen=True, slots=True)
class StepsLaw:
    """S(B) = S_min (1 + B_crit/B), fitted.

    Attributes
    ----------
    minimum_steps : Interval
        S_min: steps that no batch size avoids.
    critical_batch_size : Interval
        B_crit in examples; [low, ∞) where it lies above all sizes, [0, high] where below.
    misfit : float
        Root mean square of log S − log fit.
    """

    minimum_steps: Interval
    critical_batch_size: Interval
    misfit: float

    def steps(self, batch_size: npt.ArrayLike) -> Floats:
        """Return the fitted number of steps at a batch size."""
        sizes = np.asarray(batch_size, dtype=np.float64)
        critical = self.critical_batch_size.estimate
        return np.asarray(self.minimum_steps.estimate * (1 + critical / sizes))


def fit_steps_law(
    batch_sizes: npt.ArrayLike,
    steps: npt.ArrayLike,
    *,
    error: float = LEAST_ERROR,
) -> StepsLaw:
    r"""Fit :math:`\log S = \log S_{min} + \log(1 + B_{crit}/B)` by least squares.

    The interval of B_crit is its profile: all values whose sum of squares exceeds the least by no
    more than t² s², with s² the residual variance (or the square of ``error``, the relative error
    of a number of steps as repeats tell it, where that is larger) and t Student's quantile with
    n − 2 degrees of freedom. It may be unbounded, and that is then the answer. Source: McCandlish
    et al. (2018), arXiv:1812.06162, equation 2.11.

    Raises UnresolvedError: fewer than three sizes.
    """
    sizes, log_steps = np.asarray(batch_sizes, float), np.log(np.asarray(steps, float))
    count = len(sizes)
    if len(np.unique(sizes)) < 3:
        raise UnresolvedError(
            f"{count} batch sizes reached the target, too few for a law", "three or more"
        )
    grid = np.geomspace(sizes.min() / _BEYOND, sizes.max() * _BEYOND, _GRID)
    residuals = log_steps - np.log1p(grid[:, None] / sizes)
    offsets = residuals.mean(axis=1)
    squares = ((residuals - offsets[:, None]) ** 2).sum(axis=1)
    best = int(squares.argmin())
    spread = max(math.sqrt(squares[best] / (count - 2)), error, LEAST_ERROR)
    t = student_quantile(count - 2, _LEVEL)
    accepted = np.flatnonzero(squares <= squares[best] + (t * spread) ** 2)
    first, last = int(accepted[0]), int(accepted[-1])
    low = 0.0 if first == 0 or grid[best] < sizes.min() else float(grid[first])
    high = math.inf if last == _GRID - 1 or grid[best] > sizes.max() else float(grid[last])
    slack = t * spread / math.sqrt(count)
    return StepsLaw(
        minimum_steps=Interval(
            math.exp(offsets[best]),
            0.0 if math.isinf(high) else math.exp(offsets[last] - slack),
            math.exp(offsets[first] + slack),
            _LEVEL,
        ),
        critical_batch_size=Interval(float(grid[best]), low, high, _LEVEL),
        misfit=math.sqrt(squares[best] / count),
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a sweep says about a plan.

    Attributes
    ----------
    outcome : str
        ``confirmed``, ``not_refuted`` or ``refuted``.
    regret : Interval
        Time to the target at the advised size over the least of the sizes it may be compared
        with, minus one; the low end is 0 where none is certainly faster.
    allowed : float
        The regret that is still no refutation.
    fastest : int
        The swept size with the least time.
    law : StepsLaw
        S_min and B_crit of the sweep.
    ratio_to_plan : Interval
        Swept B_crit over that of the plan.
    seconds_to_target : dict of int to float
        Training time to the target at each size that reached it.
    advised_reached : bool
        Whether the advised size reached the target at all.
    """

    outcome: Outcome
    regret: Interval
    allowed: float
    fastest: int
    law: StepsLaw
    ratio_to_plan: Interval
    seconds_to_target: dict[int, float]
    advised_reached: bool


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
    rates are searched around the rule. See :func:`~batchsense.training.verify.sweeping.sweep`.

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
    >>> checked = verify_plan(load_target("digits"), advice, repeats=1, budget=3600)
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


def judge(advice: Advice, found: Sweep, allowed: float = 0.15) -> Verdict:
    r"""Compare the advised size with the others; a regret certainly above ``allowed`` refutes it.

    With T = S·(time of a step) and d the difference of log T from the advised to another size, its
    error is :math:`\sqrt{2(s^2/R + 0.02^2)}`: s the spread between R orders of the examples, or
    of the sizes about the fitted law where there is one order. The regret lies between the largest
    lower and the largest upper bound of :math:`e^d - 1`, at a level shared out over the sizes.

    Raises UnresolvedError: fewer than three sizes reached the target within the budget.
    """
    arrived = [size for size in found.sizes if size.steps]
    if len(arrived) < 3:
        spent = f"in {found.seconds:.2g} seconds of training" if found.seconds else "so far"
        raise UnresolvedError(
            f"{len(arrived)} of the batch sizes reached a loss of {advice.target_loss:.4g} "
            f"{spent}, too few for an answer",
            "a larger --budget (what was done is kept: run again), or a higher --loss",
        )
    error, degrees = _error_of_steps(arrived)
    law = fit_steps_law(
        [size.batch_size for size in arrived],
        [size.mean_steps for size in arrived],
        error=error,
    )
    if math.isinf(degrees):
        error, degrees = max(law.misfit, LEAST_ERROR), max(len(arrived) - 2, 1)
    times = {s.batch_size: s.mean_steps * found.step_seconds[s.batch_size] for s in arrived}
    rivals = {size: time for size, time in times.items() if advice.allows(size)}
    critical, planned = law.critical_batch_size, advice.used_critical_batch_size
    advised_reached = advice.batch_size in times
    if advised_reached:
        regret = _regret(rivals, advice.batch_size, error, degrees)
    else:
        regret = Interval(math.inf, allowed, math.inf, _LEVEL)
    return Verdict(
        outcome=_outcome(regret, allowed, advised_reached, found.complete),
        regret=regret,
        allowed=allowed,
        fastest=min(rivals or times, key=lambda size: times[size]),
        law=law,
        ratio_to_plan=Interval(
            critical.estimate / planned, critical.low / planned, critical.high / planned, _LEVEL
        ),
        seconds_to_target=times,
        advised_reached=advised_reached,
    )


def _outcome(regret: Interval, allowed: float, reached: bool, complete: bool) -> Outcome:
    """Name the outcome; a size that was cut off by the budget refutes nothing."""
    if not reached:
        return "refuted" if complete else "not_refuted"
    if regret.low > allowed:
        return "refuted"
    return "confirmed" if regret.high <= allowed else "not_refuted"


def _error_of_steps(sizes: list[SweptSize]) -> tuple[float, float]:
    """Give the relative error of a mean number of steps, and its degrees of freedom.

    The degrees are infinite where no size was repeated: then nothing is known from repeats.
    """
    repeated = [np.log(size.steps) for size in sizes if len(size.steps) > 1]
    degrees = sum(len(logs) - 1 for logs in repeated)
    if degrees == 0:
        return LEAST_ERROR, math.inf
    pooled = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in repeated) / degrees
    fewest = min(len(size.steps) for size in sizes)
    return max(math.sqrt(pooled / fewest), LEAST_ERROR), float(degrees)


def _regret(times: dict[int, float], advised: int, error: float, degrees: float) -> Interval:
    others = [math.log(times[advised] / time) for size, time in times.items() if size != advised]
    if not others:
        return Interval(0.0, 0.0, 0.0, _LEVEL)
    slack = math.sqrt(2 * (error**2 + _TIME_ERROR**2))
    slack *= float(stdtrit(degrees, 1 - (1 - _LEVEL) / (2 * len(others))))
    worst = max(others)
    return Interval(
        max(math.expm1(worst), 0.0),
        max(math.expm1(worst - slack), 0.0),
        max(math.expm1(worst + slack), 0.0),
        _LEVEL,
    )
