"""How often heat carries the weights over a barrier."""

from __future__ import annotations

import math
from dataclasses import dataclass

from batchsense.errors import DataError
from batchsense.training.temperature.modes import shuffle_factor
from batchsense.training.temperature.setting import SgdSetting

#: Kramers' law is asymptotic in the barrier over kT; below this it overstates the rate.
_LEAST_BARRIER = 3.0
#: Below so many relaxation times an epoch, shuffling keeps escapes under three quarters of the law
#: (measured: 0, .004, .26, .75, .86 and .94 of it at 1.5, 5, 15, 50, 150 and 500).
_LEAST_RELAXATIONS = 50.0
#: Inertia: with momentum .9 the measured rate is .72 to .86 of the law.
_MOST_MOMENTUM = 0.5


@dataclass(frozen=True, slots=True)
class EscapeRate:
    """Kramers' rate for additive noise, and where it is stretched.

    Attributes
    ----------
    per_time : float
        Escapes per unit of training time τ = ηt/(1 − m).
    per_step : float
        Escapes a step.
    temperature : float
        kT, in units of the loss.
    doubts : tuple of str
        What the law takes for granted and this run does not give.
    """

    per_time: float
    per_step: float
    temperature: float
    doubts: tuple[str, ...]


def escape_rate(
    barrier: float,
    curvature_minimum: float,
    curvature_barrier: float,
    noise: float,
    setting: SgdSetting,
) -> EscapeRate:
    r"""Give the rate at which minibatch noise carries one weight over a barrier.

    .. math:: \frac{\sqrt{U''_{min}|U''_{max}|}}{2π} e^{-ΔU/kT},\qquad kT = \frac{ηc}{2B(1-m)}

    for noise that is the same everywhere (additive). If it grows with the loss the law is a power
    of the barrier's height instead (Mori 2022).

    Parameters
    ----------
    barrier : float
        ΔU, in units of the loss.
    curvature_minimum, curvature_barrier : float
        U'' at the minimum, and its size at the top; loss per weight².
    noise : float
        c, variance of one example's gradient.
    setting : SgdSetting
        Learning rate, batch size, momentum and sampling.

    Raises
    ------
    DataError
        A value is not positive.

    References
    ----------
    Kramers (1940), Physica 7; Mori, Ziyin, Liu and Ueda (2022), ICML.

    Examples
    --------
    >>> found = escape_rate(0.5, 2.0, 1.0, noise=4.0, setting=SgdSetting(0.05, 1))
    >>> f"{found.per_time:.2e}"
    '1.52e-03'
    """
    given = {
        "the barrier": barrier,
        "the curvature at the minimum": curvature_minimum,
        "the curvature at the barrier": curvature_barrier,
        "the noise": noise,
    }
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise DataError(f"{name} must be positive and finite, not {value}")
    pace = setting.learning_rate / (1 - setting.momentum)
    drawn = setting.drawn_without_replacement
    temperature = pace * noise * drawn / (2 * setting.batch_size)
    ratio = barrier / temperature if temperature > 0 else math.inf
    attempts = math.sqrt(curvature_minimum * curvature_barrier) / (2 * math.pi)
    rate = attempts * math.exp(-ratio)
    return EscapeRate(
        rate, rate * pace, temperature, _doubts(setting, curvature_minimum, pace, ratio)
    )


def _doubts(setting: SgdSetting, curvature: float, pace: float, ratio: float) -> tuple[str, ...]:
    doubts = []
    if ratio < _LEAST_BARRIER:
        doubts.append(
            f"the barrier is {ratio:.1f} kT high; the law holds from about {_LEAST_BARRIER:.0f} on"
        )
    if setting.momentum > _MOST_MOMENTUM:
        doubts.append(
            f"with momentum {setting.momentum:g} inertia makes escapes rarer (.72 to .86 of the "
            "law were measured at .9)"
        )
    if setting.sampling == "epoch":
        relaxations = setting.steps_per_epoch * pace * curvature
        if relaxations < _LEAST_RELAXATIONS:
            left = shuffle_factor(setting, curvature).mean
            doubts.append(
                f"an epoch lasts {relaxations:.2g} relaxation times: its minibatches sum to zero, "
                f"the weight spreads {left:.2g} as much as under drawing with replacement, and "
                "escapes are far rarer than the law says"
            )
    return tuple(doubts)
