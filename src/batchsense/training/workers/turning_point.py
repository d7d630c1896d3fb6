r"""Where one more worker starts to slow a step of fixed batch size down.

Without overlap a step of K workers takes :math:`c_0 + c_1 B/K + 2(K-1)a + 2\tfrac{K-1}{K}w` with
*a* the seconds of a message and *w* those of all gradients over the link, so that K workers are
faster than one if and only if :math:`c_1 B > 2w + 2Ka`. The part of the bytes does not depend on K:
below :math:`B_{min} = 2w/c_1` no number of workers helps. The least time is at
:math:`K^* = \sqrt{(c_1 B - 2w)/(2a)}`. With overlap both move in favour of more workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from batchsense.training.workers.ensemble import StepModel
from batchsense.training.workers.forms import Spread
from batchsense.training.workers.prediction import LEVEL, StepConfiguration
from batchsense.variation.interval import Interval

#: Workers of one search; more than any table that is fitted here holds.
_MOST_SEARCHED = 4096


@dataclass(frozen=True, slots=True)
class TurningPoint:
    """Where more workers stop paying at a fixed batch size.

    Attributes
    ----------
    batch_size : int
        Examples of a step, over all workers.
    workers : Interval
        The number of workers with the least time; an infinite end lies beyond what was searched.
    searched : int
        The most workers that were searched: twice the most that were measured.
    """

    batch_size: int
    workers: Interval
    searched: int


def turning_point(model: StepModel, batch_size: int) -> TurningPoint:
    """Find the number of workers with the least time in every draw, on the fewest nodes.

    Examples
    --------
    >>> from batchsense.training.workers import StepTable, fit_steps
    >>> rows = [StepConfiguration(1, k, b) for k in (1, 2, 4, 8) for b in (8, 64)]
    >>> times = [0.001 * row.micro_batch + 0.004 * (row.workers - 1) for row in rows]
    >>> found = turning_point(fit_steps(StepTable.of(list(zip(rows, times)))), 64)
    >>> found.workers.low <= 4 <= found.workers.high  # the square root of 0.064 / 0.004
    True
    """
    most = min(2 * model.measured.most_workers, batch_size, _MOST_SEARCHED)
    workers = np.arange(1, most + 1, dtype=float)
    nodes = np.ceil(workers / model.measured.most_per_node)
    spread = Spread(nodes, workers, workers / nodes, batch_size / workers, np.ones(most))
    # What a spread that was not measured may cost is drawn as in the predictions.
    stand_ins = [
        StepConfiguration(int(n), int(k), 1, uneven=True)
        for n, k in zip(nodes, workers, strict=True)
    ]
    factors = np.log([model.measured.slower_by(one) for one in stand_ins])
    least = []
    for fit, surprise in zip(model.draws, model.surprises, strict=True):
        there = replace(spread, slower_links=np.exp(surprise * factors))
        least.append(1.0 + fit.form.seconds(fit.theta, there).argmin())
    tail = (1 - LEVEL) / 2
    low, middle, high = np.quantile(least, [tail, 0.5, 1 - tail], method="closest_observation")
    beyond = high >= most and most < batch_size
    ends = Interval(float(middle), float(low), math.inf if beyond else float(high), LEVEL)
    return TurningPoint(batch_size, ends, most)


def best_workers(
    batch_size: int,
    seconds_per_example: float,
    gradient_seconds: float,
    message_seconds: float,
    most: int,
) -> int:
    r"""Return the number of workers with the least time by the law without overlap.

    :math:`K^* = \sqrt{(c_1 B - 2w)/(2a)}`, the better whole neighbour, against one worker; B are
    the examples of all workers, w the bytes of all gradients over the rate of the link.

    >>> best_workers(4096, 0.0003, 0.0, 0.006, most=64), best_workers(256, 0.0003, 0.17, 0.0, 64)
    (10, 1)
    """

    def seconds(workers: int) -> float:
        rounds = 2 * (workers - 1)
        exchange = rounds * message_seconds + rounds / workers * gradient_seconds
        return seconds_per_example * batch_size / workers + exchange

    gain = seconds_per_example * batch_size - 2 * gradient_seconds
    if gain <= 0:
        return 1
    root = math.sqrt(gain / (2 * message_seconds)) if message_seconds > 0 else math.inf
    root = min(max(root, 1), most)
    return min((1, math.floor(root), math.ceil(root)), key=seconds)
