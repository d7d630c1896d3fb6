"""Figure: specimens as points in a plane, each group with its colour and shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.reports.figures.style import (
    BLUE,
    COLOURS,
    INK,
    MARKERS,
    axes,
    label,
    legend,
    lettered,
    sign,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

#: With more points than this the figure shows how many lie where.
MOST_POINTS = 5000
#: Groups beyond this number would not be told apart.
MOST_GROUPS = 20

_WIDTH = 3.9


def draw_points(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    groups: Sequence[str],
    group_name: str,
    x_label: str = "first principal component",
    y_label: str = "second principal component",
    ax: Axes | None = None,
    shapes: Sequence[str] | None = None,
    shape_name: str = "",
) -> Axes:
    """Draw points coloured by group; more than 5,000 become a map of their density.

    Notes
    -----
    :func:`reduction` says in words what was left out; put it into the caption.
    """
    across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    labels = np.asarray(groups, dtype=object).astype(str)
    names = sorted(set(labels.tolist()), key=_natural)
    if shapes is not None and len(across) <= MOST_POINTS:
        return _draw_crossed(
            across, up, (labels, group_name), (shapes, shape_name), x_label, y_label, ax
        )
    told_apart = len(across) <= MOST_POINTS and len(names) <= MOST_GROUPS
    # An entry of the legend takes a good half inch and its letters.
    columns = max(1, int((_WIDTH - 0.2) / (0.55 + 0.09 * min(max(map(len, names)), 28))))
    lines = -(-len(names) // columns) + 1 if told_apart else 0
    ax = axes(ax, width=_WIDTH, height=_WIDTH - 0.3 + 0.23 * lines)
    size = 18 if len(across) <= 500 else 9
    if len(across) > MOST_POINTS:
        ax.hexbin(
            across, up, gridsize=35, cmap=_density_colours(), mincnt=1, bins="log", linewidths=0.1
        )
    elif not told_apart:
        ax.scatter(across, up, s=size, alpha=0.6, marker="o", color=BLUE, linewidths=0)
    else:
        for k, name in enumerate(names):
            here = labels == name
            ax.scatter(
                across[here],
                up[here],
                s=size,
                alpha=0.75,
                marker=sign(k).marker,
                color=sign(k).colour,
                linewidths=0,
                label=lettered(name),
            )
        legend(ax, columns=columns, below=22, title=group_name, marks=6 / size**0.5)
    ax.set_xticks([])
    ax.set_yticks([])
    label(ax, x_label, y_label)
    return ax


def crossable(groups: int, shapes: int) -> bool:
    """Whether colours can stand for one factor and shapes for another.

    Examples
    --------
    >>> crossable(6, 7), crossable(7, 2)
    (True, False)
    """
    return 2 <= groups <= len(COLOURS) and 2 <= shapes <= len(MARKERS)


def _draw_crossed(
    across: Floats,
    up: Floats,
    groups: tuple[npt.NDArray[np.str_], str],
    shapes: tuple[Sequence[str], str],
    x_label: str,
    y_label: str,
    ax: Axes | None,
) -> Axes:
    """Draw colours for one factor and shapes for another, each with its legend."""
    colour_of, shape_of = groups[0], np.asarray(shapes[0], dtype=object).astype(str)
    colours = sorted(set(colour_of.tolist()), key=_natural)
    forms = sorted(set(shape_of.tolist()), key=_natural)
    lines = 2 + -(-len(colours) // 3) + -(-len(forms) // 3)
    ax = axes(ax, width=6.1, height=3.9 + 0.23 * lines)
    size = 30 if len(across) <= 500 else 14
    for i, colour in enumerate(colours):
        for j, form in enumerate(forms):
            here = (colour_of == colour) & (shape_of == form)
            if here.any():
                ax.scatter(
                    across[here],
                    up[here],
                    s=size,
                    alpha=0.75,
                    marker=MARKERS[j],
                    color=COLOURS[i],
                    linewidths=0,
                )
    names = [lettered(f"{groups[1]} {one}") for one in colours]
    names += [lettered(f"{shapes[1]} {one}") for one in forms]
    looks = [(MARKERS[0], COLOURS[i]) for i in range(len(colours))]
    looks += [(MARKERS[j], INK) for j in range(len(forms))]
    for name, (marker, colour) in zip(names, looks, strict=True):
        ax.scatter([], [], s=size, marker=marker, color=colour, linewidths=0, label=name)
    legend(ax, columns=3, below=22, marks=6 / size**0.5)
    ax.set_xticks([])
    ax.set_yticks([])
    label(ax, x_label, y_label)
    return ax


def reduction(points: int, groups: int) -> str:
    """Say what :func:`draw_points` leaves out, in a sentence; empty if nothing.

    Examples
    --------
    >>> reduction(100, 3)
    ''
    >>> reduction(100_000, 3)
    'The 100,000 specimens are drawn as a density, without their groups.'
    """
    if points > MOST_POINTS:
        return f"The {points:,} specimens are drawn as a density, without their groups."
    if groups > MOST_GROUPS:
        return f"{groups} groups are too many to tell apart by signs: all points look alike."
    return ""


def _density_colours() -> Colormap:
    """Give blues that begin dark enough to be seen on white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["Blues"](np.linspace(0.3, 1.0, 128)))


def _natural(name: str) -> tuple[int, float, str]:
    """Sort numbers by value, before words."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
