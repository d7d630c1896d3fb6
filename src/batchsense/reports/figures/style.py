"""How figures look: colours everyone can tell apart, always with a second sign beside colour."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from batchsense.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_P = ParamSpec("_P")
_R = TypeVar("_R")
#: Whether a new figure is one of pyplot, which shows itself.
_showing = ContextVar("_showing", default=False)

#: The colour of letters and axes; a page replaces it by its own text colour.
INK = "#1a1d21"
#: Faint lines, readable on white and on dark ground.
FAINT = "#8a9099"

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
)
#: The colours of Okabe and Ito (2008), without black and yellow, which vanish on some ground.
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
#: Marker shapes: with six colours and seven shapes 42 groups differ in at least one.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

#: Dashes of lines that mark a level.
DASHES = (0, (4, 3))
#: Size of letters in points, in figures of 6.1 inches; chosen by eye beside the text of a page.
LETTERS = 11.5
#: Points between axes with tick labels and a name, and the legend below them: ticks and two lines
#: of letters with their gaps.
BELOW = 38.0
#: Plain ticks of a logarithmic axis of less than a factor of 5, where 1, 2, 5 would be too few.
_FINE_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
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


def sign(index: int) -> dict[str, Any]:
    """Colour and marker shape of the group with this number, as matplotlib wants them.

    Examples
    --------
    >>> sign(0)
    {'color': '#0072B2', 'marker': 'o'}
    >>> len({tuple(sign(k).values()) for k in range(42)})
    42
    """
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def axes(ax: Axes | None = None, width: float = 6.1, height: float = 3.7) -> Axes:
    """The axes to draw on, dressed in the house style."""
    if ax is None:
        ax = new_figure(width, height, layout="constrained").subplots()
    for side, spine in ax.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(INK)
        spine.set_linewidth(0.8)
    ax.tick_params(colors=INK, labelsize=LETTERS, length=3.5, width=0.8, which="major")
    ax.tick_params(colors=INK, labelsize=LETTERS, length=2, width=0.6, which="minor")
    ax.grid(True, color=FAINT, alpha=0.28, linewidth=0.7)
    ax.set_axisbelow(True)
    return ax


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """A figure of so many inches; one of pyplot where it is to show itself."""
    if _showing.get():
        from matplotlib import pyplot

        return pyplot.figure(figsize=(width, height), **options)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), **options)


def showing(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let what a function draws on axes of its own show when the cell of a notebook ends.

    Elsewhere nothing is kept, as pyplot would, and no window opens.

    Examples
    --------
    >>> from matplotlib import pyplot
    >>> figure = showing(axes)().get_figure()
    >>> pyplot.get_fignums()
    []
    """

    @wraps(draw)
    def drawn(*given: _P.args, **named: _P.kwargs) -> _R:
        before = _showing.set("ipykernel" in sys.modules)
        try:
            return draw(*given, **named)
        finally:
            _showing.reset(before)

    return drawn


def figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes, whatever stands between."""
    from matplotlib.figure import Figure

    figure = ax.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def lettered(name: str, most: int = 28) -> str:
    """A name from the user's data, fit to be drawn as it is.

    Dollar signs would start a formula and a leading underscore would hide the name from a legend.
    A name with more letters than ``most`` is cut; the table of the figure has it whole.

    Examples
    --------
    >>> lettered("cost in $"), lettered("a" * 40, most=10)
    ('cost in \\\\$', 'aaaaaaaaa…')
    """
    cut = name if len(name) <= most else name[: most - 1] + "…"
    shown = cut.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown


def label(ax: Axes, x: str = "", y: str = "") -> None:
    """Name the axes, units included."""
    ax.set_xlabel(lettered(x, 80), color=INK, fontsize=LETTERS)
    ax.set_ylabel(lettered(y, 60), color=INK, fontsize=LETTERS)


def rows_from_top(ax: Axes, names: Sequence[str], most: int = 28, margin: float = 0.0) -> None:
    """Give every row of a figure its name, the first one on top."""
    ax.set_yticks(range(len(names)), [lettered(name, most) for name in names])
    ax.set_ylim(len(names) - 0.5 + margin, -0.5 - margin)


def legend(
    ax: Axes, columns: int = 1, below: float | None = None, title: str = "", marks: float = 1.0
) -> None:
    """Add the legend: inside where there is room, or so many points below the axes, in columns.

    A name that several marks share stands there once. ``marks`` enlarges the marks, where those of
    the figure are too small to be told apart.
    """
    drawn, names = ax.get_legend_handles_labels()
    once = dict(zip(reversed(names), reversed(drawn), strict=True))
    known = {name: once[name] for name in names}
    if below is not None:
        from matplotlib.transforms import ScaledTranslation, blended_transform_factory

        # Below by points, not by parts of the axes: low axes need the same room for their labels;
        # centred in the figure, because long names of rows leave narrow axes.
        figure = figure_of(ax)
        shift = ScaledTranslation(0, -below / 72, figure.dpi_scale_trans)
        place: dict[str, Any] = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, 0.0),
            "bbox_transform": blended_transform_factory(figure.transFigure, ax.transAxes + shift),
        }
    else:
        place = {"loc": "best"}
    added = ax.legend(
        list(known.values()),
        list(known),
        ncols=columns,
        fontsize=LETTERS,
        labelcolor=INK,
        frameon=False,
        markerscale=marks,
        title=lettered(title) or None,
        handletextpad=0.5,
        columnspacing=1.1,
        borderaxespad=0.3,
        **place,
    )
    if title:
        added.get_title().set(color=INK, fontsize=LETTERS)


def plain_log(ax: Axes, x: bool = False, y: bool = False) -> None:
    """Make axes logarithmic, with plain numbers (1,000, 0.01) instead of powers of ten.

    Powers are drawn glyph by glyph, so that they could be neither searched nor read aloud.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for wanted, axis, scale in ((x, ax.xaxis, ax.set_xscale), (y, ax.yaxis, ax.set_yscale)):
        if not wanted:
            continue
        scale("log")
        low, high = sorted(axis.get_view_interval())
        reach = high / max(low, 1e-300)
        subs = (1.0,) if reach > 30 else (1.0, 2.0, 5.0) if reach > 5 else _FINE_STEPS
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())


def name_points(ax: Axes, xs: Sequence[float], ys: Sequence[float], names: Sequence[str]) -> None:
    """Write a name beside every point (in data); call it when the limits of the axes stand."""
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
