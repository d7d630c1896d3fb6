"""Figure: specimens as points in a plane, each group with its colour and shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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

Names = npt.NDArray[np.str_]

#: With more points than this the figure shows how many lie where: they would cover each other, and
#: 5,000 take some 170 kB of a page that may have 1.5 MB.
MOST_POINTS = 5000
#: Groups beyond this number would not be told apart; the legend would be longer than the figure.
MOST_GROUPS = 20
#: Inches; narrow, because two planes stand side by side on a page.
_WIDTH = 3.9


def draw_points(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    groups: Sequence[str],
    group_name: str,
    labels: Sequence[str] = ("first principal component", "second principal component"),
    shapes: Sequence[str] | None = None,
    shape_name: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw points coloured by group; more than 5,000 become a map of their density.

    Notes
    -----
    :func:`reduction` says in words what was left out; put it into the caption.
    """
    across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    group_of = np.asarray(groups, dtype=object).astype(str)
    names = sorted(set(group_of.tolist()), key=_natural)
    crossed = shapes is not None and len(across) <= MOST_POINTS
    if crossed:
        shape_of = np.asarray(shapes, dtype=object).astype(str)
        ax = _draw_crossed(across, up, (group_of, group_name), (shape_of, shape_name), ax)
    else:
        ax = _draw_groups(across, up, group_of, names, group_name, ax)
    ax.set_xticks([])
    ax.set_yticks([])
    label(ax, *labels)
    return ax


def _draw_groups(
    across: Floats, up: Floats, group_of: Names, names: list[str], group_name: str, ax: Axes | None
) -> Axes:
    told_apart = len(across) <= MOST_POINTS and len(names) <= MOST_GROUPS
    # An entry of the legend takes a good half inch and its letters.
    columns = max(1, int((_WIDTH - 0.2) / (0.55 + 0.09 * min(max(map(len, names)), 28))))
    lines = -(-len(names) // columns) + 1 if told_apart else 0
    ax = axes(ax, width=_WIDTH, height=_WIDTH - 0.3 + 0.23 * lines)
    size = 18 if len(across) <= 500 else 9
    if len(across) > MOST_POINTS:
        looks: dict[str, Any] = {"gridsize": 35, "mincnt": 1, "bins": "log", "linewidths": 0.1}
        ax.hexbin(across, up, cmap=_density_colours(), **looks)
    elif not told_apart:
        ax.scatter(across, up, s=size, alpha=0.6, marker="o", color=BLUE, linewidths=0)
    else:
        for k, name in enumerate(names):
            here = group_of == name
            looks = {"alpha": 0.75, "linewidths": 0, "label": lettered(name), **sign(k)}
            ax.scatter(across[here], up[here], s=size, **looks)
        legend(ax, columns=columns, below=22, title=group_name, marks=6 / size**0.5)
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
    groups: tuple[Names, str],
    shapes: tuple[Names, str],
    ax: Axes | None,
) -> Axes:
    colours = sorted(set(groups[0].tolist()), key=_natural)
    forms = sorted(set(shapes[0].tolist()), key=_natural)
    lines = 2 + -(-len(colours) // 3) + -(-len(forms) // 3)
    ax = axes(ax, width=6.1, height=3.9 + 0.23 * lines)
    size = 30 if len(across) <= 500 else 14
    for i, colour in enumerate(colours):
        for j, form in enumerate(forms):
            here = (groups[0] == colour) & (shapes[0] == form)
            if here.any():
                looks: dict[str, Any] = {"marker": MARKERS[j], "color": COLOURS[i]}
                ax.scatter(across[here], up[here], s=size, alpha=0.75, linewidths=0, **looks)
    entries = [(f"{groups[1]} {one}", MARKERS[0], COLOURS[i]) for i, one in enumerate(colours)]
    entries += [(f"{shapes[1]} {one}", MARKERS[j], INK) for j, one in enumerate(forms)]
    for name, mark, colour in entries:
        looks = {"marker": mark, "color": colour, "label": lettered(name)}
        ax.scatter([], [], s=size, linewidths=0, **looks)
    legend(ax, columns=3, below=22, marks=6 / size**0.5)
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
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["Blues"](np.linspace(0.3, 1.0, 128)))


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
