"""What both passes need to know: runs of specimens, the correction, the matrix and its design."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.experiments.correction.combat import CombatCorrection, FittedCombat
from batchsense.experiments.correction.gathered import of_factors
from batchsense.experiments.correction.linear import FittedLinear, LinearCorrection
from batchsense.experiments.correction.terms import columns_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design
from batchsense.experiments.out_of_core.budget import ModelSize
from batchsense.experiments.tables.table import Table
from batchsense.storage.matrices.location import MatrixLocation

#: Specimens from the first number up to, not including, the second.
SpecimenRun: TypeAlias = tuple[int, int]


def united(runs: Iterable[SpecimenRun]) -> list[SpecimenRun]:
    """Join runs that touch or overlap.

    Examples
    --------
    >>> united([(4, 6), (0, 2), (2, 4), (8, 9)])
    [(0, 6), (8, 9)]
    """
    joined: list[SpecimenRun] = []
    for low, high in sorted(runs):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def missing(done: Iterable[SpecimenRun], total: int) -> list[SpecimenRun]:
    """What is left of ``total`` specimens.

    Examples
    --------
    >>> missing([(2, 4)], 6)
    [(0, 2), (4, 6)]
    """
    left, reached = [], 0
    for low, high in [*united(done), (total, total)]:
        if low > reached:
            left.append((reached, low))
        reached = max(reached, high)
    return left


def cut(runs: Iterable[SpecimenRun], rows: int) -> Iterator[SpecimenRun]:
    """Cut runs at the multiples of ``rows``.

    Examples
    --------
    >>> list(cut([(0, 5), (7, 9)], 4))
    [(0, 4), (4, 5), (7, 8), (8, 9)]
    """
    for low, high in runs:
        while low < high:
            stop = min(high, (low // rows + 1) * rows)
            yield low, stop
            low = stop


def length(runs: Iterable[SpecimenRun]) -> int:
    """Count the specimens."""
    return sum(high - low for low, high in runs)


#: The corrections that learn from sums and change values one by one.
Streamed: TypeAlias = LinearCorrection | CombatCorrection


@dataclass(frozen=True, slots=True, eq=False)
class StreamedFit:
    """A correction of one experiment, before any observation was read.

    Attributes
    ----------
    correction : LinearCorrection or CombatCorrection
        What was asked for.
    table : Table
        Ids and sheet, without values.
    design : Design
        Batches and kept factors.
    """

    correction: Streamed
    table: Table
    design: Design

    @classmethod
    def of(cls, correction: Streamed, table: Table, batch_labels: str) -> StreamedFit:
        """Read the sheet, and refuse what cannot be done before reading the matrix.

        Raises
        ------
        DataError
            A column of the sheet cannot be used.
        ConfoundedError
            A kept factor cannot be told from the batches.
        """
        return cls(correction, table, correction.design(table, batch_labels)[0])

    def inputs(self, location: MatrixLocation) -> PassInputs:
        """Put together what both passes need to know."""
        codes, batches = self.design.batches.codes, len(self.design.batches.levels)
        columns = np.ascontiguousarray(columns_of(self.design.kept, self.design.specimens))
        groups = len(np.unique(np.column_stack([codes, columns]), axis=0))
        return PassInputs(location, codes, columns, ModelSize(batches, columns.shape[1], groups))

    def fit(self, statistics: BatchStatistics) -> FittedLinear | FittedCombat:
        """Learn from the sums of all specimens.

        Raises
        ------
        DataError, UnresolvedError
            They do not suffice.
        """
        batches, kept = self.design.batches, self.design.kept
        return self.correction.finish(of_factors(self.table, batches, kept, statistics))


@dataclass(frozen=True, slots=True, eq=False)
class PassInputs:
    """A matrix and its design, or those of a piece of it.

    Attributes
    ----------
    location : MatrixLocation
        The whole matrix.
    codes : array of shape (specimens,)
        The batch of each specimen.
    covariates : array of shape (specimens, terms)
        The kept terms.
    size : ModelSize
        Of the model.
    first : int
        The specimen to which the first of ``codes`` belongs.
    """

    location: MatrixLocation
    codes: Integers
    covariates: Floats
    size: ModelSize
    first: int = 0

    def design(self, run: SpecimenRun) -> tuple[Integers, Floats]:
        """Batches and kept terms of some specimens."""
        own = slice(run[0] - self.first, run[1] - self.first)
        return self.codes[own], self.covariates[own]

    def piece(self, run: SpecimenRun) -> PassInputs:
        """Keep only some specimens, so that little travels to another process."""
        codes, covariates = self.design(run)
        return replace(self, codes=codes, covariates=covariates, first=run[0])

    def empty_statistics(self) -> BatchStatistics:
        """The sums before any specimen was read."""
        features = self.location.shape[1]
        return BatchStatistics.empty(self.size.batches, features, self.size.terms)
