"""Figure: specimens as points in a plane, each group with its colour and shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.reports.figures.expression.thinning import evenly
from batchsense.reports.figures.style import (
    BLUE,
    axes,
    label,
    legend,
    lettered,
    sign,
)
from batchsense.reports.numbers import with_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Names = npt.NDArray[np.str_]

#: Of more points so many are drawn, evenly from all groups: with what saves them, 600 take 100 kB
#: of a page that may have 1.5 MB and may show eight such figures.
MOST_POINTS = 600
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
    ax: Axes | None = None,
    ids: Sequence[str] | None = None,
) -> Axes:
    """Draw points coloured by group, of more than 600 so many, evenly from all groups.

    :func:`reduction` says in words what was left out; put it into the caption.
    """
    group_of = np.asarray(groups, dtype=object).astype(str)
    names = sorted(set(group_of.tolist()), key=_natural)
    chosen = np.sort(np.argsort(group_of, kind="stable")[evenly(len(group_of), MOST_POINTS)])
    across, up = np.asarray(x, dtype=float)[chosen], np.asarray(y, dtype=float)[chosen]
    group_of = group_of[chosen]
    told: dict[str, Sequence[object]] = {} if ids is None else {"id": [ids[i] for i in chosen]}
    told |= {labels[0]: across.tolist(), labels[1]: up.tolist(), group_name: group_of.tolist()}
    ax = _draw_groups(across, up, group_of, names, group_name, ax)
    ax.set_xticks([])
    ax.set_yticks([])
    label(ax, *labels)
    return with_numbers(ax, told)


def _draw_groups(
    across: Floats, up: Floats, group_of: Names, names: list[str], group_name: str, ax: Axes | None
) -> Axes:
    told_apart = len(names) <= MOST_GROUPS
    # An entry of the legend takes a good half inch and its letters.
    columns = max(1, int((_WIDTH - 0.2) / (0.55 + 0.09 * min(max(map(len, names)), 28))))
    lines = -(-len(names) // columns) + 1 if told_apart else 0
    ax = axes(ax, width=_WIDTH, height=_WIDTH - 0.3 + 0.23 * lines)
    size = 18 if len(across) <= 500 else 9
    if not told_apart:
        ax.scatter(across, up, s=size, alpha=0.6, marker="o", color=BLUE, linewidths=0)
    else:
        for k, name in enumerate(names):
            here = group_of == name
            looks: dict[str, Any] = {
                "alpha": 0.75,
                "linewidths": 0,
                "label": lettered(name),
                **sign(k),
            }
            ax.scatter(across[here], up[here], s=size, **looks)
        legend(ax, columns=columns, below=22, title=group_name, marks=6 / size**0.5)
    return ax


def reduction(points: int, groups: int) -> str:
    """Say what :func:`draw_points` leaves out, in a sentence; empty if nothing."""
    sentences = []
    if points > MOST_POINTS:
        sentences.append(f"Drawn are {MOST_POINTS} of the {points:,}, evenly from all groups.")
    if groups > MOST_GROUPS:
        sentences.append(f"{groups} groups are too many to tell apart by signs: all look alike.")
    return " ".join(sentences)


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
