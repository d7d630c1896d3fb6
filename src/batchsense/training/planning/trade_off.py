"""The price of a batch size in time and in examples, and where the time is least."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.training.step_time import StepTime
from batchsense.variation.interval import Interval

#: Where step times follow no line, the optimum is sought up to this multiple of the largest timed.
_TRUSTED_BEYOND = 2.0
#: Stands for an unbounded critical batch size where a number is needed.
UNBOUNDED = 1e12


@dataclass(frozen=True, slots=True)
class TradeOff:
    """One row of the table of choices.

    Attributes
    ----------
    batch_size : int
        Examples.
    relative_time : Interval
        Training time, relative to the shortest that memory and data allow.
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


def optimal_batch_size(
    critical_batch_size: float, step_time: StepTime, largest: float = math.inf
) -> float:
    r"""Give the batch size with the least training time, not rounded.

    :math:`\sqrt{B_{crit} c_0/c_1}` where the step time is a line, else the numerical minimum of
    :math:`(1 + B_{crit}/B)\,T(B)` up to ``largest`` or twice the largest size that was timed:
    a curve that follows no law must not be carried far.

    Parameters
    ----------
    critical_batch_size : float
        B_crit in examples.
    step_time : StepTime
        Time of a step.
    largest : float
        Where a numerical search ends.

    Returns
    -------
    float
        Examples; infinite where a step costs no more for more examples.

    Examples
    --------
    >>> from batchsense.training import fit_step_time
    >>> timed = fit_step_time([2, 8, 32], [[0.012, 0.018, 0.042]] * 5)
    >>> round(optimal_batch_size(40.0, timed), 6)
    20.0
    """
    if step_time.is_line:
        return math.sqrt(critical_batch_size * step_time.overhead_batch_size.estimate)
    trusted = _TRUSTED_BEYOND * float(step_time.batch_sizes[-1])
    sizes = np.geomspace(1, min(largest, trusted), 4000)
    time = (1 + critical_batch_size / sizes) * step_time.seconds(sizes)
    return float(sizes[int(time.argmin())])


def knee_batch_size(critical_batch_size: float, step_time: StepTime) -> float:
    r"""Give the size at which the product of time and examples spent is least.

    Below it one per cent of time costs less than one per cent of examples, above it more:
    :math:`B = (\sqrt{c_0^2 + 8 c_0 c_1 B_{crit}} - c_0) / (4 c_1)`; B_crit where c1 = 0.

    Parameters
    ----------
    critical_batch_size : float
        B_crit in examples.
    step_time : StepTime
        c0 and c1.

    Returns
    -------
    float
        Examples.

    Examples
    --------
    >>> from batchsense.training import fit_step_time
    >>> timed = fit_step_time([2, 8, 32], [[0.012, 0.018, 0.042]] * 5)
    >>> round(knee_batch_size(30.0, timed), 6)
    10.0
    """
    overhead = step_time.overhead_batch_size.estimate
    if not math.isfinite(overhead):
        return critical_batch_size
    return (math.sqrt(overhead**2 + 8 * overhead * critical_batch_size) - overhead) / 4


def training_time(sizes: npt.ArrayLike, critical: float, step_time: StepTime) -> Floats:
    """Give the training time at each size, in units of S_min seconds."""
    values = np.asarray(sizes, dtype=np.float64)
    return np.asarray((1 + min(critical, UNBOUNDED) / values) * step_time.seconds(values))


def least_time(critical: float, step_time: StepTime, lower: int, upper: int) -> float:
    """Give the least training time within the limits."""
    best = min(max(optimal_batch_size(critical, step_time, upper), lower), upper)
    return float(training_time([lower, upper, best], critical, step_time).min())


def trade_offs(
    size: int,
    critical: float,
    interval: Interval,
    step_time: StepTime,
    upper: int,
    include: tuple[int, ...],
) -> tuple[TradeOff, ...]:
    """Tabulate powers of two around advice and optimum, and the included sizes."""
    best = min(max(optimal_batch_size(critical, step_time, upper), 1), upper)
    first, last = min(size, best) / 24, min(upper, 12 * max(size, best))
    powers = {2**k for k in range(41) if first <= 2**k <= last}
    sizes = sorted(powers | {size} | {s for s in include if 1 <= s <= upper})
    ends = (critical, interval.low, min(interval.high, UNBOUNDED))

    def spread(values: list[float]) -> Interval:
        high = math.inf if max(values) > 1e6 * values[0] else max(values)
        return Interval(values[0], min(values), high, interval.level)

    least = [least_time(end, step_time, 1, upper) for end in ends]
    rows: list[TradeOff] = []
    fastest = math.inf
    for candidate in sizes:
        times = [float(training_time(candidate, end, step_time)) for end in ends]
        rows.append(
            TradeOff(
                batch_size=candidate,
                relative_time=spread([t / best for t, best in zip(times, least, strict=True)]),
                relative_examples=spread(
                    [1 + candidate / end if end > 0 else math.inf for end in ends]
                ),
                relative_steps=spread([1 + end / candidate for end in ends]),
                efficient=times[0] < fastest,
            )
        )
        fastest = min(fastest, times[0])
    return tuple(rows)
