"""A smooth curve through a cloud: locally weighted lines that ignore outliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.variation.lines import weighted_lines

#: Distances beyond this part of the window weigh nothing, below that part fully, as in Cleveland's
#: program: the tricube is below 3e-8 of its height there, or within 3e-9 of it.
_EDGE, _CORE = 0.999, 0.001


def lowess(
    x: ArrayLike,
    y: ArrayLike,
    span: float = 2 / 3,
    robust_rounds: int = 3,
    spacing: float | None = None,
) -> Floats:
    """Smooth y over x by local lines, tricube weights and bisquare down-weighting of outliers.

    At a point the line is fitted to the nearest ``span``·n observations with weights
    (1 - (distance/window)³)³ times robustness weights (1 - (r/6·median|r|)²)², found in
    ``robust_rounds`` repetitions. Points nearer than ``spacing`` to the last fitted one are
    interpolated, as in Cleveland's program.

    x and y have shape (observations,) and are finite; the curve is given at each x, in the same
    order. ``spacing`` is a hundredth of the range of x by default.

    Source: Cleveland 1979, J. Am. Statist. Assoc. 74, 829; Cleveland 1981, Am. Statist. 35, 54.
    """
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if across.ndim != 1 or across.shape != up.shape or len(across) < 2:
        raise DataError("a curve needs two vectors of the same length, with 2 numbers at least")
    order = np.argsort(across, kind="stable")
    across, up = across[order], up[order]
    step = 0.01 * (across[-1] - across[0]) if spacing is None else spacing
    width = max(min(int(span * len(across) + 1e-7), len(across)), 2)
    windows: dict[int, _Window] = {}
    robust = np.ones(len(across))
    curve = _pass(across, up, robust, (width, step), windows)
    for _ in range(robust_rounds):
        sizes = np.abs(up - curve)
        limit = 6.0 * float(np.median(sizes))
        if limit <= 1e-7 * sizes.mean():  # equal where the curve goes through every point
            break
        robust = np.where(sizes <= _CORE * limit, 1.0, (1.0 - (sizes / limit) ** 2) ** 2)
        robust[sizes > _EDGE * limit] = 0.0
        curve = _pass(across, up, robust, (width, step), windows)
    found = np.empty(len(across))
    found[order] = curve
    return found


#: Where the neighbours of a place are, how they weigh, and whether they lie apart.
_Window = tuple[slice, Floats, bool]


def _pass(
    x: Floats, y: Floats, robust: Floats, reach: tuple[int, float], windows: dict[int, _Window]
) -> Floats:
    (width, step), count = reach, len(x)
    curve = np.empty(count)
    fitted = []
    left, place = 0, 0
    while True:
        if place not in windows:  # the same in every round
            while left + width < count and x[place] - x[left] > x[left + width] - x[place]:
                left += 1
            windows[place] = _window(x, x[place], left, left + width)
        value = _local_line(x, y, robust, x[place], windows[place])
        twins = int(np.searchsorted(x, x[place], side="right"))
        curve[place:twins] = y[place:twins] if value is None else value
        fitted.append(place)
        last = twins - 1
        if last > place:
            fitted.append(last)
        if last >= count - 1:
            break
        place = max(last + 1, int(np.searchsorted(x, x[place] + step, side="right")) - 1)
        # What lies at the same x as the next point is reached from its first member.
        place = max(last + 1, int(np.searchsorted(x, x[place], side="left")))
    known = np.array(fitted)
    return np.interp(x, x[known], curve[known]) if len(np.unique(x[known])) > 1 else curve


def _window(x: Floats, at: float, left: int, right: int) -> _Window:
    window = max(at - x[left], x[right - 1] - at)
    stop = int(np.searchsorted(x, at + _EDGE * window, side="right"))
    near = slice(left, max(stop, right))
    distances = np.abs(x[near] - at)
    weights = np.zeros(len(distances))
    inside = distances <= _EDGE * window
    if window > 0:
        weights[inside] = (1.0 - (distances[inside] / window) ** 3) ** 3
    weights[distances <= _CORE * window] = 1.0
    return near, weights, window > 0


def _local_line(x: Floats, y: Floats, robust: Floats, at: float, window: _Window) -> float | None:
    """Value at one place of the weighted line through a window; None where nothing weighs."""
    near, near_weights, apart = window
    weights = near_weights * robust[near]
    total = weights.sum()
    if total <= 0:
        return None
    line = weighted_lines(x[near], y[near], weights / total)
    # A window so narrow has no slope to speak of.
    slanted = apart and np.sqrt(line.spread) > _CORE * (x[-1] - x[0])
    return float(line.at(at) if slanted else line.level)
