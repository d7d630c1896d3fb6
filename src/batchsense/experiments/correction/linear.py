"""Linear removal: subtract what the full model gives to the batches, keep what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.correction.fit_design import FitDesign, lost_notes
from batchsense.experiments.correction.from_sums import (
    CorrectionFromSums,
    FittedFromSums,
    LearnedFromSums,
)
from batchsense.experiments.correction.full_fit import full_fit, remove_slopes
from batchsense.experiments.correction.interface import Corrected
from batchsense.experiments.correction.remarks import entangled_features, remarks, unseen_notes
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.table import Table

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel(LearnedFromSums):
    """Batch effects of every feature."""

    #: (batches, features): what each batch adds, in units of the observations; they sum to zero
    #: over the batches in which the feature was observed, and are zero where the feature is left as
    #: it is.
    effects: Floats
    slopes: Floats  #: (covariates, features): β of the kept terms
    grand: Floats  #: (features,): the level at which all batches meet
    #: (features,): features whose observed specimens do not tell batches and kept terms apart.
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
    """
    fit = full_fit(statistics)
    seen = fit.counts > 0
    batches = seen.sum(axis=0)
    unchanged = batches < 2 if forced else ~fit.estimable
    grand = (fit.levels * seen).sum(axis=0) / np.maximum(batches, 1)
    effects = np.where(seen & ~unchanged, fit.levels - grand, 0.0)
    return LinearModel(effects, fit.slopes, grand, unchanged)


def extend_linear(model: LinearModel, statistics: BatchStatistics) -> LinearModel:
    """Fit further batches against a model that stays as it is."""
    levels, _ = remove_slopes(statistics, model.slopes)
    known = (statistics.counts > 0) & ~model.unchanged
    effects = np.where(known, levels - model.grand, 0.0)
    joined = np.concatenate([model.effects, effects])
    return LinearModel(joined, model.slopes, model.grand, model.unchanged)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCorrection(CorrectionFromSums["FittedLinear"]):
    r"""Linear removal of batch effects that keeps the wanted factors.

    With the wanted terms X (constant and kept factors) and the batches B coded to sum to zero,

    .. math:: y_c = y - B\hat\beta_B, \qquad (\hat\beta_X, \hat\beta_B)
              = \operatorname{argmin} |y - X\beta_X - B\beta_B|^2,

    feature by feature: the batch effects come from the *full* fit, so a wanted difference that
    happens to go with the batches is not taken for one of theirs. Each batch counts the same for
    the level that is left. Correcting twice equals correcting once. What a batch does differently
    to different levels of a kept factor is not removed.

    A feature with missing values is fitted on its observed specimens; if then a kept factor cannot
    be told from the batches, the feature is left unchanged and named in a note.

    Attributes
    ----------
    keep, categorical, numeric : tuple of str
        Columns of the sheet that are kept, and those of them whose kind is declared.
    despite_confounding : bool
        Go on where what is kept cannot be told from the batches, and lose it, with a note.

    References
    ----------
    Frisch and Waugh (1933); Ritchie et al. (2015), "limma powers differential expression analyses".

    Examples
    --------
    A drug that adds 1 and a July that adds 10, unevenly mixed:

    >>> sheet = {"month": ["May"] * 3 + ["July"] * 3, "drug": [*"nny", *"nyy"]}
    >>> table = Table.from_arrays([[0.0], [0.0], [1.0], [10.0], [11.0], [11.0]], sheet)
    >>> corrected = LinearCorrection(keep=("drug",)).fit(table, "month").transform(table)
    >>> corrected.values.ravel().round(9).tolist()
    [5.0, 5.0, 6.0, 5.0, 6.0, 6.0]
    """

    def _learn(self, fit: FitDesign) -> FittedLinear:
        gathered, design, found = fit.gathered, fit.design, fit.found
        model = fit_linear(gathered.statistics, forced=self.despite_confounding)
        fitted = FittedLinear(self, gathered, gathered.batch_levels, model, found, ())
        notes = (
            *design.notes,
            *lost_notes(fit),
            *remarks(gathered.sheet, design, found),
            *entangled_features(fitted.unchanged),
            *unseen_notes(fitted.unseen, gathered.features, gathered.batch_levels),
        )
        return replace(fitted, notes=notes)


@dataclass(frozen=True, slots=True, eq=False)
class FittedLinear(FittedFromSums[LinearCorrection, LinearModel]):
    """Batch effects, ready to be subtracted."""

    method: ClassVar[str] = "linear"
    options_type: ClassVar[type[LinearCorrection]] = LinearCorrection
    learned_type: ClassVar[type[LinearModel]] = LinearModel

    @property
    def effects(self) -> Floats:
        """What each batch adds, shape (batches, features), in units of the observations.

        Each feature's effects sum to zero over the batches in which it was observed.
        """
        return self.model.effects

    @property
    def unseen(self) -> Flags:
        """Where a batch of the fit has no observation of a corrected feature."""
        return np.asarray((self.gathered.statistics.counts == 0) & ~self.model.unchanged)

    def _extended(self, statistics: BatchStatistics) -> LinearModel:
        return extend_linear(self.model, statistics)


def correct(
    table: Table | AnnData, batch_labels: str | Sequence[str], keep: Sequence[str] = ()
) -> Corrected:
    """Correct a table by linear removal, in one call.

    Parameters
    ----------
    table : Table or AnnData
        The observations and their sheet.
    batch_labels : str or sequence of str
        The column of the sheet with the batch labels; of several (also numbers) all are removed
        in one model.
    keep : sequence of str
        The columns of what must be kept.

    Returns
    -------
    Corrected
        The corrected values with the terms that were removed.

    Raises
    ------
    DataError
        A column of the sheet cannot be used.
    ConfoundedError
        A kept factor cannot be told from the batches.

    Examples
    --------
    >>> sheet = {"month": ["May", "May", "July", "July"], "drug": ["no", "no", "yes", "yes"]}
    >>> correct(Table.from_arrays([[1.0], [2.0], [3.0], [5.0]], sheet), "month", ["drug"])
    Traceback (most recent call last):
    batchsense.errors.ConfoundedError: drug cannot be told from month: ...
    """
    table = as_table(table)
    return LinearCorrection(keep=tuple(keep)).fit(table, batch_labels).transform(table)
