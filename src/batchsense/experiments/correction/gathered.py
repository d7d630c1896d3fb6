"""What a correction learns from one part of the data, to be merged with other parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchsense.errors import DataError, listed
from batchsense.experiments.correction.terms import Term, columns_of, read_factors, terms_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.tables.columns import Factor, label_factor, sorted_levels
from batchsense.experiments.tables.table import Column, Source, Table, repeated


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Sufficient statistics of some specimens, and what their sheet says.

    Parts merge in any order, and need not be able to be corrected alone: one may hold a single
    batch or a single level of what is kept.

    Attributes
    ----------
    batch_labels : str
        The batch column.
    batch_levels : tuple of str
        The batches seen.
    keep : tuple of str
        The kept columns.
    terms : tuple of Term
        The columns of the kept part.
    features : tuple of str
        The features.
    statistics : BatchStatistics
        Batches and covariates as in ``batch_levels`` and ``terms``.
    sheet : Table
        The specimens and their sheet, without observations.
    """

    batch_labels: str
    batch_levels: tuple[str, ...]
    keep: tuple[str, ...]
    terms: tuple[Term, ...]
    features: tuple[str, ...]
    statistics: BatchStatistics
    sheet: Table

    def merge(self, other: Gathered) -> Gathered:
        """Put two parts together.

        Parameters
        ----------
        other : Gathered
            Of other specimens, same columns and features.

        Returns
        -------
        Gathered
            Of the specimens of both.

        Raises
        ------
        DataError
            The parts differ in columns or features, share a specimen, or read a kept column as
            numbers here and as categories there.
        """
        self._check(other)
        levels = sorted_levels((*self.batch_levels, *other.batch_levels))
        terms = _union(self, other)
        first, second = (part.arranged(levels, terms) for part in (self, other))
        return Gathered(
            self.batch_labels,
            levels,
            self.keep,
            terms,
            self.features,
            first.statistics.merge(second.statistics),
            _joined(self.sheet, other.sheet),
        )

    def arranged(self, levels: Sequence[str], terms: Sequence[Term]) -> Gathered:
        """Number batches and terms as in a longer list."""
        if tuple(levels) == self.batch_levels and tuple(terms) == self.terms:
            return self
        statistics = self.statistics.rearranged(
            len(levels),
            [levels.index(level) for level in self.batch_levels],
            len(terms),
            [terms.index(term) for term in self.terms],
        )
        return replace(self, batch_levels=tuple(levels), terms=tuple(terms), statistics=statistics)

    def _check(self, other: Gathered) -> None:
        where = other.sheet.source.matrix
        mine, theirs = (self.batch_labels, *self.keep), (other.batch_labels, *other.keep)
        if mine != theirs:
            raise DataError(
                f"parts with different columns cannot be merged: batch and kept columns are "
                f"{listed(mine)} here and {listed(theirs)} there",
                where,
            )
        if self.features != other.features:
            odd = sorted(set(self.features) ^ set(other.features))
            what = f"differ: {listed(map(repr, odd), 3)}" if odd else "come in another order"
            raise DataError(f"the features of the parts {what}; give all parts the same", where)
        if twice := repeated([*self.sheet.specimens, *other.sheet.specimens]):
            raise DataError(
                f"specimens occur in both parts: {listed(map(repr, twice), 3)}; each may count "
                "once, so take them out of one, or give distinct ids",
                where,
            )


def gather(
    table: Table,
    batch_labels: str,
    keep: Sequence[str],
    categorical: Collection[str] = (),
    numeric: Collection[str] = (),
) -> Gathered:
    """Read one part of the data."""
    batches = label_factor(table, batch_labels)
    return gather_factors(table, batches, read_factors(table, keep, categorical, numeric))


def gather_factors(table: Table, batch_factor: Factor, kept: Sequence[Factor]) -> Gathered:
    """Read a part of which batches and kept factors were read already; raises as :func:`gather`."""
    terms = terms_of(kept)
    empty = BatchStatistics.empty(len(batch_factor.levels), len(table.features), len(terms))
    try:
        statistics = empty.add(
            table.values, batch_factor.codes, columns_of(kept, len(table.specimens))
        )
    except DataError as error:
        raise DataError(error.message, table.source.matrix) from None
    return of_factors(table, batch_factor, kept, statistics)


def of_factors(
    table: Table,
    batch_factor: Factor,
    kept: Sequence[Factor],
    statistics: BatchStatistics | None = None,
) -> Gathered:
    """Put sums together with what the sheet says of their specimens; without sums where none do."""
    terms = terms_of(kept)
    return Gathered(
        batch_labels=batch_factor.name,
        batch_levels=batch_factor.levels,
        keep=tuple(factor.name for factor in kept),
        terms=terms,
        features=table.features,
        statistics=statistics or BatchStatistics.empty(len(batch_factor.levels), 0, len(terms)),
        sheet=replace(table, values=np.empty((len(table.specimens), 0)), features=()),
    )


def bare_sheet(
    specimens: Sequence[str],
    sheet: Mapping[str, Column],
    source: Source,
    categorical: Collection[str] = (),
) -> Table:
    """Make a table that has a sheet and no observations."""
    return Table(
        values=np.empty((len(specimens), 0)),
        specimens=tuple(specimens),
        features=(),
        sheet=sheet,
        source=source,
        categorical=frozenset(categorical),
    )


def _union(first: Gathered, second: Gathered) -> tuple[Term, ...]:
    found: list[Term] = []
    for name in first.keep:
        levels = [[t.level for t in part.terms if t.factor == name] for part in (first, second)]
        numbers = [None in part for part in levels]
        if numbers[0] != numbers[1]:
            raise DataError(
                f"column {name!r} was read as numbers in one part and as categories in the other; "
                "declare it with numeric=... or categorical=..."
            )
        labels = sorted_levels(level for part in levels for level in part if level is not None)
        found.extend(Term(name, level) for level in (labels or (None,)))
    return tuple(found)


def _joined(first: Table, second: Table) -> Table:
    return bare_sheet(
        (*first.specimens, *second.specimens),
        {
            name: (*entries, *second.sheet[name])
            for name, entries in first.sheet.items()
            if name in second.sheet
        },
        first.source,
        first.categorical | second.categorical,
    )
