"""Linear removal from sufficient statistics: what each batch adds, by the full model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.correction.from_sums import LearnedFromSums
from batchsense.experiments.correction.full_fit import full_fit, remove_slopes
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel(LearnedFromSums):
    """Batch effects of every feature.

    Attributes
    ----------
    effects : array of shape (batches, features)
        What each batch adds, in units of the observations; they sum to zero over the batches in
        which the feature was observed, and are zero where the feature is left as it is.
    slopes : array of shape (covariates, features)
        β of the kept terms.
    grand : array of shape (features,)
        The level at which all batches meet.
    unchanged : array of bool, shape (features,)
        Features whose observed specimens do not tell batches and kept terms apart.
    """

    effects: Floats
    slopes: Floats
    grand: Floats
    unchanged: Flags

    @property
    def left_alone(self) -> Flags:
        """As ``unchanged``."""
        return self.unchanged

    def affine(self) -> Affine:
        """Subtract the effects; kept terms are not needed for it."""
        return Affine.removing(self.effects)


def fit_linear(statistics: BatchStatistics, *, forced: bool = False) -> LinearModel:
    r"""Fit batch effects without looking at the data again.

    With the levels B of the full model and every batch counting the same,
    :math:`effect_b = B_b - \mathrm{mean}_b B_b`: the coefficients of batches coded to sum to zero.

    Parameters
    ----------
    statistics : BatchStatistics
        Of all specimens.
    forced : bool
        Also correct features whose kept terms cannot be told from the batches: the difference then
        counts as one between batches, and is lost.

    Returns
    -------
    LinearModel
        The effects.

    Examples
    --------
    >>> seen = BatchStatistics.empty(2, 1).add([[0.0], [2.0], [11.0], [13.0]], [0, 0, 1, 1])
    >>> fit_linear(seen).effects.ravel().tolist()
    [-5.5, 5.5]
    """
    fit = full_fit(statistics)
    seen = fit.counts > 0
    batches = seen.sum(axis=0)
    unchanged = batches < 2 if forced else ~fit.estimable
    grand = (fit.levels * seen).sum(axis=0) / np.maximum(batches, 1)
    effects = np.where(seen & ~unchanged, fit.levels - grand, 0.0)
    return LinearModel(effects, fit.slopes, grand, unchanged)


def extend_linear(model: LinearModel, statistics: BatchStatistics) -> LinearModel:
    """Fit further batches against a model that stays as it is.

    Parameters
    ----------
    model : LinearModel
        The model.
    statistics : BatchStatistics
        Of the new batches alone, same covariates and features.

    Returns
    -------
    LinearModel
        With the effects of the new batches after the old ones, all relative to the level at which
        the old ones meet.
    """
    levels, _ = remove_slopes(statistics, model.slopes)
    known = (statistics.counts > 0) & ~model.unchanged
    effects = np.where(known, levels - model.grand, 0.0)
    joined = np.concatenate([model.effects, effects])
    return LinearModel(joined, model.slopes, model.grand, model.unchanged)
