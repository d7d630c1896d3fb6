"""Figure: the wells of a plate, each with the sign of its group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from batchsense.reports.figures.style import FAINT, INK, axes, label, legend, lettered, sign

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class PlateGrid:
    """A plate without its specimens; wells are numbered row by row from 0."""

    #: Its size.
    rows: int
    columns: int
    #: Where references stand, and what stays empty.
    reference_wells: Sequence[int] = ()
    empty_wells: Sequence[int] = ()


def draw_plate(
    plate: PlateGrid,
    wells: Sequence[int],
    groups: Sequence[str],
    levels: Sequence[str],
    group_name: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw one plate: a sign for each specimen's group, R a reference, a cross what stays empty."""
    rows, columns = plate.rows, plate.columns
    wide = max(columns, 8)
    ax = axes(ax, width=6.1, height=1.2 + 5.0 * rows / wide)
    row, column = np.divmod(np.asarray(wells, dtype=int), columns)
    labels = np.asarray(groups, dtype=object).astype(str)
    # Signs may take half of their well: 190 points are shared by the columns.
    size = (190.0 / wide) ** 2 / 3
    down, across = np.divmod(np.arange(rows * columns), columns)
    ax.scatter(across, down, s=size / 12, color=FAINT, linewidths=0)
    if len(plate.empty_wells):
        down, across = np.divmod(np.asarray(plate.empty_wells, dtype=int), columns)
        ax.scatter(across, down, s=size / 3, marker="x", color=FAINT, linewidths=1)
    for k, level in enumerate(levels):
        here = labels == level
        ax.scatter(column[here], row[here], s=size, linewidths=0, label=lettered(level), **sign(k))
    for well in plate.reference_wells:
        r, c = divmod(int(well), columns)
        ax.text(c, r, "R", ha="center", va="center", color=INK, fontsize=min(11.0, 130 / wide))
    ax.set_xlim(-0.6, columns - 0.4)
    ax.set_ylim(rows - 0.4, -0.6)
    step = 1 if columns <= 12 else 2
    ax.set_xticks(range(0, columns, step), [str(c + 1) for c in range(0, columns, step)])
    ax.set_yticks(range(rows), [chr(65 + r) if r < 26 else f"A{chr(39 + r)}" for r in range(rows)])
    ax.grid(False)
    label(ax)
    legend(ax, columns=4, below=24, title=group_name)
    return ax
