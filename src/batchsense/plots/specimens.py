"""Specimens of a table, or of a corrected one before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.correction.interface import Corrected
from batchsense.experiments.counts.log_counts import log_cpm
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.columns import FEW_VALUES, Factor, label_factor
from batchsense.experiments.tables.table import Table
from batchsense.experiments.tables.text import is_number
from batchsense.plots.plane import draw_plane, principal_plane
from batchsense.reports.figures.expression.relative import draw_relative, reach_of
from batchsense.reports.figures.style import showing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes


@showing
def plot_components(
    observations: Table | AnnData | Corrected,
    colour: str,
    after: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw specimens in the plane of their first two principal components.

    ``colour`` is the column of the sheet that colours and marks them (numbers by thirds);
    ``after`` takes the corrected values of what :func:`~batchsense.experiments.correct` returned.

    Raises
    ------
    DataError
        No such column, or missing labels.
    UnresolvedError
        Fewer than two directions vary.

    Examples
    --------
    >>> from batchsense.experiments import plant
    >>> plot_components(plant(specimens=12, features=20).table, "month").get_ylabel()[:11]
    'component 2'
    """
    table, values = _shown(observations, after)
    plane = principal_plane(values)
    if plane is None:
        raise UnresolvedError("fewer than two directions vary", needed="more specimens or features")
    return draw_plane(plane, factor_of(table, colour), table.specimens, ax)


@showing
def plot_relative_expression(
    observations: Table | AnnData | Corrected,
    batch_labels: str,
    after: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw specimens as boxes of relative log expression, batch by batch.

    Before and after a correction have the same scale.

    Raises
    ------
    DataError
        No such column, or missing labels.

    Examples
    --------
    >>> from batchsense.experiments import plant
    >>> plot_relative_expression(plant(specimens=12, features=20).table, "month").get_xlabel()
    'month'
    """
    table, values = _shown(observations, after)
    factor = label_factor(table, batch_labels)
    reach = reach_of(_shown(observations, False)[1])
    ids = table.specimens
    return draw_relative(values, factor.codes, factor.levels, factor.name, ids, reach, ax)


def factor_of(table: Table, name: str, labels: Collection[str] = ()) -> Factor:
    """A column as labels; more than six different numbers that are no ``labels`` stay numbers."""
    factor = label_factor(table, name)
    many = len(factor.levels) > FEW_VALUES and name not in {*table.categorical, *labels}
    if not many or not all(map(is_number, factor.levels)):
        return factor
    numbers = np.array([float(level) for level in factor.levels])
    return Factor(name, (), np.zeros_like(factor.codes), numbers[factor.codes])


def present(table: Table, names: Sequence[str]) -> list[str]:
    """Those of the names that are columns of the sheet without gaps, each once."""
    known = [name for name in dict.fromkeys(names) if name in table.sheet]
    return [name for name in known if None not in table.sheet[name]]


def in_memory(observations: Table | AnnData) -> Table:
    """The table, if its values can be drawn."""
    table = as_table(observations)
    if isinstance(table, StoredTable):
        raise UnresolvedError("the values lie on disk", needed="a table in memory to draw them")
    return table


def _shown(observations: Table | AnnData | Corrected, after: bool) -> tuple[Table, Floats]:
    if isinstance(observations, Corrected):
        return observations.table, observations.compared()[after]
    table = in_memory(observations)
    if table.values_read().kind != "counts":
        return table, table.values
    return table, log_cpm(table.values, np.nansum(table.values, axis=1))
