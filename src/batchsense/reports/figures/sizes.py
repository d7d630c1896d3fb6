"""Figure: batch sizes that matter, each with its interval, on one logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchsense.reports.figures.intervals import Row
from batchsense.reports.figures.style import (
    BELOW,
    BLUE,
    FAINT,
    INK,
    VERMILLION,
    axes,
    label,
    legend,
    lettered,
    plain_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_sizes(
    rows: Sequence[Row], advised: int | None, today: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw batch sizes with intervals; lines mark the advised size and today's."""
    ax = axes(ax, height=1.45 + 0.42 * len(rows))
    ends = [v for r in rows for v in (r.estimate, r.low, r.high) if v is not None and v > 0]
    ends += [mark for mark in (advised, today) if mark is not None]
    left, right = min(ends) / 1.8, max(ends) * 1.8
    ax.set_xlim(left, right)
    plain_log(ax, x=True)
    ax.set_xlim(left, right)
    if advised is not None:
        ax.axvline(advised, color=INK, linewidth=1.2, label=f"advised: {advised:,}")
    if today is not None and today != advised:
        ax.axvline(
            today, color=FAINT, linewidth=1.4, linestyle=(0, (4, 3)), label=f"today: {today:,}"
        )
    for y, row in enumerate(rows):
        low = row.low if row.low is not None and row.low > 0 else left
        high = right if row.high is None else row.high
        name = "95 % interval" if y == 0 else "_interval"
        ax.plot([low, high], [y, y], "-", color=BLUE, linewidth=2.2, label=name)
        if low == left:
            ax.plot([left], [y], "<", color=BLUE, markersize=7, clip_on=False)
        if row.high is None:
            ax.plot([right], [y], ">", color=BLUE, markersize=7, clip_on=False)
        if row.estimate is not None:
            name = "estimate" if y == 0 else "_estimate"
            ax.plot([row.estimate], [y], "D", color=VERMILLION, markersize=6, label=name)
    ax.set_yticks(range(len(rows)), [lettered(row.name, 36) for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(False, axis="y")
    label(ax, "batch size (examples)")
    legend(ax, columns=4, below=BELOW)
    return ax
