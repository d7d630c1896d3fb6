"""From a table of counts to those that say something, with the depth of each library."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.experiments.counts.expression import ExpressionRule, expression_rule
from batchsense.experiments.counts.log_counts import log_cpm
from batchsense.experiments.counts.trimmed_means import tmm_factors
from batchsense.experiments.design import Design
from batchsense.experiments.tables.table import Table
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: What reading a table says of counts, and what is no longer so where they are taken as counts.
OUTDATED = frozenset({"looks_like_counts", "whole_numbers", "tallies"})


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
        Their ids.
    sizes : array of shape (specimens,)
        Counts of each specimen in the kept features.
    factors : array of shape (specimens,)
        TMM factors; ``sizes`` times ``factors`` are the effective library sizes.
    reading : str
        Why the values were taken for counts, in a sentence.
    """

    values: Floats = field(repr=False)
    kept: Flags = field(repr=False)
    tallies: tuple[str, ...]
    rule: ExpressionRule
    specimens: tuple[str, ...]
    sizes: Floats
    factors: Floats
    reading: str

    @property
    def effective(self) -> Floats:
        """Effective library sizes, shape (specimens,)."""
        return self.sizes * self.factors

    @property
    def logs(self) -> Floats:
        """Log2 counts per million for looking at, shape (specimens, kept features)."""
        return log_cpm(self.values, self.effective)

    @property
    def summary(self) -> str:
        """Say as what the values were read, what was kept, and how deep the libraries are."""
        rule = self.rule
        needed = ceil(rule.specimens - 1e-9)  # as many as reach a number that is not whole
        low, high = self.sizes.min(), self.sizes.max()
        sentence = (
            f"{self.reading} {self.values.shape[1]:,} of {len(self.kept) - len(self.tallies):,} "
            f"features have enough counts: {rule.cpm:,.3g} per million (10 in the median library) "
            f"in at least {needed} specimens, and {rule.in_all:g} in all. In these features "
            f"libraries hold {low:,.0f} to {high:,.0f} counts; their TMM factors are "
            f"{self.factors.min():.3f} to {self.factors.max():.3f}."
        )
        if self.tallies:
            sentence += (
                f" {listed(self.tallies)} are tallies of a counting program, no features, and were "
                "left out."
            )
        return sentence


def prepare_counts(table: Table, leverages: Floats) -> PreparedCounts:
    """Leave out tallies and features with few counts, and find the factors of the libraries.

    As edgeR's manual advises: filter by all libraries and the design, take library sizes anew from
    what is kept, then TMM.

    Parameters
    ----------
    table : Table
        Counts.
    leverages : array of shape (specimens,)
        Of the model that will be fitted.

    Raises
    ------
    DataError
        Values that are no counts or are missing, or a specimen without any count.
    UnresolvedError
        No feature has enough counts.

    Examples
    --------
    >>> counts = [[20, 0, 90, 9000], [30, 1, 80, 7000]]
    >>> names = ["A", "B", "C", "__no_feature"]
    >>> table = Table.from_arrays(counts, {"month": [1, 2]}, features=names, values_are="counts")
    >>> found = prepare_counts(table, np.array([0.5, 0.5]))
    >>> found.kept.tolist(), found.sizes.tolist()
    ([True, False, True, False], [110.0, 110.0])
    """
    read = table.values_read()
    _refuse_others(table)
    tally = tallies(table.features)
    counts = table.values[:, ~tally]
    sizes = _sizes(table, counts, "")
    rule = expression_rule(sizes, leverages)
    kept = ~tally
    kept[kept] = rule.keeps(counts, sizes)
    if not kept.any():
        raise UnresolvedError(
            f"none of {np.count_nonzero(~tally):,} features has enough counts: {rule.cpm:,.3g} per "
            f"million in {rule.specimens:.3g} specimens and {rule.in_all:g} in all",
            needed="deeper libraries; or, where rows are single cells, their counts summed for "
            "each subject",
        )
    values = np.ascontiguousarray(table.values[:, kept])
    sizes = _sizes(table, values, " in the features with enough of them")
    factors = tmm_factors(values, sizes)
    named = tuple(table.features[j] for j in np.flatnonzero(tally).tolist())
    return PreparedCounts(values, kept, named, rule, table.specimens, sizes, factors, read.sentence)


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
    return replace(
        table,
        values=found.logs,
        features=tuple(table.features[j] for j in np.flatnonzero(found.kept).tolist()),
        notes=(
            *(note for note in table.notes if note.code not in OUTDATED),
            Note("counts_as_logs", message),
        ),
        values_are="log",
    )


def _refuse_others(table: Table) -> None:
    """Refuse what is no count, with the cells."""
    values = table.values
    with np.errstate(invalid="ignore"):
        wrong = np.argwhere(~((values >= 0) & (values == np.rint(values))))
    if not len(wrong):
        return
    cells = (
        f"{table.specimens[i]} / {table.features[j]} is "
        f"{'missing' if np.isnan(values[i, j]) else f'{values[i, j]:g}'}"
        for i, j in wrong[:3]
    )
    raise DataError(
        f"counts are whole numbers from 0 on, and {len(wrong):,} values are none, for example "
        f"{listed(cells)}. Round counts that were estimated, leave out features that were not "
        "counted everywhere, or declare what the values are: --values log, for example",
        where=table.source.matrix,
    )


def _sizes(table: Table, counts: Floats, among: str) -> Floats:
    sizes = np.asarray(counts.sum(axis=1))
    empty = [table.specimens[i] for i in np.flatnonzero(sizes == 0).tolist()]
    if empty:
        raise DataError(
            f"{len(empty)} specimens have no counts{among}: {listed(empty, 3)}; leave them out of "
            "matrix and sheet",
            where=table.source.matrix,
        )
    return sizes
