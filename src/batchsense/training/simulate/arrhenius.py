"""The Arrhenius plot of a double well: escapes at several temperatures beside Kramers' law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from batchsense.progress import Progress, silent
from batchsense.training.simulate.descent import count_escapes
from batchsense.training.simulate.landscape import DoubleWell, example_tilts
from batchsense.training.temperature.escape import escape_rate
from batchsense.training.temperature.setting import SgdSetting
from batchsense.variation.interval import Interval

#: Heights in kT: the law is asymptotic in them, and above six a run is mostly waiting.
_HEIGHTS = (3.0, 4.0, 5.0, 6.0)
#: About so many escapes at each height: a rate is then known to 5 %.
_WANTED = 400
_REPLICAS, _EXAMPLES, _LEVEL = 400, 512, 0.95
#: Steps small enough for the law: at .05 the rates lie 15 % below it, at .02 10 %.
_SETTING = SgdSetting(0.02, 4, examples=_EXAMPLES)


@dataclass(frozen=True, slots=True)
class ArrheniusPoint:
    """Escapes at one height of the barrier."""

    barrier_over_kt: float  #: Its height.
    count: int  #: Escapes.
    rate: Interval  #: Per unit of training time, with the exact interval of a Poisson count.
    kramers: float  #: What the law says.


@dataclass(frozen=True, slots=True)
class Arrhenius:
    """Points of the plot, and the slope of −log rate; 1 by the law."""

    points: tuple[ArrheniusPoint, ...]
    slope: Interval


def arrhenius_plot(escapes: int = _WANTED, seed: int = 0, progress: Progress = silent) -> Arrhenius:
    """Count escapes from a double well at four temperatures, each with seeds of its own.

    About ``escapes`` at each, by the law.

    >>> found = arrhenius_plot(escapes=25, seed=1)
    >>> [point.barrier_over_kt for point in found.points], 0.5 < found.slope.estimate < 1.5
    ([3.0, 4.0, 5.0, 6.0], True)
    """
    well = DoubleWell(0.25)
    setting = _SETTING
    seeds = np.random.SeedSequence(seed).generate_state(2 * len(_HEIGHTS)).tolist()
    points = []
    for place, height in enumerate(_HEIGHTS):
        noise = well.barrier / height * 2 * setting.batch_size / setting.learning_rate
        law = escape_rate(
            well.barrier, well.curvature_minimum, well.curvature_barrier, noise, setting
        )
        tilts = example_tilts(_EXAMPLES, 1, noise, seeds[2 * place])
        steps = int(escapes / (law.per_step * _REPLICAS))
        found = count_escapes(
            well, tilts, setting, steps=steps, replicas=_REPLICAS, seed=seeds[2 * place + 1]
        )
        time = steps * _REPLICAS * setting.learning_rate
        points.append(
            ArrheniusPoint(height, found.count, _poisson(found.count, time), law.per_time)
        )
        progress("counting escapes, temperatures", place + 1, len(_HEIGHTS))
    return Arrhenius(tuple(points), _slope(points))


def _poisson(count: int, time: float) -> Interval:
    """The exact interval of a Poisson rate (Garwood 1936)."""
    tail = (1 - _LEVEL) / 2
    low = special.gammaincinv(count, tail) if count else 0.0
    return Interval(
        count / time, float(low) / time, float(special.gammainccinv(count + 1, tail)) / time, _LEVEL
    )


def _slope(points: list[ArrheniusPoint]) -> Interval:
    """Least squares of −log rate, weighted by the counts, which are its inverse variances."""
    heights = np.array([point.barrier_over_kt for point in points])
    weights = np.array([max(point.count, 1) for point in points], dtype=float)
    rates = -np.log([max(point.rate.estimate, 1e-300) for point in points])
    away = heights - np.average(heights, weights=weights)
    spread = float(weights @ away**2)
    slope = float(weights * away @ rates) / spread
    half = float(special.ndtri((1 + _LEVEL) / 2)) / float(np.sqrt(spread))
    return Interval(slope, slope - half, slope + half, _LEVEL)
