"""The variance between blocks over that within, by restricted likelihood, for all features."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.testing.blocks.sums import BlockSums

#: The likelihood is looked at so often to find the hill with the top; it seldom has two.
_LOOKS = 9
#: Newton's steps, kept between two ends that close in; halving alone would need 50.
_MOST_STEPS = 60
#: After a step of Newton's as short as this the next would be its square.
_ENOUGH = 1e-9


def best_ratios(sums: BlockSums, low: float, high: float, unit: Floats | None = None) -> Floats:
    r"""Maximise the restricted likelihood over :math:`\rho = \gamma u/(1 + \gamma u)`; gives γ.

    With the scale profiled out, the derivative of -2 log L by γ is
    :math:`\operatorname{tr}(PB) - (n-p)\,y^TPBPy/y^TPy`, B = ZZᵀ. Its root is taken between two
    looks at the likelihood around the best; where no root lies there, the end of the interval.

    At ``low`` every block must have a positive variance; ``high`` < 1. NaN where a feature has no
    residuals. Shapes: ``unit`` u (by default 1) and the result (features,).

    Source: Patterson and Thompson 1971, Biometrika 58, 545 (restricted likelihood).
    """
    units = np.ones(len(sums.places)) if unit is None else unit
    looks = np.linspace(low, high, _LOOKS)
    found = np.nan_to_num([sums.at(look / (1.0 - look) / units).deviance for look in looks])
    if low < 0:
        # Near the least correlation a likelihood may rise without end; another top is the answer.
        found[0, (np.diff(found, axis=0)[1:] < 0).any(axis=0)] = np.inf
    best = found.argmin(axis=0)
    left, right = looks[np.maximum(best - 1, 0)], looks[np.minimum(best + 1, _LOOKS - 1)]
    # At an end of the interval that falls towards it there is no root.
    at = (left + right) / 2
    ends = ((best == 0, left, 1.0), (best == _LOOKS - 1, right, -1.0))
    for where, end, sign in ends:
        if where.any():
            stays = where & (sign * _slope(sums, end, units)[0] >= 0)
            left, right = np.where(stays, end, left), np.where(stays, end, right)
            at = np.where(stays, end, at)
    open_, part = np.arange(len(at)), sums
    for _ in range(_MOST_STEPS):
        here, low_, high_ = at[open_], left[open_], right[open_]
        slope, bend = _slope(part, here, units[open_])
        left[open_] = low_ = np.where(slope < 0, here, low_)
        right[open_] = high_ = np.where(slope > 0, here, high_)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = here - slope / bend
        inside = (newton > low_) & (newton < high_) & (bend > 0)
        at[open_] = np.where(inside, newton, np.where(slope == 0, here, (low_ + high_) / 2))
        moving = np.abs(at[open_] - here) > _ENOUGH
        if not moving.any():
            break
        if 2 * moving.sum() < len(open_):
            open_ = open_[moving]
            part = sums.some(open_)
    return np.where(sums.squares > 0, at / (1.0 - at) / units, np.nan)


def _slope(sums: BlockSums, at: Floats, units: Floats) -> tuple[Floats, Floats]:
    """First and second derivative of the profiled deviance by ρ."""
    solved = sums.at(at / (1.0 - at) / units)
    found = solved.curvature()
    with np.errstate(divide="ignore", invalid="ignore"):
        per = sums.df / solved.left
        slope = found.trace - per * found.square
        bend = 2.0 * per * found.square_twice - found.trace_twice
        bend -= per * found.square**2 / solved.left
    scale = 1.0 / (1.0 - at) ** 2 / units
    bend = bend * scale**2 + slope * scale * 2.0 / (1.0 - at)
    return np.nan_to_num(slope * scale), np.nan_to_num(bend)
