"""What each batch size costs in time and examples, over all that the measurements leave open."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from batchsense.arrays import Floats
from batchsense.training.step_time import StepTime
from batchsense.variation.interval import Interval

#: Stands for an unbounded critical batch size where a number is needed: more than any data set.
_UNBOUNDED = 1e12
#: Points of the search for the least time where step times follow no line: 3 % apart over five
#: decades, which misses a smooth minimum by 0.02 %.
_SEARCHED = 400
#: Ratios beyond this are told as unbounded.
_WITHOUT_END = 1e6


@dataclass(frozen=True, slots=True)
class TradeOff:
    """One row of the table of choices.

    Attributes
    ----------
    batch_size : int
        Examples.
    relative_time : Interval
        Training time, relative to the shortest that memory and data allow: by the numbers used,
        with its ends over all values in the intervals of noise and step time.
    relative_examples : Interval
        Examples spent, relative to the fewest possible: 1 + B/B_crit.
    relative_steps : Interval
        Steps, relative to the fewest possible: 1 + B_crit/B.
    efficient : bool
        False where a smaller batch size is both faster and cheaper.
    """

    batch_size: int
    relative_time: Interval
    relative_examples: Interval
    relative_steps: Interval
    efficient: bool


@dataclass(frozen=True, slots=True)
class Readings:
    """What was measured, and the one number that advice is computed from."""

    critical: Interval  #: B_crit in examples.
    used: float  #: The B_crit of the advice.
    step_time: StepTime  #: Time of a step.


def time_over_least(readings: Readings, size: int, lower: int, upper: int) -> Floats:
    r"""Give training time over the least between two sizes, for every reading of the measurements.

    Time goes as :math:`(1 + B_{crit}/B)\,t(B)`. Read are B_crit as used and at both ends of its
    interval, and t as predicted and as the lines :math:`c_0/c_1 + B` with the estimate and both
    ends of their ratio; the first by the number that the advice is computed from. In each of the
    two the excess of a size is a square of a ratio of straight lines, or such a ratio, so that the
    extremes of a line lie at ends. At least 1 where ``size`` lies between ``lower`` and ``upper``.

    >>> from batchsense.training import fit_step_time
    >>> timed = fit_step_time([2, 8, 32], [[0.012, 0.018, 0.042]] * 5)  # 10 ms + 1 ms each
    >>> round(float(time_over_least(Readings(Interval(40, 40, 40), 40, timed), 40, 1, 999)[0]), 3)
    1.111
    """
    ratios = []
    for critical in (readings.used, readings.critical.low, readings.critical.high):
        noise = min(critical, _UNBOUNDED)
        for seconds, best in _step_times(readings.step_time, noise):
            if best is None:
                others = np.geomspace(lower, upper, _SEARCHED)
            else:
                others = np.array([min(max(best, lower), upper)])
            sizes = np.concatenate([[size, lower, upper], others])
            time = (1 + noise / sizes) * seconds(sizes)
            ratios.append(float(time[0] / time.min()))
    return np.array(ratios)


def _step_times(
    timed: StepTime, critical: float
) -> Iterator[tuple[Callable[[Floats], Floats], float | None]]:
    """Go through the readings of the step time, each with its best size where there is a formula.

    The prediction comes first; where it is a line, it is that of the ratio's estimate.
    """
    ratio = timed.overhead_batch_size
    if not timed.is_line:
        yield timed.seconds, None
    for fixed in (ratio.estimate, ratio.low, ratio.high):
        overhead = min(fixed, _UNBOUNDED)
        yield partial(np.add, overhead), math.sqrt(critical * overhead)


def trade_offs(
    readings: Readings, advised: int, optimum: float, upper: int, include: tuple[int, ...]
) -> tuple[TradeOff, ...]:
    """Tabulate powers of two around advice and optimum, and the included sizes.

    ``optimum`` is the fastest size before limits, ``upper`` the most that memory and data allow.

    >>> from batchsense.training import fit_step_time
    >>> timed = fit_step_time([2, 8, 32], [[0.012, 0.018, 0.042]] * 5)
    >>> rows = trade_offs(Readings(Interval(40, 40, 40), 40, timed), 20, 20.0, 64, ())
    >>> [(row.batch_size, round(row.relative_time.estimate, 2)) for row in rows]
    [(1, 5.01), (2, 2.8), (4, 1.71), (8, 1.2), (16, 1.01), (20, 1.0), (32, 1.05), (64, 1.34)]
    """
    best = min(max(optimum, 1), upper)
    first, last = min(advised, best) / 24, min(upper, 12 * max(advised, best))
    powers = {2**k for k in range(41) if first <= 2**k <= last}
    sizes = sorted(powers | {advised} | {size for size in include if 1 <= size <= upper})
    ends = (readings.used, readings.critical.low, min(readings.critical.high, _UNBOUNDED))

    def spread(values: list[float]) -> Interval:
        high = math.inf if max(values) > _WITHOUT_END * values[0] else max(values)
        return Interval(values[0], min(values), high, readings.critical.level)

    rows: list[TradeOff] = []
    fastest = math.inf
    for size in sizes:
        times = time_over_least(readings, size, 1, upper).tolist()
        examples = [1 + size / end if end > 0 else math.inf for end in ends]
        rows.append(
            TradeOff(
                batch_size=size,
                relative_time=spread(times),
                relative_examples=spread(examples),
                relative_steps=spread([1 + end / size for end in ends]),
                efficient=times[0] < fastest,
            )
        )
        fastest = min(fastest, times[0])
    return tuple(rows)
