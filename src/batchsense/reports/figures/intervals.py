"""Figure: estimates with their intervals, one below the other, with what chance alone gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Row:
    """One estimate of the figure.

    Attributes
    ----------
    name : str
        What is estimated.
    estimate : float or None
        The point; None draws the interval alone.
    low, high : float or None
        The interval; None where it has no end, drawn as an arrow.
    null_high : float, optional
        What chance alone gives, at most: drawn as a grey bar from 0.
    raw : float, optional
        The number before chance was subtracted, to be compared with the grey bar.
    """

    name: str
    estimate: float | None
    low: float | None = None
    high: float | None = None
    null_high: float | None = None
    raw: float | None = None


def draw_intervals(
    rows: Sequence[Row],
    x_label: str,
    estimate_label: str = "estimate",
    null_label: str = "by chance alone",
    ax: Axes | None = None,
    interval_label: str = "95 % interval",
    reference: float | None = None,
    reference_label: str = "",
) -> Axes:
    """Draw estimates with intervals; a grey bar shows what chance alone gives."""
    ax = axes(ax, height=1.35 + 0.42 * len(rows))
    ends = [
        v for r in rows for v in (r.estimate, r.low, r.high, r.null_high, r.raw) if v is not None
    ]
    ends += [] if reference is None else [reference]
    right = 1.06 * max(ends, default=1.0) or 1.0  # nothing but zeros still needs an axis
    ax.set_xlim(min(0.0, 1.06 * min(ends, default=0.0)), right)
    if reference is not None:
        ax.axvline(reference, color=INK, lw=1.2, ls=(0, (4, 3)), label=reference_label)
    named: set[str] = set()

    def once(text: str) -> str:
        """Name each kind of mark once in the legend."""
        new = text not in named
        named.add(text)
        return text if new else f"_{text}"

    for y, row in enumerate(rows):
        if row.null_high is not None:
            ax.barh(
                y,
                row.null_high,
                height=0.62,
                color=FAINT,
                alpha=0.55,
                label=once(null_label),
            )
        if row.low is not None or row.high is not None:
            low = ax.get_xlim()[0] if row.low is None else row.low
            high = right if row.high is None else row.high
            ax.plot([low, high], [y, y], "-", color=BLUE, lw=2.2, label=once(interval_label))
            if row.high is None:
                ax.plot([right], [y], ">", color=BLUE, markersize=7, clip_on=False)
        if row.estimate is not None:
            ax.plot([row.estimate], [y], "D", color=VERMILLION, ms=6, label=once(estimate_label))
        if row.raw is not None:
            ax.plot([row.raw], [y], "o", mfc="none", mec=INK, ms=7, label=once("chance included"))
    ax.set_yticks(range(len(rows)), [lettered(row.name, 36) for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(False, axis="y")
    label(ax, x_label)
    legend(ax, columns=2, below=BELOW)
    return ax
