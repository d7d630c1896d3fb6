"""What both passes need to know: the correction, the matrix and its design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers, Matrix
from batchsense.experiments.correction.combat.correction import CombatCorrection, FittedCombat
from batchsense.experiments.correction.gathered import of_factors
from batchsense.experiments.correction.linear import FittedLinear, LinearCorrection
from batchsense.experiments.correction.terms import columns_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design
from batchsense.experiments.out_of_core.budget import Blocks, ModelSize, blocks_for
from batchsense.experiments.out_of_core.pass_protocol import BySpecimen
from batchsense.experiments.out_of_core.runs import SpecimenRun
from batchsense.experiments.tables.table import Table
from batchsense.storage.matrices.location import MatrixLocation

#: The corrections that learn from sums and change values one by one.
Streamed: TypeAlias = LinearCorrection | CombatCorrection


@dataclass(frozen=True, slots=True, eq=False)
class StreamedFit:
    """A correction of one experiment, before any observation was read."""

    correction: Streamed  #: what was asked for
    table: Table  #: ids and sheet, without values
    design: Design  #: batches and kept factors

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
        columns = columns_of(self.design.kept, self.design.specimens)
        return PassInputs.of(location, self.design.batches.codes, columns)

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
class PassInputs(BySpecimen):
    """A matrix and its design, or those of a piece of it."""

    codes: Integers  #: (specimens,): the batch of each specimen
    covariates: Floats  #: (specimens, terms): the kept terms
    size: ModelSize  #: of the model
    first: int = 0  #: the specimen to which the first of ``codes`` belongs

    def design(self, run: SpecimenRun) -> tuple[Integers, Floats]:
        """Batches and kept terms of some specimens."""
        own = slice(run[0] - self.first, run[1] - self.first)
        return self.codes[own], self.covariates[own]

    def piece(self, run: SpecimenRun) -> PassInputs:
        """Keep only some specimens, so that little travels to another process."""
        codes, covariates = self.design(run)
        return replace(self, codes=codes, covariates=covariates, first=run[0])

    @classmethod
    def of(cls, location: MatrixLocation, codes: Integers, columns: Floats) -> PassInputs:
        """Put a matrix and its design together."""
        groups = len(np.unique(np.column_stack([codes, columns]), axis=0))
        size = ModelSize(int(codes.max()) + 1, columns.shape[1], groups)
        return cls(location, codes, np.ascontiguousarray(columns), size)

    def blocks(self, memory: int, occupied: int) -> Blocks:
        """How many specimens to take at a time."""
        folded = self.compiled is not None
        return blocks_for(self.location, memory, self.size, self.aligned, occupied, folded)

    def room(self, length: int) -> Any:
        """Room for specimens; those of a large sparse matrix stay folded."""
        return self.folded_room(length)

    def empty(self) -> BatchStatistics:
        """The sums before any specimen was read."""
        features = self.location.shape[1]
        return BatchStatistics.empty(self.size.batches, features, self.size.terms)

    def restored(self, arrays: Mapping[str, npt.NDArray[Any]]) -> BatchStatistics:
        """Sums that were stored."""
        return BatchStatistics.from_arrays(arrays)

    def add(
        self, into: BatchStatistics, block: Matrix, run: SpecimenRun, threads: int | None
    ) -> None:
        """Add specimens to the sums, which are changed."""
        into.add(block, *self.design(run), threads=threads)
