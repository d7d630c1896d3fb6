"""From noise and step time to a batch size: the time-optimal choice, its limits, its price."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchsense.errors import UnresolvedError
from batchsense.training.gradient_noise import is_resolved
from batchsense.training.planning.trade_off import (
    Readings,
    TradeOff,
    time_over_least,
    trade_offs,
)
from batchsense.training.step_time import StepTime
from batchsense.variation.interval import Interval

#: What keeps the batch size from being larger, or (``precision``, ``minimum``) smaller.
Binding = Literal["noise", "overhead", "memory", "data", "maximum", "precision", "minimum"]

#: Where step times follow no line, the optimum is sought up to this multiple of the largest timed:
#: a curve without a law must not be carried far.
_TRUSTED_BEYOND = 2.0
#: Points of the search between 1 and the largest size, 0.3 % apart even over five decades.
_SEARCHED = 4000


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the batch size, whatever the optimum.

    Attributes
    ----------
    examples : int
        Examples in the data set.
    memory : int or None
        Most examples that fit into memory, with margin; None if unknown.
    minimum, maximum : int, int or None
        The user's own bounds.
    precision : int or None
        Least examples for the wanted precision of the gradient.
    """

    examples: int
    memory: int | None = None
    minimum: int = 1
    maximum: int | None = None
    precision: int | None = None

    @property
    def possible(self) -> int:
        """The most examples that memory and data allow."""
        return self.examples if self.memory is None else min(self.examples, self.memory)


@dataclass(frozen=True, slots=True)
class BatchSizePlan:
    """The advised batch size and why.

    Attributes
    ----------
    batch_size : int
        The advice: the fastest choice within the limits, rounded to a handy number.
    optimum : Interval
        B* in examples before limits and rounding, with the uncertainty of noise and step time.
    binding : str
        What decides: see :data:`Binding`.
    critical_batch_size : Interval
        B_crit, the input.
    used_critical_batch_size : float
        The single number that the advice is computed from: the estimate where it is resolved, else
        the geometric middle of its interval, or its lower end where it has no upper one.
    cheapest, knee, fastest : int
        The smallest allowed size, which spends the fewest examples; the size at which one per cent
        less time starts to cost more than one per cent more examples; the advice.
    worst_excess : float
        The most that the advice may cost in time against the best choice within the limits, as a
        fraction, over all values in the intervals.
    limits : Limits
        The bounds that were applied.
    table : tuple of TradeOff
        Choices, ascending by batch size.
    """

    batch_size: int
    optimum: Interval
    binding: Binding
    critical_batch_size: Interval
    used_critical_batch_size: float
    cheapest: int
    knee: int
    fastest: int
    worst_excess: float
    limits: Limits
    table: tuple[TradeOff, ...]


def plan_batch_size(
    critical_batch_size: Interval,
    step_time: StepTime,
    limits: Limits,
    *,
    include: tuple[int, ...] = (),
) -> BatchSizePlan:
    r"""Choose the batch size that reaches a given loss soonest.

    Steps to a given loss follow :math:`S(B) = S_{min}(1 + B_{crit}/B)`, a step takes
    :math:`c_0 + c_1 B`, so training takes

    .. math:: T(B) = S_{min} (1 + B_{crit}/B)(c_0 + c_1 B),
        \qquad B^* = \sqrt{B_{crit}\, c_0 / c_1}.

    A B_crit wrong by a factor of two costs at most 3 % of the time. Assumes a learning rate that
    suits each batch size. Where the step time is no line, the minimum is searched numerically.

    Parameters
    ----------
    critical_batch_size : Interval
        B_crit in examples.
    step_time : StepTime
        c0 and c1.
    limits : Limits
        Bounds of the choice.
    include : tuple of int
        Sizes as handy as round ones, which the table must show, for example today's.

    Returns
    -------
    BatchSizePlan
        The advice with its interval; it may be smaller than today's.

    Raises
    ------
    UnresolvedError
        The critical batch size has neither end, or no batch size lies within the limits.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", arXiv:1812.06162.

    Examples
    --------
    >>> from batchsense.training import fit_step_time
    >>> timed = fit_step_time([2, 8, 32], [[0.012, 0.018, 0.042]] * 5)  # 10 ms + 1 ms each
    >>> plan = plan_batch_size(Interval(90, 60, 130), timed, Limits(examples=10_000))
    >>> round(plan.optimum.estimate), plan.batch_size, plan.binding
    (30, 32, 'overhead')
    """
    if critical_batch_size.low <= 0 and not critical_batch_size.bounded:
        raise UnresolvedError(
            "the noise measured so far fits any critical batch size", "a longer measurement"
        )
    critical = used_critical_batch_size(critical_batch_size)
    readings = Readings(critical_batch_size, critical, step_time)
    lower, upper, lower_by, upper_by = bounds(limits)
    optimum = _optimum_interval(critical, critical_batch_size, step_time, limits.examples)
    wanted = optimum.estimate
    binding: Binding
    if wanted > upper:
        size, binding = upper, upper_by
    elif wanted < lower and lower_by is not None:
        size, binding = lower, lower_by
    else:
        size = _handy(wanted, lower, upper, include)
        noise_decides = critical <= step_time.overhead_batch_size.estimate
        binding = "noise" if noise_decides else "overhead"
    return BatchSizePlan(
        batch_size=size,
        optimum=optimum,
        binding=binding,
        critical_batch_size=critical_batch_size,
        used_critical_batch_size=critical,
        cheapest=lower,
        knee=_handy(knee_batch_size(critical, step_time), lower, max(size, lower)),
        fastest=size,
        worst_excess=float(time_over_least(readings, size, lower, upper).max()) - 1,
        limits=limits,
        table=trade_offs(readings, size, wanted, limits.possible, include),
    )


