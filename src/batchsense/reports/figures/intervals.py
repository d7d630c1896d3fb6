"""Figures of estimates with their intervals, one below the other: shares, or batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchsense.reports.figures.style import (
    BELOW,
    BLUE,
    DASHES,
    FAINT,
    INK,
    VERMILLION,
    axes,
    label,
    legend,
    plain_log,
    rows_from_top,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from batchsense.reports.envelope import Estimate


@dataclass(frozen=True, slots=True)
class Row:
    """One estimate of the figure."""

    name: str  #: What is estimated
    estimate: float | None  #: The point; None draws the interval alone
    #: The interval; None where it has no end, drawn as an arrow.
    low: float | None = None
    high: float | None = None
    null_high: float | None = None  #: What chance alone gives, at most: drawn as a grey bar from 0
    #: The number before chance was subtracted, to be compared with the grey bar.
    raw: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        value: Estimate,
        scale: float = 1.0,
        null_high: float | None = None,
        raw: float | None = None,
    ) -> Row:
        """A row for an estimate, all its numbers times ``scale``: 100 for per cent."""
        parts = (value.estimate, value.low, value.high, null_high, raw)
        return cls(name, *(None if part is None else scale * part for part in parts))


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
    drawn = [(r.estimate, r.low, r.high, r.null_high, r.raw) for r in rows]
    ends = [value for row in [*drawn, (reference,)] for value in row if value is not None]
    right = 1.06 * max(ends, default=1.0) or 1.0  # nothing but zeros still needs an axis
    ax.set_xlim(min(0.0, 1.06 * min(ends, default=0.0)), right)
    if reference is not None:
        ax.axvline(reference, color=INK, lw=1.2, ls=DASHES, label=reference_label)
    for y, row in enumerate(rows):
        if row.null_high is not None:
            bar: dict[str, Any] = {"height": 0.62, "color": FAINT, "alpha": 0.55}
            ax.barh(y, row.null_high, label=null_label, **bar)
        _draw_row(ax, y, row, estimate_label, interval_label)
        if row.raw is not None:
            ax.plot([row.raw], [y], "o", mfc="none", mec=INK, ms=7, label="chance included")
    _finish(ax, rows, x_label, columns=2)
    return ax


def draw_sizes(
    rows: Sequence[Row], advised: int | None, today: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw batch sizes with intervals, on a logarithmic scale; lines mark the advised and today's.

    An interval that reaches down to 0 has no lower end on this scale.
    """
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
        ax.axvline(today, color=FAINT, linewidth=1.4, linestyle=DASHES, label=f"today: {today:,}")
    for y, row in enumerate(rows):
        low = row.low if row.low is not None and row.low > 0 else None
        _draw_row(ax, y, Row(row.name, row.estimate, low, row.high))
    _finish(ax, rows, "batch size (examples)", columns=4)
    return ax


def _draw_row(
    ax: Axes, y: int, row: Row, point: str = "estimate", interval: str = "95 % interval"
) -> None:
    left, right = ax.get_xlim()
    if row.low is not None or row.high is not None:
        ends = [left if row.low is None else row.low, right if row.high is None else row.high]
        ax.plot(ends, [y, y], "-", color=BLUE, linewidth=2.2, label=interval)
        for given, end, arrow in ((row.low, left, "<"), (row.high, right, ">")):
            if given is None:
                ax.plot([end], [y], arrow, color=BLUE, markersize=7, clip_on=False)
    if row.estimate is not None:
        ax.plot([row.estimate], [y], "D", color=VERMILLION, markersize=6, label=point)


def _finish(ax: Axes, rows: Sequence[Row], x_label: str, columns: int) -> None:
    rows_from_top(ax, [row.name for row in rows], most=36)
    ax.grid(False, axis="y")
    label(ax, x_label)
    legend(ax, columns=columns, below=BELOW)
