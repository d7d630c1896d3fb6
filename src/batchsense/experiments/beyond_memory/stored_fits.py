"""The tests of a matrix on disk: one pass over it, and further ones for what sums tell badly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.beyond_memory.fits_from_sums import (
    SummedFeatures,
    SummedModel,
    fit_from_sums,
    strata_basis,
)
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design
from batchsense.experiments.testing.comparisons import Model
from batchsense.experiments.testing.fitting import ContrastFits, fit_contrasts
from batchsense.experiments.testing.remarks import LOOKED_AT, Trace, trace_columns, trace_in
from batchsense.experiments.value_kinds import tallies
from batchsense.progress import Progress


@dataclass(slots=True, eq=False)
class StoredFits:
    """Fits of a table on disk; the sums are kept for what is asked of them afterwards."""

    table: StoredTable
    model: SummedModel | None = None
    sums: BatchStatistics | None = None
    squares: Floats | None = None

    def fit(
        self,
        model: Model,
        contrasts: Floats,
        groups: tuple[tuple[int, ...], ...],
        progress: Progress,
    ) -> tuple[ContrastFits, tuple[Floats, Flags]]:
        """Fit every feature; give also the means, and which features vary."""
        self.model = summed = SummedModel.of(model)
        self.sums = sums = self.table.sums(summed.codes, summed.directions)
        seen = SummedFeatures.of(sums)
        weights = summed.weights(model, contrasts)
        fits, doubtful = fit_from_sums(sums, seen, weights, groups)
        self.squares = fits.residual_squares
        for places, values in self.table.picked(doubtful):
            own = fit_contrasts(values, model.full, model.columns, contrasts, groups, progress)
            for name in ("estimates", "unscaled", "joint", "df", "residual_squares"):
                getattr(fits, name)[..., places] = getattr(own, name)
        left_out = tallies(self.table.features)
        for array in (fits.estimates, fits.unscaled, fits.joint):
            array[:, left_out] = np.nan
        mean = np.where(left_out, np.nan, seen.mean)
        return fits, (mean, np.asarray(seen.varies & ~left_out))

    def trace(self, design: Design, model: Model) -> Trace:
        """What is left of the batches in the first features that are complete and vary.

        Rows are turned onto the directions of the model, and one more that holds the length of what
        it leaves: sums of squares of models inside it stay what they are.
        """
        assert self.model is not None
        assert self.sums is not None
        assert self.squares is not None
        seen = SummedFeatures.of(self.sums)
        good = seen.varies & (seen.observed == design.specimens)
        places = np.flatnonzero(good)[:LOOKED_AT]
        basis = np.hstack([strata_basis(self.model.codes), self.model.directions])
        length = np.sqrt(np.maximum(self.squares[places], 0.0))
        turned = np.vstack([self.model.along(self.sums, basis)[:, places], length])

        columns = trace_columns(design, model)
        height = len(turned) + columns[1].shape[1]  # no fewer rows than columns

        def taller(rows: Floats) -> Floats:
            return np.vstack([rows, np.zeros((height - len(rows), rows.shape[1]))])

        wanted, full, batches = (taller(basis.T @ each) for each in columns)
        return trace_in(taller(turned), (wanted, full, batches))
