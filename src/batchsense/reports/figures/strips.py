"""Figure: the numbers of each batch as points, with their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.reports.figures.style import BLUE, INK, VERMILLION, axes, label, legend, lettered

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_strips(
    values: npt.ArrayLike,
    codes: npt.ArrayLike,
    batch_levels: Sequence[str],
    value_name: str,
    batch_name: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw the values of each batch above its name, spread sideways, and the mean as a bar."""
    ax = axes(ax)
    heights, places = np.asarray(values, dtype=float), np.asarray(codes)
    for b in range(len(batch_levels)):
        here = np.sort(heights[places == b])
        if not len(here):
            continue
        # A fixed zigzag, not a random one: the picture repeats.
        aside = 0.3 * (np.arange(len(here)) * 0.618 % 1.0 - 0.5)
        name = "specimens" if b == 0 else None
        ax.scatter(b + aside, here, s=12, color=BLUE, alpha=0.7, linewidths=0, label=name)
        mean = float(here.mean())
        name = "mean" if b == 0 else None
        ax.plot([b - 0.32, b + 0.32], [mean, mean], color=VERMILLION, linewidth=2, label=name)
    names = [lettered(name) for name in batch_levels]
    long = max(map(len, names), default=0) > max(2, 50 // max(len(names), 1))
    ax.set_xticks(range(len(names)), names, rotation=55 if long else 0)
    for text in ax.get_xticklabels():
        text.set_color(INK)
    label(ax, batch_name, value_name)
    legend(ax, columns=2, below=44 if not long else 90)
    return ax
