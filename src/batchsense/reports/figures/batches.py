"""Figures with a place for each batch: its specimens, their numbers, or the errors of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.reports.figures.style import (
    BELOW,
    BLUE,
    FAINT,
    VERMILLION,
    axes,
    label,
    legend,
    lettered,
    rows_from_top,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_design(
    counts: npt.ArrayLike,
    condition_levels: Sequence[str],
    batch_levels: Sequence[str],
    condition_name: str,
    batch_name: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw a table of counts as squares whose area is the count; an empty cell gets a cross."""
    table = np.asarray(counts, dtype=float)
    rows, columns = table.shape
    longest = max((len(lettered(name)) for name in batch_levels), default=0)
    # Slanted names need room below: about 0.08 inch a letter.
    room = 0.08 * longest if _must_slant(longest, columns) else 0.0
    ax = axes(ax, height=0.95 + 0.34 * rows + room)
    y, x = np.nonzero(table)
    # The largest square fills its cell: 300 points are shared by the columns, and 20 are enough.
    side = min(20.0, 300.0 / max(columns, 1)) * np.sqrt(table[y, x] / max(table.max(), 1))
    ax.scatter(x, y, s=side**2, marker="s", color=BLUE, label="specimens")
    empty_y, empty_x = np.nonzero(table == 0)
    ax.scatter(empty_x, empty_y, s=22, marker="x", color=FAINT, linewidths=1, label="none")
    ax.set_xlim(-0.5, columns - 0.5)
    rows_from_top(ax, condition_levels)
    _name_batches(ax, batch_levels)
    ax.grid(False)
    label(ax, batch_name, condition_name)
    return ax


def draw_strips(
    values: npt.ArrayLike,
    codes: npt.ArrayLike,
    batch_levels: Sequence[str],
    value_name: str,
    batch_name: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw the values of each batch above its name, spread sideways, and the mean as a bar."""
    ax = axes(ax)
    heights, places = np.asarray(values, dtype=float), np.asarray(codes)
    for b in range(len(batch_levels)):
        here = np.sort(heights[places == b])
        if not len(here):
            continue
        # A zigzag by the golden ratio, not a random one: the picture repeats.
        aside = 0.3 * (np.arange(len(here)) * 0.618 % 1.0 - 0.5)
        ax.scatter(b + aside, here, s=12, color=BLUE, alpha=0.7, linewidths=0, label="specimens")
        mean = float(here.mean())
        ax.plot([b - 0.32, b + 0.32], [mean, mean], color=VERMILLION, linewidth=2, label="mean")
    slanted = _name_batches(ax, batch_levels)
    label(ax, batch_name, value_name)
    legend(ax, columns=2, below=90 if slanted else 44)
    return ax


def draw_folds(
    errors: npt.ArrayLike,
    levels: Sequence[str],
    both: tuple[str, str] = ("shuffled folds", "form left out"),
    labels: tuple[str, str] = ("error rate (%)", "form"),
    scale: float = 100.0,
    most: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw two errors of a model on each batch, joined by a line."""
    drawn = scale * np.asarray(errors, dtype=float)
    ax = axes(ax, height=1.25 + 0.21 * len(drawn))
    y = np.arange(len(drawn))
    ax.hlines(y, drawn[:, 0], drawn[:, 1], color=FAINT, linewidth=1.6)
    ax.plot(drawn[:, 0], y, "o", color=BLUE, markersize=6, label=both[0])
    ax.plot(drawn[:, 1], y, "D", color=VERMILLION, markersize=5.5, label=lettered(both[1]))
    rows_from_top(ax, levels, margin=0.1)
    right = max(float(drawn.max()) if most is None else scale * most, 1e-9)
    ax.set_xlim(-0.02 * right, 1.05 * right)
    ax.grid(False, axis="y")
    label(ax, *labels)
    legend(ax, columns=2, below=BELOW)
    return ax


def _must_slant(longest: int, columns: int) -> bool:
    # About 50 letters fit below a figure of the usual width; names of two always stay level.
    return longest > max(2, 50 // max(columns, 1))


def _name_batches(ax: Axes, levels: Sequence[str]) -> bool:
    """Write the names of the batches below, slanted if that is needed; say whether it was."""
    names = [lettered(name) for name in levels]
    slanted = _must_slant(max(map(len, names), default=0), len(names))
    angle, side = (55, "right") if slanted else (0, "center")
    ax.set_xticks(range(len(names)), names, rotation=angle, ha=side)
    return slanted
