"""Figure: steps to a loss at each swept batch size, with the fitted law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from batchsense.reports.figures.style import (
    BLUE,
    FAINT,
    VERMILLION,
    axes,
    label,
    legend,
    plain_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_sweep(
    batch_sizes: Sequence[int],
    orders: Sequence[Sequence[float]],
    minimum_steps: float,
    critical_batch_size: float,
    advised: int,
    ax: Axes | None = None,
) -> Axes:
    """Draw measured steps beside the law S_min (1 + B_crit/B)."""
    ax = axes(ax)
    sizes = np.asarray(batch_sizes, dtype=float)
    line = np.geomspace(sizes.min() / 1.3, sizes.max() * 1.3, 200)
    law = minimum_steps * (1 + critical_batch_size / line)
    ax.plot(line, law, "-", color=BLUE, linewidth=1.6, label="fitted law")
    points = [(size, steps) for size, row in zip(sizes, orders, strict=True) for steps in row]
    ax.plot(*zip(*points, strict=True), ".", color=FAINT, markersize=7, label="one order")
    means = [float(np.exp(np.mean(np.log(row)))) for row in orders]
    ax.plot(sizes, means, "D", color=VERMILLION, markersize=6, label="mean")
    ax.axvline(advised, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), label="advised")
    plain_log(ax, x=True, y=True)
    label(ax, "batch size (examples)", "steps to the target loss")
    legend(ax)
    return ax
