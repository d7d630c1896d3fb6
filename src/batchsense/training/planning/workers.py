"""How many workers, and which batch size with them: for time, for cost, or between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.training.planning.batch_size import Limits
from batchsense.training.workers.prediction import LEVEL
from batchsense.variation.interval import Interval

#: Seconds of a step by workers and micro-batch, shape (draws,), the first draw the estimate.
StepSeconds = Callable[[int, int], Floats]
#: Micro-batches that are tried between one and the most that fit: steps of 2^(1/2) miss the least
#: time of a minimum as flat as these by well under 2 %.
_PER_OCTAVE = 2
#: Half the width of a normal 95 % interval, in standard deviations.
_REACH = 1.96
#: Standard deviation of the log of an unbounded critical batch size: a factor of ten.
_OPEN = math.log(10)


@dataclass(frozen=True, slots=True)
class WorkersChoice:
    """Some workers, and the batch size at which they train fastest."""

    #: Workers; examples of a step in all and of one worker.
    workers: int
    batch_size: int
    micro_batch: int
    step_seconds: Interval  #: Of one optimizer step.
    relative_time: Interval  #: Training time over that of the fastest choice.
    relative_cost: Interval  #: Worker-seconds of the training over those of the cheapest choice.
    #: Against the choice with fewer workers before it: the part of the time that the additional
    #: workers save, and the part of the cost that they add; None for the first.
    saved: Interval | None
    paid: Interval | None


@dataclass(frozen=True, slots=True)
class WorkersPlan:
    """The choices, one a number of workers, and which to take for what."""

    choices: tuple[WorkersChoice, ...]  #: Ascending by workers.
    #: Workers with the least time, the least cost, the least product of both.
    fastest: int
    cheapest: int
    knee: int


def plan_workers(
    critical: Interval,
    used: float,
    step_seconds: StepSeconds,
    workers: Sequence[int],
    limits: Limits,
    *,
    least_micro_batch: int = 1,
    seed: int = 0,
) -> WorkersPlan:
    r"""Choose a batch size for each number of workers, and compare them.

    Training takes :math:`(1 + B_{crit}/B)\, T(K, B/K)` and costs K times as much. ``used`` is the
    B_crit of the advice, ``critical`` that along a path; ``limits.memory`` holds for one worker,
    the others for all together; ``least_micro_batch`` is two where BatchNorm takes its statistics
    from the examples of one worker.

    Raises DataError: no workers are named.
    Raises UnresolvedError: the limits leave no batch size for any of them.
    """
    if not workers:
        raise DataError("name at least one number of workers, such as 1,2,4")
    found = []
    for count in sorted(set(workers)):
        best = _best_micro_batch(used, step_seconds, count, limits, least_micro_batch)
        if best is not None:
            found.append((count, best, step_seconds(count, best)))
    if not found:
        raise UnresolvedError(
            f"no batch size of {min(workers)} or more workers keeps the limits",
            f"at least {least_micro_batch * min(workers)} examples in a step",
        )
    draws = max(len(seconds) for _, _, seconds in found)
    noise = _noise(critical, used, draws, seed)
    times = [(1 + noise / (count * best)) * seconds for count, best, seconds in found]
    costs = [count * time for (count, _, _), time in zip(found, times, strict=True)]
    fastest, cheapest, knee = (
        int(np.argmin([float(value[0]) for value in values]))
        for values in (times, costs, [t * c for t, c in zip(times, costs, strict=True)])
    )
    choices = [
        WorkersChoice(
            count,
            count * best,
            best,
            _interval(seconds),
            _interval(times[row] / times[fastest]),
            _interval(costs[row] / costs[cheapest]),
            _interval(1 - times[row] / times[row - 1]) if row else None,
            _interval(costs[row] / costs[row - 1] - 1) if row else None,
        )
        for row, (count, best, seconds) in enumerate(found)
    ]
    return WorkersPlan(
        tuple(choices), *(choices[place].workers for place in (fastest, cheapest, knee))
    )


def _best_micro_batch(
    used: float, step_seconds: StepSeconds, workers: int, limits: Limits, fewest: int
) -> int | None:
    """The micro-batch with the least training time by the estimates; None where none is allowed."""
    most = min(
        limits.memory or math.inf,
        limits.examples // workers,
        (limits.maximum or math.inf) // workers,
    )
    least = max(math.ceil(max(limits.minimum, limits.precision or 1) / workers), fewest)
    if least > most:
        return None
    octaves = math.log2(most / least)
    powers = least * 2 ** np.linspace(0, octaves, 1 + math.ceil(_PER_OCTAVE * octaves))
    sizes = sorted({min(int(size), int(most)) for size in powers})
    times = [(1 + used / (workers * b)) * float(step_seconds(workers, b)[0]) for b in sizes]
    return sizes[int(np.argmin(times))]


def _noise(critical: Interval, used: float, draws: int, seed: int) -> Floats:
    """Draws of B_crit, log-normal as wide as its interval, the first as used."""
    spread = _OPEN
    if critical.bounded and critical.low > 0:
        spread = math.log(critical.high / critical.low) / (2 * _REACH)
    drawn = np.random.default_rng(seed).normal(size=draws)
    drawn[0] = 0.0
    return np.asarray(used * np.exp(spread * drawn))


def _interval(draws: Floats) -> Interval:
    estimate = float(draws[0])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), LEVEL)
