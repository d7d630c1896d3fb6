"""What every correction from sums comes to: a scale and a shift for each batch and feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Matrix
from batchsense.experiments.correction.full_fit import remove_slopes
from batchsense.experiments.correction.two_passes.adjusting import adjust
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A correction of single values.

    x of batch b with kept terms z becomes ``scales[b]·x + offsets[b] + (1 - scales[b])·zᵀslopes``.
    """

    #: (batches, features): without unit, and in units of the observations.
    scales: Floats
    offsets: Floats
    #: (covariates, features): in units of the observations per unit of the term; no rows where
    #: scales are all 1.
    slopes: Floats

    @classmethod
    def removing(cls, effects: Floats) -> Affine:
        """Subtract what each batch adds."""
        nothing = np.zeros((0, effects.shape[1]))
        # Adding minus zero leaves every number as it is, zeros with their sign.
        return cls(np.ones(effects.shape), np.where(effects == 0, -0.0, -effects), nothing)

    def apply(
        self,
        values: npt.ArrayLike,
        codes: npt.ArrayLike,
        covariates: npt.ArrayLike | None = None,
        out: Matrix | None = None,
        threads: int | None = None,
    ) -> Matrix:
        """Correct specimens; arguments, result and errors as for `adjust` in two_passes.

        Without slopes covariates are not needed, and not looked at.
        """
        kept = covariates if len(self.slopes) else None
        return adjust(self.scales, self.offsets, self.slopes, values, codes, kept, out, threads)

    def removed_share(self, statistics: BatchStatistics) -> float:
        r"""The part of the total sum of squares that is removed, from the sums alone.

        The mean of a batch and its sum of squares become

        .. math:: r \bar x_b + o + (1 - r) \bar z_b^T\beta, \qquad
                  r^2 M_{2,b} + 2 r (1 - r) \beta^T C_b + (1 - r)^2 \beta^T W_b \beta.

        At most 1; 0 where nothing varies.
        """
        lost = 1.0 - self.scales
        means = self.scales * statistics.means + self.offsets
        squares = self.scales**2 * statistics.squares
        if len(self.slopes):
            levels, residual = remove_slopes(statistics, self.slopes)
            seen = statistics.counts > 0
            means += lost * np.where(seen, statistics.means - levels, 0.0)
            products = (self.slopes * statistics.products).sum(axis=1)
            explained = residual - statistics.squares + 2.0 * products
            squares += 2.0 * self.scales * lost * products + lost**2 * explained
        before = _total(statistics.counts, statistics.means, statistics.squares)
        after = _total(statistics.counts, means, squares)
        return 1.0 - after / before if before else 0.0


def _total(counts: Floats, means: Floats, squares: Floats) -> float:
    grand = (counts * means).sum(axis=0) / np.maximum(counts.sum(axis=0), 1.0)
    return float((squares + counts * (means - grand) ** 2).sum())
