"""Figure: the leading features as a heat map, ordered by likeness, with the labels of specimens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers, Places
from batchsense.reports.figures.expression.thinning import evenly
from batchsense.reports.figures.style import INK, LETTERS, axes, lettered, new_figure, sign
from batchsense.reports.numbers import with_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Rows and columns that are drawn: names of more rows would not fit a page, columns of more
#: specimens would be narrower than a dot.
MOST_ROWS, MOST_COLUMNS = 40, 200
#: Standard deviations at which the scale ends; beyond it a single value would grey all others.
_END = 3.0
#: A strip names its levels where there are so many at most.
_MOST_NAMED = 8
#: A strip is no higher than so many lines: of more levels lines lie closer.
_MOST_LINES = 12
_ROW, _LEVEL, _TREE, _LOWEST = 0.17, 0.15, 0.45, 1.6  # inches


@dataclass(frozen=True, slots=True)
class Strip:
    """The labels of all specimens by one column: its name, the levels, and a code for each."""

    name: str
    levels: Sequence[str]
    codes: Integers


def draw_heat_map(
    values: npt.ArrayLike,
    features: Sequence[str],
    specimens: Sequence[str],
    strips: Sequence[Strip],
    ax: Axes | None = None,
) -> Axes:
    """Draw values of shape (specimens, features), each feature in its standard deviations.

    Rows and columns are ordered by average linkage. A level of a strip has a line of its own beside
    its colour, and lightness alone tells values apart. Of more than 200 specimens every nth is
    drawn, evenly over the levels of the strips.
    """
    order = np.lexsort([strip.codes for strip in strips]) if strips else np.arange(len(specimens))
    chosen = np.sort(order[evenly(len(order), MOST_COLUMNS)])
    scaled = _standard(np.asarray(values, dtype=float)[:, :MOST_ROWS])[chosen].T
    rows, columns = _tree(scaled), _tree(scaled.T)
    table = scaled[rows[0]][:, columns[0]]
    lines = [min(max(2, len(strip.levels)), _MOST_LINES) for strip in strips]
    height = max(_ROW * len(table), _LOWEST)
    ax = axes(_placed(height, sum(_LEVEL * count + 0.12 for count in lines)) if ax is None else ax)
    ax.grid(False)
    # Lightness grows all the way, so that the map reads in print and without colours.
    looks: dict[str, Any] = {"cmap": "cividis", "vmin": -_END, "vmax": _END, "aspect": "auto"}
    image = ax.imshow(table, interpolation="none", **looks)
    ax.set_xticks([])
    ax.yaxis.tick_right()
    named = [lettered(features[j], 20) for j in rows[0]]
    ax.set_yticks(range(len(named)), named, fontsize=LETTERS - 2.5)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    _draw_tree(ax.inset_axes((0.0, 1.0, 1.0, _TREE / height)), columns[1], upright=True)
    _draw_tree(ax.inset_axes((-0.09, 0.0, 0.09, 1.0)), rows[1], upright=False)
    below = 0.0
    for strip, count in zip(strips, lines, strict=True):
        below += (_LEVEL * count + 0.12) / height
        part = ax.inset_axes((0.0, -below, 1.0, _LEVEL * count / height))
        _draw_strip(part, strip, chosen[columns[0]])
    _draw_scale(ax.inset_axes((0.3, -below - 0.22 / height, 0.4, 0.1 / height)), image)
    own = {features[j]: row.round(3).tolist() for j, row in zip(rows[0], table, strict=True)}
    labels = {one.name: [one.levels[k] for k in one.codes[chosen[columns[0]]]] for one in strips}
    return with_numbers(
        ax, {"specimen": [specimens[chosen[i]] for i in columns[0]], **labels, **own}
    )


def _placed(height: float, below: float) -> Axes:
    """New axes with room for trees, strips and names: what stands outside moves no other axes."""
    total = height + below + _TREE + 0.55
    return new_figure(6.1, total).add_axes((0.16, (below + 0.5) / total, 0.58, height / total))


def _standard(values: Floats) -> Floats:
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return np.asarray((values - mean) / np.where(spread > 0, spread, 1.0))


def _tree(rows: Floats) -> tuple[Places, Any]:
    """Order of the leaves by average linkage, and the tree; a gap counts as the mean."""
    if len(rows) < 2:
        return np.arange(len(rows)), None
    from scipy.cluster.hierarchy import dendrogram, linkage

    tree = dendrogram(linkage(np.nan_to_num(rows), "average"), no_plot=True)
    return np.array(tree["leaves"]), tree


def _draw_tree(ax: Axes, tree: Any, upright: bool) -> None:
    ax.axis("off")
    if tree is None:
        return
    # scipy places leaves at 5, 15, 25 …; gaps make one path of all, which takes less of a page.
    across = np.pad((np.array(tree["icoord"]) - 5) / 10, ((0, 0), (0, 1)), constant_values=np.nan)
    up = np.pad(np.array(tree["dcoord"]), ((0, 0), (0, 1)), constant_values=np.nan)
    drawn = (across.ravel(), up.ravel())
    ax.plot(*(drawn if upright else drawn[::-1]), color=INK, linewidth=0.6)
    ends = (-0.5, len(tree["leaves"]) - 0.5)
    if upright:
        ax.set_xlim(*ends)
    else:
        ax.set_ylim(*ends[::-1])
        ax.invert_xaxis()


def _draw_strip(ax: Axes, strip: Strip, order: Places) -> None:
    codes = strip.codes[order]
    for k in range(len(strip.levels)):
        here = np.flatnonzero(codes == k)
        looks: dict[str, Any] = {"color": sign(k)["color"], "marker": "|", "linewidths": 1.4}
        ax.scatter(here, np.full(len(here), k), s=40, **looks)
    ax.set_xlim(-0.5, len(codes) - 0.5)
    ax.set_ylim(max(2, len(strip.levels)) - 0.5, -0.5)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks([])
    ax.yaxis.tick_right()
    names = (
        [lettered(name, 20) for name in strip.levels] if len(strip.levels) <= _MOST_NAMED else []
    )
    ax.set_yticks(range(len(names)), names, fontsize=LETTERS - 2.5, color=INK)
    ax.tick_params(length=0)
    ax.set_ylabel(lettered(strip.name, 12), color=INK, fontsize=LETTERS - 2, rotation=0, ha="right")


def _draw_scale(ax: Axes, image: Any) -> None:
    ax.imshow(
        np.linspace(-_END, _END, 60)[None],
        cmap=image.get_cmap(),
        extent=(-_END, _END, 0, 1),
        aspect="auto",
    )
    ax.set_yticks([])
    ax.set_xticks([-_END, 0, _END], ["3 SD below", "mean", "3 SD above"])
    ax.tick_params(length=0, colors=INK, labelsize=LETTERS - 2.5)
    for spine in ax.spines.values():
        spine.set_visible(False)
