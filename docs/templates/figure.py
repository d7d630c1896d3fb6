"""One line: what the figure lets the reader see."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from batchsense.reports.numbers import with_numbers


def draw_trade_off(
    seconds: Sequence[float], examples: Sequence[float], ax: Axes | None = None
) -> Axes:
    """Draw onto ``ax`` (a new figure without pyplot if None) and return it.

    Tests assert on the drawn data: ``ax.lines[0].get_xydata()``. The numbers are what the page
    saves as CSV; left out, they are the places of all that is drawn.
    """
    axes = Figure().subplots() if ax is None else ax
    axes.plot(seconds, examples, marker="o")
    axes.set_xlabel("time to target [s]")
    axes.set_ylabel("examples processed")
    return with_numbers(axes, {"seconds": seconds, "examples": examples})
