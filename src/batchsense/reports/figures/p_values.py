"""Figure: how p-values are spread; without any effect they are even."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.reports.figures.style import BELOW, BLUE, VERMILLION, axes, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Number of bars.
BARS = 20


def draw_p_values(p_values: npt.ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw a histogram of p-values beside the height that pure chance would give."""
    p = np.asarray(p_values, dtype=float)
    p = p[~np.isnan(p)]
    counts, edges = np.histogram(p, bins=BARS, range=(0.0, 1.0))
    ax = axes(ax, height=3.4)
    ax.bar(edges[:-1], counts, width=1.0 / BARS, align="edge", color=BLUE, alpha=0.8, linewidth=0)
    ax.axhline(
        len(p) / BARS, color=VERMILLION, linewidth=1.6, linestyle=(0, (4, 3)), label="by chance"
    )
    ax.set_xlim(0.0, 1.0)
    label(ax, "p", "features")
    legend(ax, below=BELOW)
    return ax
