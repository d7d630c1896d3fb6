"""Figure: how much of each principal component goes with each factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from batchsense.reports.figures.style import (
    BELOW,
    FAINT,
    INK,
    axes,
    label,
    legend,
    lettered,
    sign,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_scores(
    explained: Sequence[float], r2: Mapping[str, Sequence[float | None]], ax: Axes | None = None
) -> Axes:
    """Draw a row per component: its part of the variance as a bar, R² on each factor as a sign."""
    rows = range(len(explained))
    ax = axes(ax, height=1.45 + 0.33 * len(explained))
    ax.barh(rows, explained, height=0.66, color=FAINT, alpha=0.45, label="part of the variance")
    for k, (name, values) in enumerate(r2.items()):
        drawn = [(value, row) for row, value in zip(rows, values, strict=True) if value is not None]
        ax.plot(
            [value for value, _ in drawn],
            [row for _, row in drawn],
            linestyle="none",
            marker=sign(k).marker,
            color=sign(k).colour,
            markersize=7,
            alpha=0.9,
            label=f"R² on {lettered(name)}",
        )
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(len(explained) - 0.4, -0.6)
    ax.set_yticks(rows, [str(row + 1) for row in rows])
    for text in ax.get_yticklabels():
        text.set_color(INK)
    ax.grid(False, axis="y")
    label(ax, "share", "component")
    legend(ax, columns=2, below=BELOW)
    return ax
