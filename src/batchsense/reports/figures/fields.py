"""Figures of a solution over a plane, and of an error that falls with time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsense.arrays import Floats
from batchsense.reports.figures.style import (
    BLUE,
    DASHES,
    FAINT,
    INK,
    LETTERS,
    axes,
    figure_of,
    label,
    legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_field(
    places: Floats, values: Floats, sequential: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw a value at each place: blue to orange about 0, or light to dark from 0."""
    ax = axes(ax)
    most = float(np.abs(values).max()) or 1.0
    colours: dict[str, Any] = (
        {"cmap": "Greys", "vmin": 0.0} if sequential else {"cmap": "PuOr_r", "vmin": -most}
    )
    # Squares that just touch on a grid of so many points across 300 by 220 points of paper.
    size = (260 / np.sqrt(len(values))) ** 2
    drawn = ax.scatter(
        places[:, 0], places[:, 1], c=values, s=size, marker="s", linewidths=0, vmax=most, **colours
    )
    bar = figure_of(ax).colorbar(drawn, ax=ax)
    bar.ax.tick_params(colors=INK, labelsize=LETTERS)
    ax.grid(False)
    label(ax, "first coordinate", "second coordinate")
    return ax


def draw_error(
    times: Sequence[float],
    errors: Sequence[float],
    switches: Sequence[float],
    target: float | None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the error by time, a line where each phase begins."""
    ax = axes(ax)
    for at in switches:
        ax.axvline(at, color=FAINT, linewidth=0.8)
    ax.plot(times, errors, "-", color=BLUE, linewidth=1.4, label="error")
    if target is not None:
        ax.axhline(target, color=INK, linewidth=1.1, linestyle=DASHES, label="asked for")
        legend(ax)
    ax.set_yscale("log")
    label(ax, "seconds of processor time", "relative L2 error")
    return ax
