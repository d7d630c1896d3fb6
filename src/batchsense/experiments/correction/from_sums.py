"""Corrections that rest on sums alone: read part by part, merged, and extended by new batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from batchsense.arrays import Integers, Matrix
from batchsense.errors import DataError
from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.correction.beside import fit_beside
from batchsense.experiments.correction.fit_design import (
    FitDesign,
    KeepingColumns,
    design_of_parts,
    design_of_table,
    extended_note,
    new_batches,
)
from batchsense.experiments.correction.fitted import Fitted, LearnedArrays
from batchsense.experiments.correction.gathered import Gathered, gather
from batchsense.experiments.correction.terms import match_terms
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread
from batchsense.progress import Progress, silent

if TYPE_CHECKING:
    from anndata import AnnData

FittedT = TypeVar("FittedT")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionFromSums(KeepingColumns, ABC, Generic[FittedT]):
    """How corrections from sums are fitted: at once, or part by part."""

    def fit(
        self, table: Table | AnnData, batch_labels: str | Sequence[str], progress: Progress = silent
    ) -> FittedT:
        """Learn what every batch does to every feature; of several columns all at once.

        Raises
        ------
        DataError
            A column of the sheet cannot be used, or the method cannot learn from the data.
        ConfoundedError
            A kept factor cannot be told from the batches; names every relation.
        UnresolvedError
            No residual variation is left to scale by.
        """
        if not isinstance(batch_labels, str):
            if len(names := tuple(batch_labels)) != 1:
                fitted: FittedT = fit_beside(self, as_table(table), names, progress)
                return fitted
            batch_labels = names[0]
        progress("learning batch effects", 0, 2)
        with one_thread():  # the passes over the data have threads of their own
            design = design_of_table(as_table(table), batch_labels, self)
            progress("learning batch effects", 1, 2)
            fitted = self._learn(design)
        progress("learning batch effects", 2, 2)
        return fitted

    def gather(self, table: Table | AnnData, batch_labels: str) -> Gathered:
        """Read one part of the data, which need not be able to be corrected alone.

        Raises
        ------
        DataError
            A column of the sheet cannot be used.
        """
        return gather(as_table(table), batch_labels, self.keep, self.categorical, self.numeric)

    def finish(self, gathered: Gathered) -> FittedT:
        """Learn from all gathered parts, as :meth:`fit` does at once; raises as :meth:`fit`."""
        return self._learn(design_of_parts(gathered, self))

    @abstractmethod
    def _learn(self, fit: FitDesign) -> FittedT:
        """Solve, and say what must be said."""


class LearnedFromSums(LearnedArrays):
    """What a method learned that changes values one by one."""

    __slots__ = ()

    @abstractmethod
    def affine(self) -> Affine:
        """Scale and shift of each batch and feature."""


SumsT = TypeVar("SumsT", bound=CorrectionFromSums[Any])
ValuesT = TypeVar("ValuesT", bound=LearnedFromSums)


@dataclass(frozen=True, slots=True, eq=False)
class FittedFromSums(Fitted[SumsT, ValuesT]):
    """A fitted correction that can be merged with others, and take in new batches."""

    def _apply(
        self, table: Table, codes: Integers, features: Integers, out: Matrix | None, told: Progress
    ) -> Matrix:
        whole = table.features == self.features
        affine = (self.model if whole else self.model.only(features)).affine()
        # Where no scale changes, the kept terms cancel, and their levels need not be known.
        kept = match_terms(table, self.gathered.terms) if len(affine.slopes) else None
        return affine.apply(table.values, codes, kept, out)

    def merge(self, other: Self) -> Self:
        """The correction that fits the specimens of both, as if fitted at once.

        Raises
        ------
        DataError
            Options, columns or features differ, a specimen occurs in both, or batches were added
            to one after it was fitted.
        """
        if self.correction != other.correction:
            raise DataError(
                f"corrections with different options cannot be merged: {self.correction} and "
                f"{other.correction}"
            )
        self._refuse_several("merged")
        other._refuse_several("merged")
        if any(one.batch_levels != one.gathered.batch_levels for one in (self, other)):
            raise DataError(
                "a correction to which batches were added cannot be merged; merge first, then add"
            )
        both: Self = self.correction.finish(self.gathered.merge(other.gathered))
        return both

    def extend(self, table: Table | AnnData) -> Self:
        """Add batches that were not fitted; the fitted ones stay as they are.

        Level, slopes and standard deviation are those of the fit. Linear removal gives a new batch
        what its mean lies above the level at which the fitted batches meet; ComBat gives it shift
        and scale, shrunken towards what its own features have in common.

        Raises
        ------
        DataError
            There is no new batch, one has a single specimen although scales are adjusted, or a
            feature or a level of what is kept was not fitted.
        """
        self._refuse_several("extended by new batches")
        levels, statistics = new_batches(as_table(table), self.gathered, self.batch_levels)
        return replace(
            self,
            batch_levels=(*self.batch_levels, *levels),
            model=self._extended(statistics),
            notes=(*self.notes, extended_note(levels, self.batch_labels)),
        )

    def _refuse_several(self, done: str) -> None:
        if self.beside is not None:
            raise DataError(
                f"a correction for several batch columns ({self.beside.name}) cannot be {done}; "
                "fit again with all specimens"
            )

    @abstractmethod
    def _extended(self, statistics: BatchStatistics) -> ValuesT:
        """What was learned, with new batches after the old ones."""
