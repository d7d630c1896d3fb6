"""Descent in a double well by minibatches, many replicas at once: how often they cross over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchsense.arrays import Floats
from batchsense.training.simulate.draws import MinibatchDraws
from batchsense.training.simulate.landscape import DoubleWell
from batchsense.training.temperature.setting import SgdSetting

#: A replica counts as escaped when it is this far down the other side: from nearer the top most
#: would fall back, and what is counted would depend on the step.
_OTHER_SIDE = 0.7


@dataclass(frozen=True, slots=True)
class MeasuredEscapes:
    """Crossings of a barrier that were counted."""

    count: int  #: Crossings of all replicas.
    per_time: float  #: A unit of training time τ = ηt/(1 − m) and replica.
    error: float  #: Standard error of ``per_time``, as crossings are rare and independent.


def count_escapes(
    well: DoubleWell,
    tilts: Floats,
    setting: SgdSetting,
    *,
    steps: int,
    replicas: int,
    seed: int,
) -> MeasuredEscapes:
    """Count how often replicas cross from one well into the other; each crossing starts anew."""
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
