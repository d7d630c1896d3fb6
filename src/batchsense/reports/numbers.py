"""The numbers of a figure: those it was told, or what stands drawn in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Columns = Mapping[str, Sequence[object]]
_KNOWN: WeakKeyDictionary[Axes, Columns] = WeakKeyDictionary()


def with_numbers(ax: Axes, columns: Columns) -> Axes:
    """Remember the numbers that these axes show, a column for each name."""
    _KNOWN[ax] = columns
    return ax


def numbers_of(ax: Axes) -> Columns:
    """The numbers of axes: those that were remembered, else the places of all that is drawn."""
    if ax in _KNOWN:
        return _KNOWN[ax]
    found: list[tuple[str, Any]] = [(_name(one), one.get_xydata()) for one in ax.get_lines()]
    for one in ax.collections:
        lines: list[Any] = getattr(one, "get_segments", list)()
        found += [(_name(one), part) for part in (lines or [one.get_offsets()])]
    found += [("bar", bar.get_extents().transformed(ax.transData.inverted())) for bar in ax.patches]
    rows = [
        (name, float(x), float(y))
        for name, places in found
        for x, y in np.ma.filled(np.ma.asarray(places, dtype=float), np.nan).reshape(-1, 2)
    ]
    return {name: [row[k] for row in rows] for k, name in enumerate(("series", "x", "y"))}


def csv_text(columns: Columns) -> str:
    """Write numbers as comma-separated text, six digits of each.

    Examples
    --------
    >>> csv_text({"batch": ["May"], "mean": [1 / 3]})
    'batch,mean\\nMay,0.333333\\n'
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([_cell(value) for value in row])
    return stream.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.6g}"
    return value


def _name(artist: Any) -> str:
    name = str(artist.get_label())
    return "" if name.startswith("_") else name.strip("\N{ZERO WIDTH SPACE}").replace(r"\$", "$")
