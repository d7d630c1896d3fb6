"""Pictures of tests: volcano, mean and difference, p-values, trends and the leading features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.counts.log_counts import log_cpm
from batchsense.experiments.tables.table import Table
from batchsense.experiments.testing.results import ContrastTests, EffectTest
from batchsense.plots.plane import grouped
from batchsense.plots.specimens import factor_of, in_memory, present
from batchsense.reports.figures.expression.features import (
    draw_mean_difference,
    draw_p_values,
    draw_trend,
    draw_volcano,
)
from batchsense.reports.figures.expression.heat_map import MOST_ROWS, Strip, draw_heat_map
from batchsense.reports.figures.style import showing

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

#: Columns of the sheet beside the heat map: the batches and two of what was wanted.
_MOST_STRIPS = 3


@showing
def plot_volcano(found: ContrastTests, contrast: int | str = 0, ax: Axes | None = None) -> Axes:
    """Draw -log10 p over the effect of one contrast (its place or name), with the line of q."""
    one = effect_of(found, contrast)
    return draw_volcano(one.effect, one.p_value, one.q_value, found.features, ax)


@showing
def plot_mean_difference(
    found: ContrastTests, contrast: int | str = 0, ax: Axes | None = None
) -> Axes:
    """Draw the effect of one contrast over the mean of each feature."""
    one = effect_of(found, contrast)
    numbers = (found.mean, one.effect, one.p_value, one.q_value)
    return draw_mean_difference(*numbers, found.features, ax)


@showing
def plot_p_values(found: ContrastTests, contrast: int | str = 0, ax: Axes | None = None) -> Axes:
    """Draw how often p-values occur, beside what chance alone would give."""
    return draw_p_values(effect_of(found, contrast).p_value, ax)


@showing
def plot_trend(found: ContrastTests, ax: Axes | None = None) -> Axes:
    """Draw how the scatter of a feature depends on its size.

    Of counts the trend that gives the precision weights (voom), else the prior variance of a test
    with ``trend=True``. Both as roots of standard deviations, as limma draws them.

    Raises
    ------
    UnresolvedError
        The tests know no trend.
    """
    if found.precision is not None:
        trend = found.precision
        labels = ("mean log2 count", "√(standard deviation)")
        return draw_trend(trend.sizes, trend.scatter, trend.trend, labels, ax)
    if not has_trend(found):
        raise UnresolvedError(
            "all features have the same prior variance", needed="counts, or a test with trend=True"
        )
    spread = np.asarray(found.variance) ** 0.25
    labels = ("mean", "√(standard deviation)")
    return draw_trend(found.mean, spread, found.prior_variance**0.25, labels, ax)


def has_trend(found: ContrastTests) -> bool:
    """Whether variances were judged along a trend."""
    prior = found.prior_variance[np.isfinite(found.prior_variance)]
    varies = len(prior) > 1 and np.ptp(prior) > 1e-9 * prior.max()
    return found.precision is not None or (found.variance is not None and bool(varies))


@showing
def plot_leading_features(
    found: ContrastTests,
    observations: Table | AnnData,
    contrast: int | str = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the 40 features with the smallest p as a heat map of the values as they were measured.

    Specimens and features are ordered by likeness; below stand the labels of the batches and of
    what was wanted. Of counts log counts per million are drawn.

    Raises
    ------
    DataError
        The observations have other features than the tests.
    """
    table = in_memory(observations)
    if table.features != found.features:
        raise DataError("the observations have other features than the tests")
    p = effect_of(found, contrast).p_value
    leading = [j for j in np.argsort(p, kind="stable")[:MOST_ROWS].tolist() if not np.isnan(p[j])]
    strips = []
    batch = found.batch_labels
    several = [] if batch in table.sheet else batch.split(" + ")
    for name in present(table, [batch, *several, *found.terms])[:_MOST_STRIPS]:
        factor = grouped(factor_of(table, name, (batch,)))
        strips.append(Strip(name, factor.levels, factor.codes))
    names = [found.features[j] for j in leading]
    return draw_heat_map(_leading_values(found, table, leading), names, table.specimens, strips, ax)


def effect_of(found: ContrastTests, contrast: int | str) -> EffectTest:
    """The tests of one contrast, by its place or its name."""
    names = [one.name for one in found.effects]
    if isinstance(contrast, str) and contrast in names:
        return found.effects[names.index(contrast)]
    if isinstance(contrast, int) and -len(names) <= contrast < len(names):
        return found.effects[contrast]
    raise DataError(f"no contrast {contrast!r}; there are {', '.join(names)}")


def _leading_values(found: ContrastTests, table: Table, leading: list[int]) -> Floats:
    counts = found.counts
    if counts is None:
        return np.asarray(table.values[:, leading])
    return log_cpm(table.values[:, leading], counts.effective)
