"""Figure: how much more minibatches vary than independent rows, by the blocks in a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchsense.reports.figures.style import (
    BLUE,
    DASHES,
    INK,
    VERMILLION,
    axes,
    label,
    legend,
    plain_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_design_effect(
    pools: Sequence[int],
    effects: tuple[Sequence[float], Sequence[float], Sequence[float]],
    allowed: float,
    marked: int,
    ax: Axes | None = None,
) -> Axes:
    """Draw low, middle and high design effects over the blocks in a pool, with one marked."""
    ax = axes(ax)
    low, middle, high = effects
    ax.fill_between(pools, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")
    ax.plot(pools, middle, "-", color=BLUE, linewidth=1.4, label="estimate")
    ax.axhline(allowed, color=INK, linewidth=1.1, linestyle=DASHES, label=f"allowed: {allowed:g}")
    place = list(pools).index(marked)
    ax.plot(
        [marked], [high[place]], "D", color=VERMILLION, markersize=9, zorder=3, label="this pool"
    )
    plain_log(ax, x=True, y=True)
    label(ax, "blocks in a pool", "design effect")
    legend(ax)
    return ax
