"""From a correction and a sheet to numbers: what the two passes need to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.experiments.correction.combat import CombatCorrection, FittedCombat
from batchsense.experiments.correction.gathered import Gathered
from batchsense.experiments.correction.linear import FittedLinear, LinearCorrection
from batchsense.experiments.correction.terms import Term, columns_of, terms_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design, read_design
from batchsense.experiments.entanglement import entanglements, refuse_confounded
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.out_of_core.affine import Affine
from batchsense.experiments.tables.table import Table

#: The corrections that learn from sums and change values one by one.
Streamed: TypeAlias = LinearCorrection | CombatCorrection
Fitted: TypeAlias = FittedLinear | FittedCombat


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """A correction of one experiment, before any observation was read.

    Attributes
    ----------
    correction : LinearCorrection or CombatCorrection
        What was asked for.
    table : Table
        Ids and sheet, without values.
    design : Design
        Batches and kept factors.
    terms : tuple of Term
        The kept terms.
    covariates : array of shape (specimens, terms)
        Their columns.
    """

    correction: Streamed
    table: Table
    design: Design
    terms: tuple[Term, ...]
    covariates: Floats

    @property
    def codes(self) -> Integers:
        """The batch of each specimen."""
        return self.design.batches.codes

    @property
    def batch_levels(self) -> tuple[str, ...]:
        """The batches."""
        return self.design.batches.levels

    def empty(self) -> BatchStatistics:
        """Give the sums before any specimen was read."""
        features = len(self.table.features)
        return BatchStatistics.empty(len(self.batch_levels), features, len(self.terms))

    def fit(self, statistics: BatchStatistics) -> Fitted:
        """Learn from the sums of all specimens.

        Raises
        ------
        DataError, UnresolvedError
            They do not suffice.
        """
        gathered = Gathered(
            batch_labels=self.design.batches.name,
            batch_levels=self.batch_levels,
            keep=self.correction.keep,
            terms=self.terms,
            features=self.table.features,
            statistics=statistics,
            sheet=self.table,
        )
        return self.correction.finish(gathered)


def recipe(correction: Streamed, table: Table, batch_labels: str) -> Recipe:
    """Read the sheet for a correction, and refuse what cannot be done before reading the matrix.

    Parameters
    ----------
    correction : LinearCorrection or CombatCorrection
        How to correct.
    table : Table
        Ids and sheet; the values are not looked at.
    batch_labels : str
        The column with the batch labels.

    Returns
    -------
    Recipe
        What the passes need.

    Raises
    ------
    DataError
        A column of the sheet cannot be used.
    ConfoundedError
        A kept factor cannot be told from the batches.
    """
    design = read_design(
        table,
        batch_labels,
        correction.keep,
        ColumnKinds(correction.categorical, correction.numeric),
    )
    if not correction.despite_confounding:
        refuse_confounded(design, entanglements(design))
    columns = columns_of(design.kept, design.specimens)
    return Recipe(correction, table, design, terms_of(design.kept), np.ascontiguousarray(columns))


def affine_of(fitted: Fitted) -> Affine:
    """Give the shift and scale of every batch and feature."""
    if isinstance(fitted, FittedLinear):
        return Affine.removing(fitted.model.effects)
    model = fitted.model
    slopes = model.slopes[:0] if model.mean_only else model.slopes
    return Affine(model.scales, model.offsets, slopes)
