"""Figures of images: handwritten digits, differences of mean images, a value over a plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.reports.figures.style import INK, LETTERS, axes, figure_of, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Between two images, as part of their width: enough to see them as two.
_GAP = 0.12


def draw_differences(
    images: Sequence[npt.ArrayLike], names: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Draw differences side by side on one scale: orange more, purple less, white none."""
    squares = [np.asarray(image, dtype=float) for image in images]
    pixels = len(squares[0])
    step = pixels * (1 + _GAP)
    ax = axes(ax, width=6.1, height=1.95)
    largest = max(float(np.abs(square).max()) for square in squares)
    for k, (square, name) in enumerate(zip(squares, names, strict=True)):
        _draw(ax, square, k * step, 0.0, "PuOr_r", (-largest, largest))
        _write(ax, k * step + pixels / 2, pixels * 1.08, name, ha="center", va="top")
    _finish(ax, step * len(squares) - _GAP * pixels, pixels * 1.42)
    return ax


def draw_digits(
    rows: Sequence[Sequence[npt.ArrayLike]], names: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Draw handwritten digits as ink on paper, one line per form."""
    pixels = len(np.asarray(rows[0][0]))
    step = pixels * (1 + _GAP)
    ax = axes(ax, width=6.1, height=0.25 + 0.55 * len(rows))
    darkest = max(float(np.asarray(image).max()) for row in rows for image in row)
    for line, (row, name) in enumerate(zip(rows, names, strict=True)):
        for place, image in enumerate(row):
            square = np.asarray(image, dtype=float)
            _draw(ax, square, place * step, line * step, "Greys", (0.0, darkest))
        _write(ax, -2.0, line * step + pixels / 2, name, ha="right", va="center")
    _finish(ax, step * len(rows[0]) - _GAP * pixels, step * len(rows))
    return ax


def draw_field(
    places: Floats, values: Floats, sequential: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw a value at each place: blue to orange about 0, or light to dark from 0."""
    ax = axes(ax)
    most = float(np.abs(values).max()) or 1.0
    colours: dict[str, Any] = (
        {"cmap": "Greys", "vmin": 0.0} if sequential else {"cmap": "PuOr_r", "vmin": -most}
    )
    # Squares that overlap a little, spread over 300 by 220 points of paper.
    size = (360 / np.sqrt(len(values))) ** 2
    drawn = ax.scatter(
        places[:, 0], places[:, 1], c=values, s=size, marker="s", linewidths=0, vmax=most, **colours
    )
    bar = figure_of(ax).colorbar(drawn, ax=ax)
    bar.ax.tick_params(colors=INK, labelsize=LETTERS)
    ax.grid(False)
    label(ax, "first coordinate", "second coordinate")
    return ax


def _draw(
    ax: Axes, square: Floats, left: float, top: float, colours: str, ends: tuple[float, float]
) -> None:
    pixels = len(square)
    ax.imshow(
        square,
        cmap=colours,
        vmin=ends[0],
        vmax=ends[1],
        extent=(left, left + pixels, top + pixels, top),
        interpolation="none",  # pixels stay pixels at any size
    )


def _write(ax: Axes, x: float, y: float, text: str, ha: str, va: str) -> None:
    ax.text(x, y, text, ha=ha, va=va, color=INK, fontsize=LETTERS)


def _finish(ax: Axes, right: float, bottom: float) -> None:
    ax.set_xlim(-0.2, right + 0.2)
    ax.set_ylim(bottom, -0.2)
    ax.set_aspect("equal")
    ax.axis("off")
