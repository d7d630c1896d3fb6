"""Models and features as sums over specimens see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Flags, Floats, Integers
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.projections import basis_beside
from batchsense.variation.linear import factor

if TYPE_CHECKING:
    from batchsense.experiments.testing.comparisons import Model


@dataclass(frozen=True, slots=True, eq=False)
class SummedModel:
    r"""A model as sums see it: strata with levels of their own, and directions inside them.

    The strata are the batches, or all specimens together where numbers stand for the batches. With
    an orthonormal basis Z of what the model holds beside the strata, an estimable contrast is
    :math:`w^T\gamma` in :math:`y = \text{stratum} + Z\gamma + \varepsilon`, whatever specimens are
    observed.
    """

    codes: Integers  #: (specimens,): the stratum of each specimen
    directions: Floats  #: (specimens, directions): z

    @classmethod
    def of(cls, model: Model) -> SummedModel:
        """See a model as sums do: strata are specimens with equal batch terms."""
        terms = model.columns[:, len(model.plain.names) :]
        places = np.unique(terms, axis=0, return_inverse=True)[1]
        return cls.beside(np.asarray(places, dtype=np.int64).reshape(-1), model.columns)

    @classmethod
    def beside(cls, codes: Integers, columns: Floats) -> SummedModel:
        """Take strata where the columns span their levels, else all specimens as one."""
        basis = factor(columns).basis
        few = codes.max() < basis.shape[1]  # else numbers, or several columns of batches
        if not few or basis_beside(strata_basis(codes), basis).shape[1]:
            codes = np.zeros_like(codes)
        return cls(codes, basis_beside(columns, strata_basis(codes)))

    def weights(self, model: Model, contrasts: Floats) -> Floats:
        """Contrasts of shape (contrasts, terms) on the directions."""
        rows = (contrasts @ model.full.solution) @ model.full.basis.T
        return np.asarray(rows @ self.directions)

    def along(self, sums: BatchStatistics, columns: Floats) -> Floats:
        """Products of some columns, in the span of the model, with complete centred features."""
        sizes = sums.specimens.astype(np.float64)[:, None]
        centred = sums.means - (sizes * sums.means).sum(axis=0) / sizes.sum()
        totals = np.zeros((len(sizes), columns.shape[1]))
        np.add.at(totals, self.codes, columns)
        return np.asarray(
            totals.T @ centred + (columns.T @ self.directions) @ sums.products.sum(axis=0)
        )


def strata_basis(codes: Integers) -> Floats:
    """An orthonormal column for each stratum."""
    strata = np.eye(int(codes.max()) + 1)[codes]
    return np.asarray(strata / np.sqrt(strata.sum(axis=0)))


@dataclass(frozen=True, slots=True, eq=False)
class SummedFeatures:
    """What sums tell of every feature, each of shape (features,)."""

    observed: Floats  #: specimens with a value
    #: Mean of the observed values (NaN where there are none), and their squares around it.
    mean: Floats
    squares: Floats
    varies: Flags  #: whether two observed values differ

    @classmethod
    def of(cls, sums: BatchStatistics) -> SummedFeatures:
        """Put the strata together."""
        counts = sums.counts
        observed = counts.sum(axis=0)
        total = (counts * sums.means).sum(axis=0)
        mean = np.where(observed > 0, total / np.maximum(observed, 1.0), np.nan)
        above = np.where(counts > 0, sums.means - mean, 0.0)
        squares = sums.squares.sum(axis=0) + (counts * above**2).sum(axis=0)
        highest = np.where(counts > 0, sums.means, -np.inf).max(axis=0)
        lowest = np.where(counts > 0, sums.means, np.inf).min(axis=0)
        varies = (sums.squares > 0).any(axis=0) | (highest > lowest)
        return cls(observed, mean, squares, np.asarray(varies & (observed > 1)))
