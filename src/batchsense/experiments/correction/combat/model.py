"""ComBat from sufficient statistics: shift and scale of every batch and feature, shrunken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Flags, Floats, Integers
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.correction.combat.priors import (
    FEWEST_FEATURES,
    ROUNDING,
    Shrinking,
    Stopping,
    estimates_of,
    posterior_of,
)
from batchsense.experiments.correction.from_sums import LearnedFromSums
from batchsense.experiments.correction.full_fit import FullFit, full_fit, remove_slopes
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics

#: Why a feature is left as it is; 0 where it is corrected.
CORRECTED, CONSTANT, ENTANGLED, NO_RESIDUAL, NO_REFERENCE = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class CombatModel(LearnedFromSums):
    """Everything that correction of one specimen needs, as arrays.

    A value x of batch b with kept terms z becomes
    ``scales[b]·x + offsets[b] + (1 - scales[b])·zᵀslopes``.
    """

    not_by_feature: ClassVar[tuple[str, ...]] = ("steps", "mean_only")

    scales: Floats  #: (batches, features): 1/√δ*; 1 where nothing is scaled
    shifts: Floats  #: (batches, features): γ* in units of sd; 0 where nothing is shifted
    slopes: Floats  #: (covariates, features): β, in units of the observations per unit of the term
    #: (features,): level and residual standard deviation to which all batches are brought.
    grand: Floats
    sd: Floats
    #: (features,): 0 where the feature is corrected, else why not: 1 constant inside a batch, 2
    #: batches and kept terms cannot be told apart, 3 no residual variation, 4 not observed often
    #: enough in the reference batch.
    status: npt.NDArray[np.int8]
    #: (batches, features): where a batch has no observation of a corrected feature: nothing is
    #: known there.
    unseen: Flags
    #: (batches, features): where it has one only, or without a prior does not vary beyond the
    #: model: its scale is not adjusted.
    alone: Flags
    steps: Integers  #: (batches,): iterations; 0 where there were none
    mean_only: bool  #: Whether scales were left alone

    @property
    def offsets(self) -> Floats:
        """(1 - 1/√δ*)·grand - sd·γ*/√δ*, shape (batches, features), in units of the observations.

        Made anew at each use: tables of this size are most of what a fit holds.
        """
        found = np.empty(self.scales.shape)
        for b, (scale, shift) in enumerate(zip(self.scales, self.shifts, strict=True)):
            found[b] = (1.0 - scale) * self.grand - scale * self.sd * shift
            # Adding minus zero leaves every number as it is, zeros with their sign.
            found[b, (scale == 1.0) & (shift == 0.0)] = -0.0
        return found

    @property
    def left_alone(self) -> Flags:
        """Features that were left as they are, for whatever reason."""
        return np.asarray(self.status != CORRECTED)

    def affine(self) -> Affine:
        """Scale and shift; where only means are adjusted the kept terms cancel."""
        slopes = self.slopes[:0] if self.mean_only else self.slopes
        return Affine(self.scales, self.offsets, slopes)


def fit_combat(
    statistics: BatchStatistics,
    *,
    parametric: bool | None = True,
    mean_only: bool = False,
    reference: int | None = None,
    stopping: Stopping = "sva",
    forced: bool = False,
    threads: int | None = None,
    batch_levels: Sequence[str] = (),
) -> CombatModel:
    r"""Fit ComBat without looking at the data again.

    The full model (batches and kept terms) gives levels B and residual sums of squares RSS of each
    batch. With n specimens in all,

    .. math:: grand = \tfrac1n\sum_b n_b B_b, \quad sd^2 = \tfrac1n\sum_b RSS_b, \quad
              \hat\gamma_b = \frac{B_b - grand}{sd}, \quad
              \hat\delta_b = \frac{RSS_b}{(N_b - 1)\,sd^2}

    which are shrunken towards what all features of the batch have in common. Equal to R's sva in
    its peculiarities: the variance divides by n, but by observed - 1 for *all* features as soon as
    one value is missing anywhere; a batch of a single specimen makes all batches mean-only.
    Beyond sva: features are left alone, and reported, where sva fails or returns nonsense.
    ``batch_levels`` names the batches in errors. With ``parametric=None`` nothing is shrunken, and
    one feature will do.

    Source: Johnson, Li and Rabinovic (2007); Leek et al. (2012).
    """
    _check(statistics, reference)
    fit = full_fit(statistics)
    specimens = statistics.specimens.astype(np.float64)
    how = Shrinking(parametric, mean_only or specimens.min() == 1, stopping, threads)
    variance, status = _variance(statistics, fit, reference, forced)
    usable = status == CORRECTED
    if parametric is not None and usable.sum() < FEWEST_FEATURES:
        raise DataError(
            f"{int(usable.sum())} features can be corrected, and ComBat learns from at least "
            f"{FEWEST_FEATURES} what they have in common; shrink nothing (--no-shrinkage), or use "
            "the linear method"
        )
    if reference is None:
        seen = fit.counts > 0
        total = np.einsum("bf,b->f", seen, specimens)
        grand = np.einsum("bf,bf,b->f", fit.levels, seen, specimens) / np.maximum(total, 1.0)
    else:
        grand = fit.levels[reference]
    grand, sd = np.where(usable, grand, 0.0), np.sqrt(np.where(usable, variance, 1.0))
    return _shrunken(fit, (grand, sd), status, reference, how, batch_levels)


def extend_combat(
    model: CombatModel,
    statistics: BatchStatistics,
    *,
    parametric: bool | None = True,
    stopping: Stopping = "sva",
) -> CombatModel:
    """Fit further batches against a model that stays as it is.

    Level, standard deviation and slopes are those of the model; each new batch gets shift and
    scale, shrunken towards what its own features have in common.
    """
    if not model.mean_only and statistics.specimens.min() < 2:
        raise DataError(
            "a new batch of a single specimen has no scale that could be adjusted; fit again with "
            "all specimens, or fit with means only"
        )
    levels, squares = remove_slopes(statistics, model.slopes)
    fit = FullFit(model.slopes, levels, squares, statistics.counts, model.status == CORRECTED)
    how = Shrinking(parametric, model.mean_only, stopping)
    added = _shrunken(fit, (model.grand, model.sd), model.status, None, how, ())
    shared = ("slopes", "grand", "sd", "status", "mean_only")
    joined: dict[str, Any] = {
        field.name: getattr(model, field.name)
        if field.name in shared
        else np.concatenate([getattr(model, field.name), getattr(added, field.name)])
        for field in fields(model)
    }
    return CombatModel(**joined)


def _check(statistics: BatchStatistics, reference: int | None) -> None:
    if (statistics.specimens > 0).sum() < 2:
        raise DataError("one batch only; there is nothing to compare or correct")
    if statistics.specimens.min() == 0:
        raise DataError("a batch has no specimen; leave it out")
    if reference is not None and statistics.specimens[reference] < 2:
        raise DataError(
            "the reference batch has a single specimen, whose variation is not known; choose "
            "another reference, or none"
        )
    left = int(statistics.specimens.sum()) - len(statistics.specimens)
    if left < 1:
        raise UnresolvedError(
            "every batch has a single specimen, which leaves no residual variation",
            needed="two specimens in some batch",
        )


def _variance(
    statistics: BatchStatistics, fit: FullFit, reference: int | None, forced: bool
) -> tuple[Floats, npt.NDArray[np.int8]]:
    whole, part = (fit.counts, slice(None)) if reference is None else (fit.counts, [reference])
    observed = whole[part].sum(axis=0)
    # As in sva: one missing value anywhere changes the divisor of all features.
    divisor = observed - 1.0 if len(statistics.incomplete) else observed
    variation = statistics.squares[part].sum(axis=0)
    residual = fit.residual_squares[part].sum(axis=0)
    status = np.zeros(len(observed), dtype=np.int8)
    status[residual <= ROUNDING * variation] = NO_RESIDUAL
    # As many terms as observations: whatever is left is rounding, however large it looks.
    room = fit.counts.sum(axis=0) - (fit.counts > 0).sum(axis=0) - len(fit.slopes)
    status[fit.estimable & (room < 1)] = NO_RESIDUAL
    if reference is not None:
        status[observed < 2] = NO_REFERENCE
    entangled = (fit.counts > 0).sum(axis=0) < 2 if forced else ~fit.estimable
    status[entangled] = ENTANGLED
    status[((fit.counts > 1) & (statistics.squares == 0)).any(axis=0)] = CONSTANT
    return residual / np.maximum(divisor, 1.0), status


def _shrunken(
    fit: FullFit,
    common: tuple[Floats, Floats],
    status: npt.NDArray[np.int8],
    reference: int | None,
    how: Shrinking,
    batch_levels: Sequence[str],
) -> CombatModel:
    """Shrink batch by batch, and keep what one multiplication and one addition per value need."""
    grand, sd = common
    usable = status == CORRECTED
    scales, shifts = np.ones(fit.levels.shape), np.zeros(fit.levels.shape)
    steps = np.zeros(len(shifts), dtype=np.int64)
    alone = usable & (fit.counts == 1) & (not how.mean_only)
    for b in range(len(shifts)):
        if b == reference:
            continue
        of_batch = (fit.levels[b], fit.residual_squares[b], fit.counts[b])
        found = estimates_of(*of_batch, grand, sd, how.mean_only)
        try:
            shifts[b], shrunken, steps[b] = posterior_of(found, usable, how)
        except DataError as error:
            where = f"batch {batch_levels[b]!r}" if batch_levels else "a batch"
            raise DataError(str(error), where=where) from None
        scales[b] = 1.0 / np.sqrt(shrunken)
        if how.parametric is None and not how.mean_only:
            alone[b] |= usable & (fit.counts[b] > 1) & ~(found.scales > ROUNDING)
    return CombatModel(
        scales=scales,
        shifts=shifts,
        slopes=np.where(usable, fit.slopes, 0.0),
        grand=grand,
        sd=sd,
        status=status,
        unseen=usable & (fit.counts == 0),
        alone=alone,
        steps=steps,
        mean_only=how.mean_only,
    )
