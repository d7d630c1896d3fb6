"""From a table of counts to those that say something, with the depth of each library."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil, sqrt

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.experiments.counts.expression import ExpressionRule
from batchsense.experiments.counts.log_counts import log_cpm, log_cpm_for_weights
from batchsense.experiments.counts.trimmed_means import tmm_factors
from batchsense.experiments.design import Design
from batchsense.experiments.tables.table import Table
from batchsense.experiments.value_kinds import ValuesRead, tallies
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: What reading a table says of counts, and what is no longer so where they are taken as counts.
OUTDATED = frozenset({"looks_like_counts", "whole_numbers", "tallies"})

#: Standard errors below 1 from which no chance explains it.
_CLEARLY = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class PreparedCounts:
    """Counts of the features that have enough of them, and the libraries they come from.

    Attributes
    ----------
    values : array of shape (specimens, kept features)
        The counts.
    kept : array of shape (features,)
        Which features of the table these are.
    tallies : tuple of str
        Rows that a counting program appended; in no library size.
    rule : ExpressionRule
        What a feature needed to be kept.
    specimens : tuple of str
        Ids.
    sizes, factors : array of shape (specimens,)
        Counts in the kept features, and TMM factors; their products are the effective sizes.
    summary : str
        As what the values were read, what was kept, and how deep the libraries are.
    """

    values: Floats = field(repr=False)
    kept: Flags = field(repr=False)
    tallies: tuple[str, ...]
    rule: ExpressionRule
    specimens: tuple[str, ...]
    sizes: Floats
    factors: Floats
    summary: str

    @property
    def effective(self) -> Floats:
        """Effective library sizes, shape (specimens,)."""
        return self.sizes * self.factors


def prepare_counts(table: Table, leverages: Floats) -> PreparedCounts:
    """Leave out tallies and features with few counts, and find the factors of the libraries.

    As edgeR's manual advises: filter by all libraries and the leverages of the model, of shape
    (specimens,), take library sizes anew from what is kept, then TMM.

    Raises
    ------
    DataError
        Counts are missing, or a specimen has none.
    UnresolvedError
        No feature has enough counts; or the values were only read as counts, and vary less than
        counting alone would make them.

    Examples
    --------
    >>> counts = [[20, 0, 90, 9000], [30, 1, 80, 7000]]
    >>> names = ["A", "B", "C", "__no_feature"]
    >>> table = Table.from_arrays(counts, {"month": [1, 2]}, features=names, values_are="counts")
    >>> found = prepare_counts(table, np.array([0.5, 0.5]))
    >>> found.kept.tolist(), found.sizes.tolist()
    ([True, False, True, False], [110.0, 110.0])
    """
    tally = tallies(table.features)
    sizes = _sizes(table, ~tally, "")
    rule = ExpressionRule.of(sizes, leverages)
    kept = rule.keeps(table.values, sizes) & ~tally
    needed = (
        f"{float(f'{rule.cpm:.3g}'):,g} per million (10 in the median library) in at least "
        # As many as reach a number that is not whole.
        f"{ceil(rule.specimens - 1e-9)} specimens, and {rule.in_all:g} in all"
    )
    features = np.count_nonzero(~tally)
    if not kept.any():
        raise UnresolvedError(
            f"none of {features:,} features has enough counts: {needed}",
            needed="deeper libraries; or, where rows are single cells, their counts summed for "
            "each subject",
        )
    sizes = _sizes(table, kept, " in the features with enough of them")
    values = np.ascontiguousarray(table.values[:, kept])
    factors = tmm_factors(values, sizes)
    read = table.values_read()
    if not read.declared:
        _refuse_what_varies_less(values, sizes * factors, read)
    summary = (
        f"{read.sentence} {values.shape[1]:,} of {features:,} features have enough "
        f"counts: {needed}. In these features libraries hold {sizes.min():,.0f} to "
        f"{sizes.max():,.0f} counts; their TMM factors are {factors.min():.3f} to "
        f"{factors.max():.3f}."
    )
    named = tuple(table.features[j] for j in np.flatnonzero(tally).tolist())
    if named:
        summary += f" Left out as tallies of a counting program: {listed(named)}."
    return PreparedCounts(values, kept, named, rule, table.specimens, sizes, factors, summary)


def log_count_table(table: Table, design: Design) -> Table:
    """Log counts per million of the kept features where a table holds counts; else the table.

    Raises
    ------
    DataError, UnresolvedError
        As :func:`prepare_counts`.

    Examples
    --------
    >>> from batchsense.experiments.design import read_design
    >>> table = Table.from_arrays([[20, 0, 90], [30, 1, 80]] * 2, {"month": [*"MMJJ"]})
    >>> found = log_count_table(table, read_design(table, "month"))
    >>> found.values.shape, found.notes[0].code
    ((4, 2), 'counts_as_logs')
    """
    if table.values_read().kind != "counts":
        return table
    model = factor(np.hstack([design.wanted()[0], design.batch_terms()]))
    found = prepare_counts(table, model.leverages)
    message = f"{found.summary} Log2 counts per million of these features were looked at."
    return _as_logs(table, log_cpm(found.values, found.effective), found.kept, message)


def own_log_count_table(table: Table) -> Table:
    """Log counts per million by each specimen's own library, where a table holds counts.

    Nothing of one specimen enters the numbers of another, so that they may be learned from in folds
    without a leak: no feature is left out for its counts, and there are no TMM factors.

    Raises
    ------
    DataError, UnresolvedError
        As :func:`prepare_counts`.

    Examples
    --------
    >>> table = Table.from_arrays([[20, 0, 80], [30, 1, 69]] * 2, {"month": [*"MMJJ"]})
    >>> own_log_count_table(table).values.round(1)[0].tolist()
    [17.6, 12.3, 19.6]
    """
    read = table.values_read()
    if read.kind != "counts":
        return table
    chosen = ~tallies(table.features)
    sizes = _sizes(table, chosen, "")
    values = np.ascontiguousarray(table.values[:, chosen])
    if not read.declared:
        _refuse_what_varies_less(values, sizes, read)
    message = (
        f"{read.sentence} Log2 counts per million of each specimen's own library were learned "
        f"from; libraries hold {sizes.min():,.0f} to {sizes.max():,.0f} counts."
    )
    return _as_logs(table, log_cpm_for_weights(values, sizes), chosen, message)


def _as_logs(table: Table, values: Floats, chosen: Flags, message: str) -> Table:
    others = (note for note in table.notes if note.code not in OUTDATED)
    return replace(
        table,
        values=values,
        features=tuple(table.features[j] for j in np.flatnonzero(chosen).tolist()),
        notes=(*others, Note("counts_as_logs", message)),
        values_are="log",
    )


def _refuse_what_varies_less(values: Floats, effective: Floats, read: ValuesRead) -> None:
    """Ask where Pearson's χ² over its degrees of freedom is clearly below 1, that of Poisson's law.

    Rounded measurements and scores are whole numbers too; of libraries, specimens and batches
    alike can only add to what counting makes of counts.
    """
    degrees = len(values) - 1
    if degrees < 1:
        return
    expected = effective[:, None] * (values.sum(axis=0) / effective.sum())
    index = float(((values - expected) ** 2 / expected).sum(axis=0).mean()) / degrees
    error = sqrt(2 / (degrees * values.shape[1]))
    if index + _CLEARLY * error < 1:
        raise UnresolvedError(
            f"the values were read as {read}, but specimens differ by {index:.2g} times what "
            "counting alone would make counts differ; so they are no plain counts, and the answer "
            "is withheld",
            needed="what they are: --values numbers, log or intensities; or --values counts, if "
            "they are",
        )


def _sizes(table: Table, chosen: Flags, among: str) -> Floats:
    """Library sizes over some features; refuse gaps and empty libraries."""
    gaps = np.flatnonzero(chosen & np.isnan(table.values).any(axis=0)).tolist()
    if gaps:
        raise DataError(
            f"counts are missing in {len(gaps)} features: "
            f"{listed((table.features[j] for j in gaps), 3)}. Fill in 0 where nothing was counted, "
            "or leave these features out",
            where=table.source.matrix,
        )
    sizes = np.asarray(table.values.sum(axis=1, where=chosen))
    empty = [table.specimens[i] for i in np.flatnonzero(sizes == 0).tolist()]
    if empty:
        raise DataError(
            f"specimens without counts{among}: {listed(empty, 3)}; leave them out of matrix and "
            "sheet",
            where=table.source.matrix,
        )
    return sizes
