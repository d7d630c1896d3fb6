"""From windows to an answer: the heat, what cooling will gain, and why it may not be said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.training.learning_rate import Family
from batchsense.training.temperature.windows import HeatWindow, equilibration, mean_and_error
from batchsense.variation.interval import Interval

#: Fewer windows give no standard error worth its name.
LEAST_WINDOWS = 3
#: The newest windows that speak, and never more than the newer half: older ones tell of a run that
#: has moved on since.
MOST_WINDOWS = 8
#: From here on the weights count as settled; in quadratic bowls r is above .95, on nets still
#: travelling below .9 (measured .83 to .86).
SETTLED = 0.9
#: Forecast over the real gain of a linear cooldown was .92 to 1.03 on nets at a plateau; this
#: relative error is added to that of the windows.
_FORECAST_ERROR = 0.08
_LEVEL = 0.9
#: Why there may be no forecast.
Withheld = Literal["travelling", "changing", "no_heat", "unknown_optimizer"]
#: A trend is named where chance alone would show one like it in one of twenty settled runs.
_TREND_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class HeatReading:
    """The heat of a run now.

    Attributes
    ----------
    heat : Interval
        Mean of E over the newest windows, units of the loss.
    forecast : Interval or None
        By how much the loss would fall if the run were cooled to rest; None where that cannot be
        said.
    withheld_for : str or None
        Why there is no forecast: ``travelling`` weights, a ``changing`` heat, ``no_heat`` that is
        told from zero, or an ``unknown_optimizer``.
    withheld : str or None
        The same in words.
    ratio : float
        r of :func:`~batchsense.training.temperature.windows.equilibration`.
    settled : bool
        Whether r says so.
    injected : float or None
        η tr C/(4B(1 − m)): the heat that independent minibatches would keep up; an upper figure.
    windows : int
        How many windows spoke.
    warnings : tuple of str
        What the reader should know.
    """

    heat: Interval
    forecast: Interval | None
    withheld_for: Withheld | None
    withheld: str | None
    ratio: float
    settled: bool
    injected: float | None
    windows: int
    warnings: tuple[str, ...]


def read_windows(
    windows: list[HeatWindow],
    family: Family,
    *,
    injected: float | None = None,
    warnings: tuple[str, ...] = (),
) -> HeatReading:
    """Read heat, forecast and settledness from the newer half of the windows, three to eight.

    ``injected`` is the heat that the noise of minibatches injects.

    Raises UnresolvedError: fewer than three windows.

    >>> windows = [HeatWindow(0, 9, 1.0 + x, 0.9, 0.1, 9.0, 0.1, 0.0) for x in (0.01, 0.0, -0.01)]
    >>> reading = read_windows(windows, "sgd")
    >>> round(reading.heat.estimate, 3), reading.settled
    (0.1, True)
    """
    if len(windows) < LEAST_WINDOWS:
        raise UnresolvedError(
            f"{len(windows)} windows give no interval", f"{LEAST_WINDOWS} windows or more"
        )
    newest = windows[-min(MOST_WINDOWS, max(LEAST_WINDOWS, len(windows) // 2)) :]
    heats = np.array([window.heat for window in newest])
    heat, error = mean_and_error(heats)
    ratio = equilibration(newest)
    settled = ratio >= SETTLED
    why, withheld = _why_withheld(heats, error, ratio, family) or (None, None)
    return HeatReading(
        heat=_interval(heat, error, len(newest)),
        forecast=None if withheld else _forecast(heat, heats, error),
        withheld_for=why,
        withheld=withheld,
        ratio=ratio,
        settled=settled,
        injected=injected,
        windows=len(newest),
        warnings=(*warnings, *_doubts(newest, family)),
    )


def _why_withheld(
    heats: Floats, error: float, ratio: float, family: Family
) -> tuple[Withheld, str] | None:
    if ratio < SETTLED:
        return "travelling", (
            f"the weights still travel (r = {ratio:.2f}, settled from {SETTLED:g} on), so the loss "
            "falls for other reasons than cooling and the heat is no floor"
        )
    if heats.mean() <= _quantile(len(heats)) * error:
        return "no_heat", "the heat is not told from zero"
    trend = _trend(heats)
    if trend is not None:
        return "changing", (
            f"the heat itself still changes, by {100 * trend:+.0f} % of its mean from window to "
            "window, so that of the past says little about the next"
        )
    if family == "other":
        return "unknown_optimizer", "how this optimizer cools is not known"
    return None


def _trend(heats: Floats) -> float | None:
    """Change of the heat a window over its mean, if a straight line tells it from zero."""
    count = len(heats)
    away = np.arange(count) - (count - 1) / 2
    spread = float(away @ away)
    slope = float(away @ heats) / spread
    left = heats - heats.mean() - slope * away
    error = math.sqrt(float(left @ left) / (count - 2) / spread)
    unlikely = abs(slope) > float(special.stdtrit(count - 2, 1 - _TREND_LEVEL / 2)) * error
    return slope / float(heats.mean()) if unlikely else None


def _doubts(windows: list[HeatWindow], family: Family) -> tuple[str, ...]:
    if family == "adam":
        return ("for Adam the forecast is not verified by cooling real runs",)
    return ()


def _forecast(heat: float, heats: Floats, error: float) -> Interval:
    """One cooldown scatters like one window, beside the error of the mean."""
    scatter = float(heats.std(ddof=1))
    whole = math.sqrt(scatter**2 + error**2 + (_FORECAST_ERROR * heat) ** 2)
    return _interval(heat, whole, len(heats))


def _interval(estimate: float, error: float, count: int) -> Interval:
    half = _quantile(count) * error
    return Interval(estimate, estimate - half, estimate + half, _LEVEL)


def _quantile(count: int) -> float:
    return float(special.stdtrit(count - 1, (1 + _LEVEL) / 2))
