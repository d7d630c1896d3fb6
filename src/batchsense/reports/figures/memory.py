"""Figure: peak memory against the batch size, with the limit and what is counted at the peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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


def draw_memory(
    batch_sizes: Sequence[int],
    peak_bytes: Sequence[int],
    usable_bytes: int,
    marked: int,
    ax: Axes | None = None,
) -> Axes:
    """Draw the peak in MiB, the usable memory as a line, and one size marked."""
    ax = axes(ax)
    mebibytes = [amount / 2**20 for amount in peak_bytes]
    ax.plot(batch_sizes, mebibytes, "-o", color=BLUE, markersize=4, linewidth=1.4, label="peak")
    ax.axhline(
        usable_bytes / 2**20, color=INK, linewidth=1.1, linestyle=DASHES, label="usable memory"
    )
    looks: dict[str, Any] = {"color": VERMILLION, "markersize": 9, "zorder": 3}
    place = list(batch_sizes).index(marked)
    ax.plot([marked], [mebibytes[place]], "D", label=f"{marked:,} examples", **looks)
    plain_log(ax, x=True, y=True)
    label(ax, "batch size (examples)", "peak memory of a step (MiB)")
    legend(ax)
    return ax
