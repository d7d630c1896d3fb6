"""Names beside points, none left out: each goes where it covers neither points nor other names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Floats
from batchsense.reports.figures.style import FAINT, INK, LETTERS, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Offsets in points of the middle of a name from its point, the nearest first; beyond the first
#: eight a thin line leads back.
_NEAR = [(18, 8), (-18, 8), (18, -8), (-18, -8), (0, 13), (0, -13), (24, 0), (-24, 0)]
_FAR = [(x * k, y * k) for k in (1.8, 2.6) for x, y in _NEAR]
#: Half a letter's width and half a line, in points, a little generous.
_LETTER, _LINE = 2.7, 5.5
#: Half the size of a mark and the width of a line, in points.
_MARK, _STROKE = 4.0, 1.0
#: Points of a line that names keep off.
_SAMPLED = 200


def name_points(ax: Axes, xs: Sequence[float], ys: Sequence[float], names: Sequence[str]) -> None:
    """Write a name beside every point; call it when the limits of the axes stand.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where the points are drawn.
    xs, ys : sequences of float
        In data.
    names : sequence of str
        As many.
    """
    figure = figure_of(ax)
    figure.draw_without_rendering()
    places = ax.transData.transform(list(zip(xs, ys, strict=True))) * 72 / figure.dpi
    frame = ax.get_window_extent()
    corners = np.array([[frame.x0, frame.y0], [frame.x1, frame.y1]]) * 72 / figure.dpi
    drawn = np.vstack([_along_lines(ax) * 72 / figure.dpi, places])
    sizes = np.where(np.arange(len(drawn)) < len(drawn) - len(places), _STROKE, _MARK)
    taken = np.column_stack([drawn, sizes, sizes])
    for name, x, y, place in zip(names, xs, ys, places, strict=True):
        half = np.array([_LETTER * len(name), _LINE])
        offset = min([*_NEAR, *_FAR], key=partial(_clash, place, half, taken, corners))
        taken = np.vstack([taken, [*(place + offset), *half]])
        ax.annotate(
            name,
            (x, y),
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            color=INK,
            fontsize=LETTERS - 1,
            arrowprops={"arrowstyle": "-", "color": FAINT, "lw": 0.8} if offset in _FAR else None,
        )


def _along_lines(ax: Axes) -> Floats:
    """Points along every drawn line, in pixels."""
    found = [np.zeros((0, 2))]
    for line in ax.lines:
        corners = line.get_transform().transform(line.get_xydata())
        if line.get_linestyle() != "None" and len(corners) > 1:
            place = np.linspace(0, len(corners) - 1, _SAMPLED)
            each = np.arange(len(corners))
            found.append(np.column_stack([np.interp(place, each, axis) for axis in corners.T]))
    return np.vstack(found)


def _clash(
    place: Floats, half: Floats, taken: Floats, corners: Floats, offset: tuple[float, float]
) -> float:
    """How much of what is there a name would cover, or how far it would reach out of the frame."""
    middle = place + offset
    overlaps = half + taken[:, 2:] - np.abs(middle - taken[:, :2])
    covered = np.maximum(overlaps, 0).prod(axis=1).sum()
    out = np.maximum(corners[0] - (middle - half), 0) + np.maximum(middle + half - corners[1], 0)
    return float(covered + 100 * out.sum())
