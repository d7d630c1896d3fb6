"""Figure: effect against evidence, every feature a point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Places
from batchsense.reports.figures.style import BELOW, BLUE, FAINT, VERMILLION, axes, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: So many features that are not called are drawn, and so many that are, evenly by rank.
MOST_POINTS = 1500


def draw_volcano(
    effects: npt.ArrayLike, p_values: npt.ArrayLike, called: npt.ArrayLike, ax: Axes | None = None
) -> Axes:
    """Draw -log10 p over the effect; called features have another colour and shape.

    Notes
    -----
    Of more than :data:`MOST_POINTS` features of a kind every nth by p is drawn, the one with the
    smallest p always.
    """
    across, p = np.asarray(effects, dtype=float), np.asarray(p_values, dtype=float)
    is_called = np.asarray(called, dtype=bool)
    ax = axes(ax, height=3.9)
    kinds = (
        (~is_called, "not called", FAINT, "o", 8),
        (is_called, "q ≤ 0.05", VERMILLION, "D", 12),
    )
    for chosen, name, colour, marker, size in kinds:
        places = thinned(np.flatnonzero(chosen & ~np.isnan(p)), p)
        heights = -np.log10(np.maximum(p[places], 1e-300))
        ax.scatter(
            across[places],
            heights,
            s=size,
            color=colour,
            marker=marker,
            alpha=0.6,
            linewidths=0,
            label=name,
        )
    ax.axvline(0.0, color=BLUE, linewidth=0.8)
    label(ax, "effect", "−log10 p")
    legend(ax, columns=2, below=BELOW, marks=2.0)
    return ax


def thinned(places: Places, p: Floats) -> Places:
    """Take at most :data:`MOST_POINTS` places, evenly by p.

    Examples
    --------
    >>> thinned(np.array([1, 2]), np.array([0.5, 0.3, 0.1])).tolist()
    [2, 1]
    """
    ordered = places[np.argsort(p[places], kind="stable")]
    if len(ordered) <= MOST_POINTS:
        return np.asarray(ordered)
    return np.asarray(ordered[np.linspace(0, len(ordered) - 1, MOST_POINTS).astype(np.intp)])
