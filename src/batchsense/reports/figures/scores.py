"""Figure: how much of each principal component goes with each factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batchsense.reports.figures.style import (
    BELOW,
    FAINT,
    axes,
    label,
    legend,
    lettered,
    rows_from_top,
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
        looks: dict[str, Any] = {"linestyle": "none", "markersize": 7, "alpha": 0.9, **sign(k)}
        shares, places = [value for value, _ in drawn], [row for _, row in drawn]
        ax.plot(shares, places, label=f"R² on {lettered(name)}", **looks)
    ax.set_xlim(-0.02, 1.02)
    rows_from_top(ax, [str(row + 1) for row in rows], margin=0.1)
    ax.grid(False, axis="y")
    label(ax, "share", "component")
    legend(ax, columns=2, below=BELOW)
    return ax
