"""Figure: the error of a model on each batch, tested in two ways."""

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
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_folds(
    errors: npt.ArrayLike,
    levels: Sequence[str],
    both: tuple[str, str] = ("shuffled folds", "form left out"),
    labels: tuple[str, str] = ("error rate (%)", "form"),
    scale: float = 100.0,
    most: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw two errors per batch, joined by a line."""
    drawn = scale * np.asarray(errors, dtype=float)
    ax = axes(ax, height=1.25 + 0.21 * len(drawn))
    y = np.arange(len(drawn))
    ax.hlines(y, drawn[:, 0], drawn[:, 1], color=FAINT, linewidth=1.6)
    ax.plot(drawn[:, 0], y, "o", color=BLUE, markersize=6, label=both[0])
    ax.plot(drawn[:, 1], y, "D", color=VERMILLION, markersize=5.5, label=lettered(both[1]))
    ax.set_yticks(y, [lettered(level) for level in levels])
    ax.set_ylim(len(drawn) - 0.4, -0.6)
    right = max(float(drawn.max()) if most is None else scale * most, 1e-9)
    ax.set_xlim(-0.02 * right, 1.05 * right)
    ax.grid(False, axis="y")
    label(ax, *labels)
    legend(ax, columns=2, below=BELOW)
    return ax
