"""Figure: how many specimens each condition has in each batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.reports.figures.style import BLUE, FAINT, INK, axes, label, lettered

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
    names = [lettered(name) for name in batch_levels]
    longest = max(map(len, names), default=0)
    long = longest > max(2, 50 // max(columns, 1))
    # Slanted names need room below: about 0.08 inch a letter.
    ax = axes(ax, height=0.95 + 0.34 * rows + (0.08 * longest if long else 0.0))
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)
    y, x = np.nonzero(table)
    side = min(20.0, 300.0 / max(columns, 1)) * np.sqrt(table[y, x] / max(table.max(), 1))
    ax.scatter(x, y, s=side**2, marker="s", color=BLUE, label="specimens")
    empty_y, empty_x = np.nonzero(table == 0)
    ax.scatter(empty_x, empty_y, s=22, marker="x", color=FAINT, linewidths=1, label="none")
    ax.set_yticks(range(rows), [lettered(name) for name in condition_levels])
    ax.set_xticks(
        range(columns),
        names,
        rotation=55 if long else 0,
        ha="right" if long else "center",
    )
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        text.set_color(INK)
    ax.grid(False)
    label(ax, batch_name, condition_name)
    return ax
