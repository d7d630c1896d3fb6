"""One line: the method, and what it removes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from batchsense.arrays import Flags, Floats, Integers, Matrix
from batchsense.experiments.correction.fit_design import KeepingColumns
from batchsense.experiments.correction.fitted import Fitted, LearnedArrays
from batchsense.experiments.correction.gathered import of_factors
from batchsense.experiments.tables import Table
from batchsense.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class MedianModel(LearnedArrays):
    """What was learned, each attribute with its shape and unit."""

    effects: Floats

    @property
    def left_alone(self) -> Flags:
        """Features that cannot be corrected; here none."""
        return np.zeros(self.effects.shape[1], dtype=bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianCorrection(KeepingColumns):
    """Subtract each batch's median (formula, what is kept, source, an example that runs).

    Examples
    --------
    >>> table = Table.from_arrays(
    ...     [[1.0], [3.0], [11.0], [13.0]], {"month": ["May", "May", "July", "July"]}
    ... )
    >>> MedianCorrection().fit(table, "month").transform(table).values.ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    """

    def fit(self, table: Table, batch_labels: str) -> FittedMedian:
        """Refuse what is confounded first; then learn one effect per batch and feature."""
        design, found = self.design(table, batch_labels)
        batches = design.batches
        medians = np.array(
            [
                np.median(table.values[batches.codes == b], axis=0)
                for b in range(len(batches.levels))
            ]
        )
        model = MedianModel(medians - np.median(medians, axis=0))
        gathered = of_factors(table, batches, design.kept)
        return FittedMedian(self, gathered, batches.levels, model, found, design.notes)


@dataclass(frozen=True, slots=True, eq=False)
class FittedMedian(Fitted[MedianCorrection, MedianModel]):
    """The medians, ready to be subtracted; what rests on sums extends `FittedFromSums` instead."""

    method: ClassVar[str] = "median"
    options_type: ClassVar[type[MedianCorrection]] = MedianCorrection
    learned_type: ClassVar[type[MedianModel]] = MedianModel

    def _apply(
        self, table: Table, codes: Integers, features: Integers, out: Matrix | None, told: Progress
    ) -> Matrix:
        return np.subtract(table.values, self.model.effects[codes][:, features], out=out)