def used_critical_batch_size(interval: Interval) -> float:
    """Choose the one number that advice and learning rates are computed from.

    The estimate where the ends are within a factor of four, else the lower end where there is no
    upper one, else the geometric middle.

    >>> used_critical_batch_size(Interval(50, 30, 90))
    50
    >>> used_critical_batch_size(Interval(80, 40, float("inf")))
    40
    """
    if is_resolved(interval) or interval.low <= 0:
        return interval.estimate
    return math.sqrt(interval.low * interval.high) if interval.bounded else interval.low


def optimal_batch_size(
    critical_batch_size: float, step_time: StepTime, largest: float = math.inf
) -> float:
    r"""Return the batch size with the least training time, not rounded.

    :math:`\sqrt{B_{crit} c_0/c_1}` where the step time is a line, else the numerical minimum of
    :math:`(1 + B_{crit}/B)\,T(B)` up to ``largest`` or twice the largest size that was timed.
    Infinite where a step costs no more for more examples.
    """
    if step_time.is_line:
        return math.sqrt(critical_batch_size * step_time.overhead_batch_size.estimate)
    trusted = _TRUSTED_BEYOND * float(step_time.batch_sizes[-1])
    sizes = np.geomspace(1, min(largest, trusted), _SEARCHED)
    time = (1 + critical_batch_size / sizes) * step_time.seconds(sizes)
    return float(sizes[int(time.argmin())])


def knee_batch_size(critical_batch_size: float, step_time: StepTime) -> float:
    r"""Return the size at which the product of time and examples spent is least.

    Below it one per cent of time costs less than one per cent of examples, above it more:
    :math:`B = (\sqrt{c_0^2 + 8 c_0 c_1 B_{crit}} - c_0) / (4 c_1)`; B_crit where c1 = 0.

    Arguments as for :func:`optimal_batch_size`; examples, not rounded.
    """
    overhead = step_time.overhead_batch_size.estimate
    if not math.isfinite(overhead):
        return critical_batch_size
    return (math.sqrt(overhead**2 + 8 * overhead * critical_batch_size) - overhead) / 4


def bounds(limits: Limits) -> tuple[int, int, Binding | None, Binding]:
    """The least and largest batch size that is allowed, and by what.

    Raises UnresolvedError: there is none.
    """
    uppers: list[tuple[int, Binding]] = [(limits.examples, "data")]
    if limits.memory is not None:
        uppers.append((limits.memory, "memory"))
    if limits.maximum is not None:
        uppers.append((limits.maximum, "maximum"))
    upper, upper_by = min(uppers, key=lambda bound: bound[0])
    if limits.minimum > upper or upper < 1:
        raise UnresolvedError(
            f"no batch size is allowed: at least {max(limits.minimum, 1):,} examples are wanted, "
            f"at most {max(upper, 0):,} are possible ({upper_by})",
            "a smaller minimum, or gradient accumulation over several minibatches",
        )
    precision = min(limits.precision or 1, upper)
    if precision > limits.minimum:
        return precision, upper, "precision", upper_by
    return limits.minimum, upper, "minimum" if limits.minimum > 1 else None, upper_by


def _optimum_interval(
    critical: float, interval: Interval, step_time: StepTime, largest: int
) -> Interval:
    """Join the uncertainties of noise and step time, which are independent, on the log scale."""
    estimate = optimal_batch_size(critical, step_time, largest)
    overhead = step_time.overhead_batch_size
    ends = []
    for of_critical, of_overhead in ((interval.low, overhead.low), (interval.high, overhead.high)):
        parts = [
            0.5 * math.log(end / middle) if 0 < end < math.inf and 0 < middle < math.inf else None
            for end, middle in ((of_critical, critical), (of_overhead, overhead.estimate))
        ]
        known = [part for part in parts if part is not None]
        # Times that follow no line leave the optimum as uncertain as they miss it.
        unruly = 0.0 if step_time.is_line else math.log1p(step_time.misfit)
        ends.append(math.hypot(*known, unruly) if len(known) == 2 else math.inf)
    if not 0 < estimate < math.inf:
        return Interval(estimate, 0.0, math.inf, interval.level)
    return Interval(
        estimate, estimate * math.exp(-ends[0]), estimate * math.exp(ends[1]), interval.level
    )


def _handy(wanted: float, lower: int, upper: int, others: tuple[int, ...] = ()) -> int:
    """Round to 2^k or 3·2^k, at most 20 % away, or another; to a bound where none lies between."""
    powers = 2 ** np.arange(0, 41, dtype=np.int64)
    handy = np.unique(np.concatenate([powers, 3 * powers, np.array(others, dtype=np.int64)]))
    handy = handy[(handy >= lower) & (handy <= upper)]
    clipped = min(max(wanted, lower), upper)
    if len(handy) == 0:
        return round(clipped)
    return int(handy[np.abs(np.log(handy / clipped)).argmin()])
