"""Figure: what a batch size costs in time and in examples, and where the advised one lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsense.reports.figures.style import (
    BELOW,
    BLUE,
    FAINT,
    VERMILLION,
    axes,
    label,
    legend,
    name_points,
    plain_log,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Choice:
    """One batch size and its price."""

    batch_size: int  #: Examples
    #: Training time and examples spent, each relative to the least possible.
    time: float
    examples: float
    #: The interval of the time; None where it has no end.
    time_ends: tuple[float, float] | None = None


def draw_tradeoff(choices: Sequence[Choice], advised: int, ax: Axes | None = None) -> Axes:
    """Draw training time against examples spent, one point per batch size."""
    ax = axes(ax)
    x = np.array([choice.examples for choice in choices])
    y = np.array([choice.time for choice in choices])
    ax.plot(x, y, "-o", color=BLUE, markersize=4.5, linewidth=1.3, label="batch size", zorder=2)
    whiskers = [(c.examples, *c.time_ends) for c in choices if c.time_ends is not None]
    if whiskers:
        looks: dict[str, Any] = {"color": FAINT, "linewidth": 1.4, "zorder": 1}
        ax.vlines(*zip(*whiskers, strict=True), label="95 % interval", **looks)
    for c in choices:
        if c.batch_size == advised:
            looks = {"color": VERMILLION, "markersize": 9, "zorder": 3}
            ax.plot([c.examples], [c.time], "D", label=f"advised: {advised:,}", **looks)
    ax.margins(x=0.09, y=0.1)
    plain_log(ax, x=True, y=True)
    label(ax, "examples spent (times the fewest possible)", "training time (times the least)")
    legend(ax, columns=3, below=BELOW)
    name_points(ax, x.tolist(), y.tolist(), [f"{choice.batch_size:,}" for choice in choices])
    return ax
