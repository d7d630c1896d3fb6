"""Figure: the time of a training step, measured and fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from batchsense.reports.figures.style import BLUE, VERMILLION, axes, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_step_time(
    batch_sizes: Sequence[int],
    seconds: Sequence[float],
    c0_seconds: float,
    c1_seconds_per_example: float,
    ax: Axes | None = None,
) -> Axes:
    """Draw measured step times and the line ``c0 + c1 · batch size``."""
    ax = axes(ax)
    sizes = np.asarray(batch_sizes, dtype=float)
    line = np.array([0.0, sizes.max() * 1.03])
    milliseconds = 1e3 * np.asarray(seconds, dtype=float)
    fitted = 1e3 * (c0_seconds + c1_seconds_per_example * line)
    ax.plot(line, fitted, "-", color=BLUE, linewidth=1.6, label="fitted line")
    ax.plot(sizes, milliseconds, "D", color=VERMILLION, markersize=5.5, label="measured")
    ax.set_xlim(0, line[1])
    ax.set_ylim(0, 1.12 * max(milliseconds.max(), fitted.max()))
    label(ax, "batch size (examples)", "time of a step (ms)")
    legend(ax)
    return ax
