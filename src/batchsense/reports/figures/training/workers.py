"""Figure: the time of a step, or examples a second, against the number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchsense.reports.figures.style import (
    BELOW,
    BLUE,
    DASHES,
    FAINT,
    GREEN,
    VERMILLION,
    axes,
    label,
    legend,
    plain_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class StepPoint:
    """A predicted step."""

    workers: int  #: In all
    #: What is drawn of it, with its interval.
    value: float
    low: float
    high: float
    measured: float | None = None  #: The same as it was measured
    doubtful: bool = False  #: Whether it is outside what was measured


def draw_workers(
    points: Sequence[StepPoint],
    best: int,
    name: str,
    ideal: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw points by their workers with intervals, the best one marked.

    ``ideal`` is what each would be if twice the workers did twice as much.
    """
    ax = axes(ax)
    looks: dict[str, Any]
    if ideal is not None:
        path = sorted({(point.workers, value) for point, value in zip(points, ideal, strict=True)})
        looks = {"color": FAINT, "linestyle": DASHES, "linewidth": 1.2}
        ax.plot(*zip(*path, strict=True), label="in proportion", zorder=1, **looks)
    ax.vlines(
        [point.workers for point in points],
        [point.low for point in points],
        [point.high for point in points],
        color=BLUE,
        linewidth=1.6,
        alpha=0.6,
        label="80 % interval",
        zorder=2,
    )
    for doubtful, fill, words in (
        (False, BLUE, "predicted"),
        (True, "none", "predicted, doubtful"),
    ):
        some = [point for point in points if point.doubtful is doubtful]
        if some:
            x, y = [point.workers for point in some], [point.value for point in some]
            ax.plot(x, y, "o", color=BLUE, markerfacecolor=fill, label=words, zorder=3)
    seen = [(one.workers, one.measured) for one in points if one.measured is not None]
    if seen:
        looks = {"color": GREEN, "markersize": 8, "markeredgewidth": 2, "zorder": 4}
        ax.plot(*zip(*seen, strict=True), "x", label="measured", **looks)
    marked = points[best]
    looks = {"color": VERMILLION, "markerfacecolor": "none", "markersize": 13, "zorder": 5}
    ax.plot([marked.workers], [marked.value], "D", markeredgewidth=1.6, label="best", **looks)
    ax.margins(x=0.08)
    # The line of proportion may leave the figure; it would press everything else together.
    ax.set_ylim(min(point.low for point in points) / 1.3, max(point.high for point in points) * 1.3)
    plain_log(ax, x=True, y=True)
    counts = sorted({point.workers for point in points})
    if len(counts) <= 8:
        ax.set_xticks(counts, [f"{count:,}" for count in counts])
        ax.minorticks_off()
    label(ax, "workers", name)
    legend(ax, columns=3, below=BELOW)
    return ax
