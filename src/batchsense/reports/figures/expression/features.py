"""Figures of the tests of all features: effect against evidence and against size, and p-values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Places
from batchsense.reports.figures.style import (
    BELOW,
    BLUE,
    DASHES,
    FAINT,
    INK,
    LETTERS,
    VERMILLION,
    axes,
    label,
    legend,
    lettered,
)
from batchsense.reports.numbers import with_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: So many features that are not called are drawn, and so many that are, evenly by rank: the cloud
#: looks the same. With what saves them 600 points take 100 kB of a page that may have 1.5 MB.
MOST_POINTS = 300
#: Bars of the p-values; the first one holds those up to 0.05.
BARS = 20
#: So many features are named, those with the smallest p; more names would cover each other.
MOST_NAMES = 8
#: Inches; narrow, because two stand side by side on a page.
_SIZE = (4.4, 4.3)
#: False discovery rate at which features are called, as everywhere.
_Q = 0.05


def draw_volcano(
    effects: npt.ArrayLike,
    p_values: npt.ArrayLike,
    q_values: npt.ArrayLike,
    names: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """Draw -log10 p over the effect, the leading features named, with the line of q = 0.05.

    Of more than :data:`MOST_POINTS` features of a kind every nth by p is drawn, the one with the
    smallest p always.
    """
    across, p, q = (np.asarray(each, dtype=float) for each in (effects, p_values, q_values))
    ax = axes(ax, *_SIZE)
    heights = -np.log10(np.maximum(p, 1e-300))
    drawn = _cloud(ax, across, heights, p, q)
    called = p[q <= _Q]
    if len(called):
        looks: dict[str, Any] = {"color": BLUE, "linestyle": DASHES, "linewidth": 1.2}
        ax.axhline(-np.log10(max(called.max(), 1e-300)), label=f"q = {_Q:g}", **looks)
    ax.axvline(0.0, color=FAINT, linewidth=0.8)
    _name_leading(ax, across, heights, p, names)
    label(ax, "effect", "−log10 p")
    legend(ax, columns=2, below=BELOW, marks=2.0)
    return _told(ax, drawn, names, {"effect": across, "p": p, "q": q})


def draw_mean_difference(
    means: npt.ArrayLike,
    effects: npt.ArrayLike,
    p_values: npt.ArrayLike,
    q_values: npt.ArrayLike,
    names: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """Draw the effect over the mean of a feature, the leading ones named; thinned as a volcano."""
    across, up, p, q = (np.asarray(each, float) for each in (means, effects, p_values, q_values))
    ax = axes(ax, *_SIZE)
    drawn = _cloud(ax, across, up, p, q)
    ax.axhline(0.0, color=BLUE, linewidth=0.8)
    _name_leading(ax, across, up, p, names)
    label(ax, "mean", "effect")
    legend(ax, columns=2, below=BELOW, marks=2.0)
    return _told(ax, drawn, names, {"mean": across, "effect": up, "p": p, "q": q})


def draw_trend(
    sizes: npt.ArrayLike,
    scatter: npt.ArrayLike,
    trend: npt.ArrayLike,
    labels: tuple[str, str],
    ax: Axes | None = None,
) -> Axes:
    """Draw how features scatter over their size, and the curve that they are judged by."""
    across, up, curve = (np.asarray(each, dtype=float) for each in (sizes, scatter, trend))
    known = np.flatnonzero(~np.isnan(across + up + curve))
    drawn = thinned(known, across)
    ax = axes(ax)
    looks: dict[str, Any] = {"s": 8, "color": FAINT, "alpha": 0.6, "linewidths": 0}
    ax.scatter(across[drawn], up[drawn], label="features", **looks)
    ax.plot(across[drawn], curve[drawn], color=VERMILLION, linewidth=2, label="trend")
    label(ax, *labels)
    legend(ax, columns=2, below=BELOW, marks=2.0)
    columns = {"size": across, "scatter": up, "trend": curve}
    return with_numbers(ax, {name: each[drawn].tolist() for name, each in columns.items()})


def _cloud(ax: Axes, x: Floats, y: Floats, p: Floats, q: Floats) -> Places:
    """Draw features, called ones with another colour and shape; give those that are drawn."""
    drawn = []
    for chosen, name, colour, marker, size in (
        (~(q <= _Q), "not called", FAINT, "o", 8),
        (q <= _Q, f"q ≤ {_Q:g}", VERMILLION, "D", 12),
    ):
        places = thinned(np.flatnonzero(chosen & ~np.isnan(p)), p)
        looks: dict[str, Any] = {"color": colour, "marker": marker, "alpha": 0.6, "linewidths": 0}
        ax.scatter(x[places], y[places], s=size, label=name, **looks)
        drawn.append(places)
    return np.concatenate(drawn[::-1])


def _told(ax: Axes, drawn: Places, names: Sequence[str], columns: dict[str, Floats]) -> Axes:
    told = {name: each[drawn].tolist() for name, each in columns.items()}
    return with_numbers(ax, {"feature": [names[j] for j in drawn], **told})


def _name_leading(ax: Axes, x: Floats, y: Floats, p: Floats, names: Sequence[str]) -> None:
    """Write names beside the features with the smallest p, where they cover no other name."""
    ax.margins(x=0.08, y=0.06)
    leading = [j for j in np.argsort(p, kind="stable")[:MOST_NAMES] if not np.isnan(p[j])]
    width, height = 260.0, 220.0  # points of the axes, near enough to see what would overlap
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    taken: list[tuple[float, float, float]] = []
    for j in leading:
        shown = lettered(names[j], 14)
        long = (LETTERS - 2) * 0.62 * len(shown)
        rightwards = x[j] < (left + right) / 2 or x[j] < left + 0.75 * (right - left)
        start = (x[j] - left) / (right - left) * width + (5 if rightwards else -5 - long)
        level = (y[j] - low) / (high - low) * height
        if any(start < b and a < start + long and abs(level - c) < LETTERS for a, b, c in taken):
            continue
        taken.append((start, start + long, level))
        ax.annotate(
            shown,
            (x[j], y[j]),
            xytext=(5 if rightwards else -5, 0),
            textcoords="offset points",
            ha="left" if rightwards else "right",
            va="center",
            color=INK,
            fontsize=LETTERS - 2,
        )


def thinned(places: Places, p: Floats) -> Places:
    """At most :data:`MOST_POINTS` of these places, evenly by p."""
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
    bars = {"from p": edges[:-1].tolist(), "to p": edges[1:].tolist(), "features": counts.tolist()}
    return with_numbers(ax, {**bars, "by chance": [chance] * BARS})
