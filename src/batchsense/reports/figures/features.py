"""Figures of the tests of all features: effect against evidence, and how p-values are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Places
from batchsense.reports.figures.style import (
    BELOW,
    BLUE,
    DASHES,
    FAINT,
    VERMILLION,
    axes,
    label,
    legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: So many features that are not called are drawn, and so many that are, evenly by rank: the cloud
#: looks the same. 3,000 points take 100 kB of a page that may have 1.5 MB.
MOST_POINTS = 1500
#: Bars of the p-values; the first one holds those up to 0.05.
BARS = 20


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
    for chosen, name, colour, marker, size in (
        (~is_called, "not called", FAINT, "o", 8),
        (is_called, "q ≤ 0.05", VERMILLION, "D", 12),
    ):
        places = thinned(np.flatnonzero(chosen & ~np.isnan(p)), p)
        heights = -np.log10(np.maximum(p[places], 1e-300))
        looks: dict[str, Any] = {
            "s": size,
            "color": colour,
            "marker": marker,
            "alpha": 0.6,
            "linewidths": 0,
        }
        ax.scatter(across[places], heights, label=name, **looks)
    ax.axvline(0.0, color=BLUE, linewidth=0.8)
    label(ax, "effect", "−log10 p")
    legend(ax, columns=2, below=BELOW, marks=2.0)
    return ax


def thinned(places: Places, p: Floats) -> Places:
    """At most :data:`MOST_POINTS` of these places, evenly by p.

    Examples
    --------
    >>> thinned(np.array([1, 2]), np.array([0.5, 0.3, 0.1])).tolist()
    [2, 1]
    """
    ordered = places[np.argsort(p[places], kind="stable")]
    if len(ordered) <= MOST_POINTS:
        return np.asarray(ordered)
    return np.asarray(ordered[np.linspace(0, len(ordered) - 1, MOST_POINTS).astype(np.intp)])


def draw_p_values(p_values: npt.ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw a histogram of p-values beside the height that pure chance would give."""
    p = np.asarray(p_values, dtype=float)
    p = p[~np.isnan(p)]
    counts, edges = np.histogram(p, bins=BARS, range=(0.0, 1.0))
    ax = axes(ax, height=3.4)
    ax.bar(edges[:-1], counts, width=1.0 / BARS, align="edge", color=BLUE, alpha=0.8, linewidth=0)
    chance = len(p) / BARS
    ax.axhline(chance, color=VERMILLION, linewidth=1.6, linestyle=DASHES, label="by chance")
    ax.set_xlim(0.0, 1.0)
    label(ax, "p", "features")
    legend(ax, below=BELOW)
    return ax
