"""Figure: peak memory against the batch size, with the limit and what is counted at the peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from batchsense.reports.figures.style import (
    BLUE,
    DASHES,
    FAINT,
    INK,
    VERMILLION,
    axes,
    label,
    legend,
    plain_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_memory(
    batch_sizes: Sequence[int],
    peak_bytes: Sequence[int],
    counted_bytes: Sequence[int],
    usable_bytes: int,
    marked: int,
    ax: Axes | None = None,
) -> Axes:
    """Draw the peak in MiB, what counts of it and the usable memory, and one size marked."""
    ax = axes(ax)
    peaks, counted = ([amount / 2**20 for amount in one] for one in (peak_bytes, counted_bytes))
    if counted != peaks:
        ax.plot(batch_sizes, peaks, "-", color=FAINT, linewidth=1.4, label="peak")
    name = "peak" if counted == peaks else "counted"
    ax.plot(batch_sizes, counted, "-o", color=BLUE, markersize=4, linewidth=1.4, label=name)
    ax.axhline(
        usable_bytes / 2**20, color=INK, linewidth=1.1, linestyle=DASHES, label="usable memory"
    )
    looks: dict[str, Any] = {"color": VERMILLION, "markersize": 9, "zorder": 3}
    place = list(batch_sizes).index(marked)
    ax.plot([marked], [counted[place]], "D", label=f"{marked:,} examples", **looks)
    plain_log(ax, x=True, y=True)
    label(ax, "batch size (examples)", "memory of a step (MiB)")
    legend(ax)
    return ax
