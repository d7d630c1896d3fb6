"""How long a training step takes, as a fixed part and a part per example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from batchsense import clock
from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.running import optimizer_step
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    still_optimizer,
)
from batchsense.variation.interval import Interval
from batchsense.variation.lines import weighted_lines

#: Largest relative distance of a measured size from the line at which the line is still used: less
#: than the 20 % by which rounding to handy sizes may move the advice.
GOOD_FIT = 0.15
#: Sizes timed by default: 2, 8, 32, … One example takes special paths in many kernels; factors of
#: four reach far in few sizes; beyond the last, a step's fixed cost is long lost in its noise.
_SMALLEST, _SPACING, _MOST_EXAMPLES = 2, 4, 8192
#: Five rounds are the least of which a quartile means something; sixty only end long budgets.
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 60
#: A reading is the quickest step of about this long, so that some steps of it are undisturbed.
_READING_SECONDS = 0.01
#: Steps of a reading at most: very quick steps need no more to meet an undisturbed one.
_MOST_STEPS = 20
#: Bootstrap resamples: 25 of them lie beyond each end of a 95 % interval.
_LEVEL, _RESAMPLES = 0.95, 1000
#: Other programs only ever add time, so the low side is the true one; the minimum itself would
#: hang on one lucky reading.
_QUANTILE = 0.25
#: Part of a step that reading the examples may take unmentioned: below it, a loader that overlaps
#: it all moves the best size by at most a tenth (the optimum goes with the root of step times).
_LOADING_SHARE = 0.2
#: Rounds that the sizes chosen must allow within the time.
_WANTED_ROUNDS = 10


@dataclass(frozen=True, slots=True, eq=False)
class StepTime:
    """Time of a training step: T(B) = c0 + c1·B, in seconds.

    Attributes
    ----------
    fixed : Interval
        c0 in seconds: what a step costs however few examples it has; never below 0.
    per_example : Interval
        c1 in seconds per example; never below 0.
    overhead_batch_size : Interval
        c0/c1 in examples: the batch size at which both parts are equal; infinite where c1 is 0.
    batch_sizes : array of shape (sizes,)
        Measured sizes, ascending.
    typical : array of shape (sizes,)
        Seconds per step at each: the lower quartile of the readings, because what disturbs a step
        only ever adds time; held non-decreasing in the batch size for the same reason.
    misfit : float
        Largest relative distance of a typical time from the line.
    rounds : int
        Readings of each size.
    fetch_share : float
        Part of the time that reading and collating the examples takes, at the middle size.
    """

    fixed: Interval
    per_example: Interval
    overhead_batch_size: Interval
    batch_sizes: Floats
    typical: Floats
    misfit: float
    rounds: int
    fetch_share: float

    @property
    def is_line(self) -> bool:
        """Whether the line describes all measured sizes within 15 %."""
        return self.misfit <= GOOD_FIT

    def seconds(self, batch_size: npt.ArrayLike) -> Floats:
        """Predict the seconds of a step: by the line, or between the readings if it misfits.

        Beyond the largest reading a misfitting curve goes on with the steeper of its last slope
        and the line's.
        """
        sizes = np.asarray(batch_size, dtype=np.float64)
        if self.is_line:
            return np.asarray(self.fixed.estimate + self.per_example.estimate * sizes)
        inside = np.interp(sizes, self.batch_sizes, self.typical)
        span = self.batch_sizes[-1] - self.batch_sizes[-2]
        slope = max((self.typical[-1] - self.typical[-2]) / span, self.per_example.estimate)
        beyond = self.typical[-1] + slope * (sizes - self.batch_sizes[-1])
        return np.asarray(np.where(sizes > self.batch_sizes[-1], beyond, inside))

    def doubts(self, batch_size: int) -> tuple[Note, ...]:
        """Say why the step time may be off at a batch size."""
        possible = (
            (
                not self.is_line,
                "step_time_no_line",
                f"Step times miss the line c0 + c1·B by up to {self.misfit:.0%}; the advice was "
                "searched between the measured times instead, and its interval is rougher.",
            ),
            (
                self.fixed.estimate == 0,
                "no_fixed_cost",
                "No fixed cost per step could be seen, so small minibatches look free; the fit is "
                "held at zero.",
            ),
            (
                self.per_example.estimate == 0,
                "no_cost_per_example",
                "Steps took no longer for more examples at the sizes timed; the true limit lies "
                "above them.",
            ),
            (
                batch_size > 2 * self.batch_sizes[-1],
                "beyond_timed_sizes",
                f"The advice lies beyond the largest size timed ({self.batch_sizes[-1]:.0f}).",
            ),
            (
                self.fetch_share > _LOADING_SHARE,
                "loading_counts",
                f"Reading and collating examples takes {self.fetch_share:.0%} of a step; with "
                "loader workers that part can overlap and the best batch size changes.",
            ),
        )
        return tuple(Note(code, text) for holds, code, text in possible if holds)


def measure_step_time(
    workload: Workload,
    batch_sizes: Sequence[int] | None = None,
    *,
    seconds: float = 6.0,
    largest: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> StepTime:
    """Time real training steps on this machine at several batch sizes.

    A step is: fetch and collate, loss, backward, optimizer, zero_grad, as in a plain loop without
    loader workers. Sizes take turns in random order, round by round, so that a slow moment of the
    machine meets all of them. A reading is the quickest of up to 20 steps, and each size counts by
    the lower quartile of its readings: other programs on the machine only ever add time. Weights
    do not move.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    batch_sizes : sequence of int, optional
        Sizes to time, at least two; 2, 8, 32, … as far as time and ``largest`` allow by default.
    seconds : float
        About how long to measure; five rounds are made in any case.
    largest : int, optional
        Time no size above it (memory).
    seed : int
        Seed of the order and of the model's own randomness; times themselves are not repeatable.
    progress : Progress
        Told after each round.

    Returns
    -------
    StepTime
        c0 and c1 with bootstrap intervals over rounds.

    Raises
    ------
    DataError
        The workload cannot be evaluated, or fewer than two different sizes are possible.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> timed = measure_step_time(load_target("digits"), [2, 8, 32, 128], seconds=0.1)
    >>> timed.per_example.low <= timed.per_example.estimate <= timed.per_example.high
    True
    """
    bound = min(admitted(workload), _MOST_EXAMPLES, largest or _MOST_EXAMPLES)
    with borrowed_randomness(seed):
        timer = _StepTimer(workload)
        if batch_sizes is None:
            sizes = _affordable_sizes(timer, bound, seconds)
        else:
            sizes = sorted({int(size) for size in batch_sizes})
        if len(sizes) < 2 or sizes[0] < 1:
            raise DataError("step times need two different batch sizes of at least 1")
        readings, fetches = _rounds(timer, sizes, seconds, np.random.default_rng(seed), progress)
    middle = len(sizes) // 2
    share = float(np.median(fetches[:, middle]) / np.median(readings[:, middle]))
    return fit_step_time(sizes, readings, fetch_share=min(share, 1.0), seed=seed)


def fit_step_time(
    batch_sizes: npt.ArrayLike,
    readings: npt.ArrayLike,
    *,
    fetch_share: float = 0.0,
    seed: int = 0,
) -> StepTime:
    r"""Fit c0 + c1·B to readings, both held non-negative.

    Minimises the relative residuals of the lower quartiles q,
    :math:`\sum_j (1 - (c_0 + c_1 B_j)/q_j)^2`; intervals are percentiles over resampled rounds,
    because what disturbs a round disturbs all its sizes.

    Parameters
    ----------
    batch_sizes : array of shape (sizes,)
        In examples, ascending.
    readings : array of shape (rounds, sizes)
        Seconds per step.
    fetch_share : float
        Passed on.
    seed : int
        Seed of the resampling.

    Returns
    -------
    StepTime
        The fit.

    Examples
    --------
    >>> fitted = fit_step_time([2, 8, 32], [[0.012, 0.018, 0.042]] * 5)
    >>> round(fitted.fixed.estimate, 9), round(fitted.per_example.estimate, 9)
    (0.01, 0.001)
    >>> round(fitted.overhead_batch_size.estimate, 6)
    10.0
    """
    sizes = np.asarray(batch_sizes, dtype=np.float64)
    table = np.asarray(readings, dtype=np.float64)
    rounds = len(table)
    typical = _rising(np.quantile(table, _QUANTILE, axis=0))
    drawn = np.random.default_rng(seed).integers(rounds, size=(_RESAMPLES, rounds))
    resampled = _rising(np.quantile(table[drawn], _QUANTILE, axis=1))
    fixed, slope = nonnegative_lines(sizes, np.vstack([typical, resampled]))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(slope > 0, fixed / slope, math.inf)
    line = fixed[0] + slope[0] * sizes
    return StepTime(
        fixed=_percentiles(fixed),
        per_example=_percentiles(slope),
        overhead_batch_size=_percentiles(ratio),
        batch_sizes=sizes,
        typical=typical,
        misfit=float(np.abs(typical / line - 1).max()),
        rounds=rounds,
        fetch_share=fetch_share,
    )


def _rising(times: Floats) -> Floats:
    """Lower a time to that of any larger size: more examples never make a step quicker."""
    return np.asarray(np.minimum.accumulate(times[..., ::-1], axis=-1)[..., ::-1])


def nonnegative_lines(sizes: Floats, times: Floats) -> tuple[Floats, Floats]:
    """Fit non-negative c0 and c1 to each row by relative least squares.

    ``sizes`` has shape (sizes,) in examples, ``times`` shape (rows, sizes) in seconds.

    >>> fixed, slope = nonnegative_lines(np.array([2.0, 8.0]), np.array([[0.012, 0.018]]))
    >>> round(float(fixed[0]), 6), round(float(slope[0]), 6)
    (0.01, 0.001)
    """
    weight = 1 / times**2
    lines = weighted_lines(sizes, times, weight)
    slope, fixed = lines.slope, lines.at(0.0)
    flat, through_zero = slope < 0, fixed < 0
    steepest = (weight * sizes * times).sum(1) / (weight * sizes**2).sum(1)
    slope = np.where(flat, 0.0, np.where(through_zero, steepest, slope))
    fixed = np.where(flat, lines.level, np.where(through_zero, 0.0, fixed))
    return fixed, slope


def _percentiles(values: Floats) -> Interval:
    """Make an interval of the first value from the resampled rest; it holds the estimate."""
    tail = (1 - _LEVEL) / 2
    # 'lower' and 'higher' pick resampled values: interpolating with infinity would give NaN.
    low = float(np.quantile(values[1:], tail, method="lower"))
    high = float(np.quantile(values[1:], 1 - tail, method="higher"))
    estimate = float(values[0])
    return Interval(estimate, min(low, estimate), max(high, estimate), _LEVEL)


class _StepTimer:
    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.model: nn.Module = workload.fresh_model()
        self.optimizer = still_optimizer(workload, self.model)
        self.cuda = next(self.model.parameters()).device.type == "cuda"

    def read(self, indices: npt.NDArray[Any], repeats: int) -> tuple[float, float]:
        taken, fetching = math.inf, 0.0
        for _ in range(repeats):
            self._wait()
            began = clock.now()
            minibatch = self.workload.minibatch(indices)
            fetched = clock.now()
            optimizer_step(self.workload, self.model, self.optimizer, [minibatch])
            self._wait()
            step = clock.now() - began
            if step < taken:
                taken, fetching = step, fetched - began
        return taken, fetching

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def _affordable_sizes(timer: _StepTimer, bound: int, seconds: float) -> list[int]:
    """Choose 2, 8, 32, … up to the bound, while ten rounds of them fit into the time."""
    smallest = min(_SMALLEST, bound)
    sizes, spent, size = [], 0.0, smallest
    count = len(timer.workload.examples)
    while size <= bound:
        chosen = np.arange(size) % count
        timer.read(chosen, 1)  # warm-up: kernels, caches, optimizer state
        taken = timer.read(chosen, 3)[0]
        sizes.append(size)
        spent += max(taken, _READING_SECONDS)
        # The next size takes up to four times as long.
        if len(sizes) >= 3 and _WANTED_ROUNDS * (spent + _SPACING * taken) > seconds:
            break
        size *= _SPACING
    return sizes if len(sizes) > 1 else sorted({smallest, bound})


def _rounds(
    timer: _StepTimer,
    sizes: Sequence[int],
    seconds: float,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[Floats, Floats]:
    count = len(timer.workload.examples)
    repeats = []
    for size in sizes:
        indices = rng.choice(count, size=size, replace=size > count)
        timer.read(indices, 1)
        quick = timer.read(indices, 2)[0]
        repeats.append(min(_MOST_STEPS, max(1, math.ceil(_READING_SECONDS / quick))))
    readings: list[Floats] = []
    fetches: list[Floats] = []
    began = clock.now()
    while len(readings) < _MOST_ROUNDS:
        spent = clock.now() - began
        if len(readings) >= _LEAST_ROUNDS and spent > seconds:
            break
        row = np.zeros((2, len(sizes)))
        for place in rng.permutation(len(sizes)):
            indices = rng.choice(count, size=sizes[place], replace=sizes[place] > count)
            row[:, place] = timer.read(indices, repeats[place])
        readings.append(row[0])
        fetches.append(row[1])
        progress("timing steps", min(int(100 * spent / seconds), 99), 100)
    progress("timing steps", 100, 100)
    return np.array(readings), np.array(fetches)
