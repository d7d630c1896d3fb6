"""One line: the method, and what it removes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.experiments.correction.interface import Corrected, matched_batches
from batchsense.experiments.design import read_design
from batchsense.experiments.entanglement import Entanglement, entanglements, refuse_confounded
from batchsense.experiments.tables import Table, batch_factor


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianCorrection:
    """Subtract each batch's median (formula, what is kept, source, an example that runs)."""

    keep: tuple[str, ...] = ()

    def fit(self, table: Table, batch_labels: str) -> FittedMedian:
        """Refuse what is confounded first; then learn one effect per batch and feature."""
        design = read_design(table, batch_labels, self.keep)
        found = entanglements(design)
        refuse_confounded(design, found)
        levels = design.batches.levels
        codes = design.batches.codes
        medians = [np.median(table.values[codes == k], axis=0) for k in range(len(levels))]
        effects = np.array(medians) - np.median(medians, axis=0)
        return FittedMedian(batch_labels, levels, effects, found)


@dataclass(frozen=True, slots=True, eq=False)
class FittedMedian:
    """What was learned, each attribute with its shape and unit."""

    batch_labels: str
    batch_levels: tuple[str, ...]
    effects: npt.NDArray[np.float64]
    kept: tuple[Entanglement, ...]

    def transform(self, table: Table) -> Corrected:
        """Subtract; carry the removed terms, so that later tests can stay valid."""
        codes = matched_batches(table, batch_factor(table, self.batch_labels), self.batch_levels)
        indicators = np.eye(len(self.batch_levels))[codes]
        return Corrected(
            values=table.values - self.effects[codes],
            table=table,
            batch_labels=self.batch_labels,
            batch_levels=self.batch_levels,
            batch_terms=indicators[:, :-1] - indicators[:, -1:],
            rank_lost=len(self.batch_levels) - 1,
            method="median",
            kept=self.kept,
            unchanged=(),
            notes=(),
        )
