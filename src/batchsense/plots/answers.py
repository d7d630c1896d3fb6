"""Pictures of a diagnosis, of surrogates, of a gap and of a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchsense.errors import DataError
from batchsense.reports.figures.batches import draw_design, draw_folds, draw_strips
from batchsense.reports.figures.intervals import Row, draw_intervals
from batchsense.reports.figures.points import draw_points
from batchsense.reports.figures.style import showing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from batchsense.experiments.diagnosis.diagnosis import Diagnosis
    from batchsense.experiments.diagnosis.shares import Share
    from batchsense.experiments.layout.result import Layout
    from batchsense.experiments.surrogates.finding import Surrogates
    from batchsense.experiments.validation.comparison import GapComparison
    from batchsense.experiments.validation.gap import BatchGap


@showing
def plot_shares(found: Diagnosis, ax: Axes | None = None) -> Axes:
    """Draw the share of the variance of each term in per cent, beside what chance gives.

    Raises
    ------
    DataError
        No term adds anything to the others.
    """
    terms = [(found.design.batches.name, found.batch_share)]
    terms += [(kept.entanglement.name, kept.share) for kept in found.kept]
    rows = [
        Row(name, *(100 * part for part in _drawn(one))) for name, one in terms if one is not None
    ]
    if not rows:
        raise DataError("no term adds anything to the others, so there is no share to draw")
    words = ("share of the variance (%)", "chance subtracted", "shuffled labels, 95 %")
    return draw_intervals(rows, *words, ax=ax)


def _drawn(one: Share) -> tuple[float, ...]:
    share = one.share
    return share.estimate, share.low, share.high, one.null.high, one.raw


@showing
def plot_gap(found: GapComparison | BatchGap, ax: Axes | None = None) -> Axes:
    """Draw the error on each batch, in shuffled folds and left out; without correction."""
    gap = found if not hasattr(found, "ways") else found.ways[0].gap
    scale = 100.0 if gap.measure == "error rate" else 1.0
    unit = " (%)" if gap.measure == "error rate" else ""
    levels = [str(level) for level in gap.batch_labels]
    both = ("shuffled folds", "batch left out")
    return draw_folds(gap.by_batch, levels, both, (f"{gap.measure}{unit}", "batch"), scale, ax=ax)


@showing
def plot_surrogates(found: Surrogates, which: int = 0, ax: Axes | None = None) -> Axes:
    """Draw one surrogate along the order of the matrix, where drifts and steps show.

    Raises
    ------
    DataError
        There are not so many.
    """
    if which >= len(found.names):
        raise DataError(f"there are {len(found.names)} surrogates, none at {which}")
    places, ids = np.arange(1, len(found.values) + 1), found.table.specimens
    name = found.names[which]
    labels = ("specimens in the order of the matrix", name)
    groups = [name] * len(places)
    return draw_points(places, found.values[:, which], groups, "surrogate", labels, ax=ax, ids=ids)


@showing
def plot_layout(found: Layout, factor: int = 0, ax: Axes | None = None) -> Axes:
    """Draw how a balanced factor is spread over the batches: counts, or the numbers themselves.

    Raises
    ------
    DataError
        There are not so many factors.
    """
    kept = found.design.kept
    if factor >= len(kept):
        raise DataError(f"there are {len(kept)} balanced factors, none at {factor}")
    one, levels = kept[factor], found.batch_levels
    if one.values is not None:
        return draw_strips(one.values, found.codes, levels, one.name, found.column, ax)
    counts = np.zeros((len(one.levels), len(levels)), dtype=int)
    np.add.at(counts, (one.codes, found.codes), 1)
    return draw_design(counts, one.levels, levels, one.name, found.column, ax)
