"""Descent on a landscape by minibatches, many replicas at once; and how often they cross over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.training.simulate.draws import MinibatchDraws
from batchsense.training.simulate.landscape import DoubleWell, Landscape
from batchsense.training.temperature.setting import SgdSetting

#: A replica counts as escaped when it is this far down the other side: from nearer the top most
#: would fall back, and what is counted would depend on the step.
_OTHER_SIDE = 0.7

#: Examples consumed so far → learning rate and batch size of the next step.
Schedule = Callable[[int], tuple[float, int]]


def descend(
    landscape: Landscape,
    tilts: Floats,
    start: Floats,
    schedule: Schedule,
    *,
    setting: SgdSetting,
    examples: int,
    seed: int,
) -> tuple[Floats, int]:
    """Train replicas until so many examples are consumed, by a schedule of rate and batch size.

    Parameters
    ----------
    landscape : DoubleWell or RuggedBowl
        U.
    tilts : array of shape (examples, weights)
        From :func:`example_tilts`.
    start : array of shape (replicas, weights)
        First weights.
    schedule : callable
        Examples consumed → (learning rate, batch size).
    setting : SgdSetting
        Momentum and sampling; its learning rate and batch size are replaced by the schedule's.
    examples : int
        To consume.
    seed : int
        Of all draws.

    Returns
    -------
    tuple
        Last weights, in the shape of ``start``, and the number of steps.

    Examples
    --------
    >>> from batchsense.training.simulate.landscape import RuggedBowl, example_tilts
    >>> tilts = example_tilts(64, 2, 1.0, seed=0)
    >>> setting = SgdSetting(0.1, 8, examples=64)
    >>> weights, steps = descend(
    ...     RuggedBowl(1.0, 0.0, 1.0),
    ...     tilts,
    ...     np.ones((50, 2)),
    ...     lambda consumed: (0.1, 8),
    ...     setting=setting,
    ...     examples=8000,
    ...     seed=1,
    ... )
    >>> steps, bool((weights**2).mean() < 0.02)
    (1000, True)
    """
    draws = MinibatchDraws(setting, len(start), np.random.default_rng(seed))
    weights, buffer = start.copy(), np.zeros_like(start)
    consumed = steps = 0
    while consumed < examples:
        rate, size = schedule(consumed)
        if not 1 <= size <= len(tilts):
            raise DataError(f"the schedule asks for {size} of {len(tilts)} examples")
        noise = tilts[draws.rows(size)].mean(axis=1)
        buffer = setting.momentum * buffer + landscape.gradient(weights) + noise
        weights = weights - rate * buffer
        consumed += size
        steps += 1
    return weights, steps


@dataclass(frozen=True, slots=True)
class MeasuredEscapes:
    """Crossings of a barrier that were counted.

    Attributes
    ----------
    count : int
        Crossings of all replicas.
    per_time : float
        A unit of training time τ = ηt/(1 − m) and replica.
    error : float
        Standard error of ``per_time``, as crossings are rare and independent.
    """

    count: int
    per_time: float
    error: float


def count_escapes(
    well: DoubleWell,
    tilts: Floats,
    setting: SgdSetting,
    *,
    steps: int,
    replicas: int,
    seed: int,
) -> MeasuredEscapes:
    """Count how often replicas cross from one well into the other; each crossing starts anew.

    Examples
    --------
    >>> from batchsense.training.simulate.landscape import example_tilts
    >>> tilts = example_tilts(256, 1, 8.0, seed=0)
    >>> setting = SgdSetting(0.02, 1, examples=256)
    >>> found = count_escapes(DoubleWell(0.25), tilts, setting, steps=4000, replicas=64, seed=1)
    >>> 0.005 < found.per_time < 0.015
    True
    """
    setting = replace(setting, examples=len(tilts))
    draws = MinibatchDraws(setting, replicas, np.random.default_rng(seed))
    weights, buffer = np.full((replicas, 1), -1.0), np.zeros((replicas, 1))
    side, count = np.full(replicas, -1.0), 0
    for _ in range(steps):
        noise = tilts[draws.rows(setting.batch_size)].mean(axis=1)
        buffer = setting.momentum * buffer + well.gradient(weights) + noise
        weights = weights - setting.learning_rate * buffer
        crossed = weights[:, 0] * side < -_OTHER_SIDE
        count += int(crossed.sum())
        side[crossed] *= -1
    time = steps * replicas * setting.learning_rate / (1 - setting.momentum)
    return MeasuredEscapes(count, count / time, np.sqrt(max(count, 1)) / time)
