"""Figure: specimens as boxes of relative log expression, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Places
from batchsense.reports.figures.expression.thinning import evenly
from batchsense.reports.figures.style import COLOURS, FAINT, MARKERS, axes, label, lettered
from batchsense.reports.numbers import with_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More boxes would be thinner than a line; evenly from all batches.
MOST_BOXES = 150
#: To see a specimen stand apart, every nth feature will do, and its median over every nth specimen.
MOST_FEATURES, MOST_COMPARED = 4000, 1000
#: Names of batches that fit below.
_MOST_NAMES = 20
_PARTS = (0.05, 0.25, 0.5, 0.75, 0.95)


def draw_relative(
    values: npt.ArrayLike,
    codes: npt.ArrayLike,
    levels: Sequence[str],
    batch_name: str,
    specimens: Sequence[str],
    reach: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw each specimen's values less the medians of the features: its middle half, 90 %, median.

    ``values`` are logarithms of shape (specimens, features); ``reach`` is the end of the scale.

    Source: Gandolfo and Speed (2018), PLoS ONE 13, e0191629.
    """
    batch = np.asarray(codes)
    order = np.argsort(batch, kind="stable")
    order = order[evenly(len(order), MOST_BOXES)]
    shown = _relative(values, order)
    held = ~np.isnan(shown).all(axis=1)  # a specimen may hold no value
    order, parts = order[held], np.nanquantile(shown[held], _PARTS, axis=1)
    # A gap of a tenth of the figure's width, shared by the bounds between batches.
    gap = max(0.6, 0.1 * len(order) / max(len(levels), 1)) if len(levels) > 1 else 0.0
    places = np.arange(len(order)) + gap * np.unique(batch[order], return_inverse=True)[1]
    ax = axes(ax, height=3.2)
    wide = max(0.8, min(9.0, 260.0 / len(order)))
    for b in np.unique(batch[order]).tolist():
        here = batch[order] == b
        looks: dict[str, Any] = {"color": COLOURS[b % len(COLOURS)]}
        ax.vlines(places[here], parts[0, here], parts[4, here], linewidth=0.7, **looks)
        ax.vlines(places[here], parts[1, here], parts[3, here], linewidth=wide, alpha=0.5, **looks)
        looks["marker"] = MARKERS[b % len(MARKERS)]
        ax.scatter(places[here], parts[2, here], s=9, linewidths=0, zorder=3, **looks)
    ax.axhline(0.0, color=FAINT, linewidth=0.8)
    _names(ax, places, batch[order], levels)
    if reach is not None:
        ax.set_ylim(-reach, reach)
    label(ax, batch_name, "value less median")
    columns: dict[str, Sequence[object]] = {
        "specimen": [specimens[i] for i in order],
        batch_name: [levels[b] for b in batch[order]],
    }
    columns |= {f"{100 * part:g} %": row.tolist() for part, row in zip(_PARTS, parts, strict=True)}
    return with_numbers(ax, columns)


def reach_of(values: npt.ArrayLike) -> float:
    """An end of the scale that shows the middle 90 % of all but the wildest specimens."""
    some = evenly(len(np.asarray(values)), MOST_BOXES)
    shown = _relative(values, some)
    shown = shown[~np.isnan(shown).all(axis=1)]
    return float(1.15 * np.nanquantile(np.abs(shown), 0.9, axis=1).max(initial=0.0)) or 1.0


def _relative(values: npt.ArrayLike, chosen: Places) -> Floats:
    logs = np.asarray(values, dtype=float)
    features = evenly(logs.shape[1], MOST_FEATURES)
    compared = logs[np.ix_(evenly(len(logs), MOST_COMPARED), features)]
    seen = ~np.isnan(compared).all(axis=0)
    medians = np.nanmedian(compared[:, seen], axis=0)
    return np.asarray(logs[np.ix_(chosen, features[seen])] - medians)


def _names(ax: Axes, places: npt.NDArray[Any], batch: npt.NDArray[Any], levels: Any) -> None:
    present = np.unique(batch).tolist()
    shown = [present[k] for k in evenly(len(present), _MOST_NAMES)]
    names = [lettered(levels[b], 16) for b in shown]
    slanted = sum(map(len, names)) > 50
    angle, side = (55, "right") if slanted else (0, "center")
    middles = [float(places[batch == b].mean()) for b in shown]
    ax.set_xticks(middles, names, rotation=angle, ha=side)
    ax.grid(False, axis="x")
