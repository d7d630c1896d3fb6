"""ComBat: shift and scale of every batch and feature, shrunken towards what the features share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from batchsense.arrays import Flags
from batchsense.errors import DataError, listed
from batchsense.experiments.correction.combat.model import (
    CONSTANT,
    CORRECTED,
    ENTANGLED,
    NO_REFERENCE,
    NO_RESIDUAL,
    CombatModel,
    extend_combat,
    fit_combat,
)
from batchsense.experiments.correction.combat.priors import Stopping
from batchsense.experiments.correction.fit_design import FitDesign, lost_notes
from batchsense.experiments.correction.from_sums import CorrectionFromSums, FittedFromSums
from batchsense.experiments.correction.gathered import Gathered
from batchsense.experiments.correction.interface import LearnedBatch
from batchsense.experiments.correction.remarks import (
    chosen_features,
    entangled_features,
    features_note,
    gap_notes,
    remarks,
    unseen_notes,
)
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.notes import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class CombatCorrection(CorrectionFromSums["FittedCombat"]):
    r"""ComBat, as R's sva computes it, from one pass over the data.

    A value of batch b is brought to the common level and scale of its feature,

    .. math:: y = \frac{x - st}{\sqrt{\delta^*_b}} + st - \frac{sd\,\gamma^*_b}{\sqrt{\delta^*_b}},
              \qquad st = grand + z^T\beta

    with kept terms z. Shift γ* and scale δ* of each feature are shrunken towards those of the other
    features of the batch, so that small batches are not over-corrected. Equal to ``sva::ComBat`` to
    1e-8 in every option. Where sva fails or returns nonsense this does not: features that do not
    vary inside a batch are left alone, features missing from a whole batch are corrected in the
    others, and both are named.

    Attributes
    ----------
    keep, categorical, numeric : tuple of str
        Columns of the sheet that are kept, and those of them whose kind is declared.
    parametric : bool
        Normal and inverse gamma priors; else the features themselves are the prior.
    shrink : bool
        Draw the features of a batch together. Else each keeps its own shift and scale, as does a
        single feature, which has nothing to be drawn to.
    mean_only : bool
        Adjust means, not scales. A batch of a single specimen has this effect on all batches.
    reference_batch : str, optional
        The batch to which the others are brought; it stays as it is.
    stopping : {"sva", "converged"}
        Where the iteration ends: as in sva (relative change 1e-4), or where nothing changes.
    combine : bool
        Of several batch columns of categories take every combination as a batch. Otherwise the
        first is shifted and scaled, and means and slopes of the others are removed in its model.
    despite_confounding : bool
        Go on where what is kept cannot be told from the batches, and lose it, with a note.

    References
    ----------
    Johnson, Li and Rabinovic (2007), "Adjusting batch effects in microarray expression data using
    empirical Bayes methods"; Leek et al. (2012), "The sva package".

    Examples
    --------
    A July that adds 3 and doubles what varies, in 100 features:

    >>> import numpy as np
    >>> from batchsense.experiments import Table
    >>> values = np.random.default_rng(0).normal(size=(40, 100))
    >>> values[20:] = 2.0 * values[20:] + 3.0
    >>> table = Table.from_arrays(values, {"month": ["May"] * 20 + ["July"] * 20})
    >>> corrected = CombatCorrection().fit(table, "month").transform(table).values
    >>> corrected[:20].mean().round(1) == corrected[20:].mean().round(1)
    np.True_
    >>> round(float(corrected[20:].std() / corrected[:20].std()), 1)
    1.0
    """

    parametric: bool = True
    shrink: bool = True
    mean_only: bool = False
    reference_batch: str | None = None
    stopping: Stopping = "sva"
    combine: bool = False

    @property
    def prior(self) -> bool | None:
        """Whether the prior is parametric; None where nothing is shrunken."""
        return self.parametric if self.shrink else None

    def _learn(self, fit: FitDesign) -> FittedCombat:
        gathered = fit.gathered
        levels = gathered.batch_levels
        if self.reference_batch is not None and self.reference_batch not in levels:
            raise DataError(
                f"no batch {self.reference_batch!r} in column {gathered.batch_labels!r}; there are "
                f"{listed(levels)}",
                where=gathered.sheet.source.sheet,
            )
        if not self.shrink and not self.parametric:
            raise DataError("parametric=False is a way to shrink, and shrink=False shrinks nothing")
        model = fit_combat(
            gathered.statistics,
            parametric=self.prior,
            mean_only=self.mean_only,
            reference=None if self.reference_batch is None else levels.index(self.reference_batch),
            stopping=self.stopping,
            forced=self.despite_confounding,
            batch_levels=levels,
        )
        notes = combat_notes(fit, model, self.mean_only, self.shrink)
        return FittedCombat(self, gathered, levels, model, fit.found, notes)


@dataclass(frozen=True, slots=True, eq=False)
class FittedCombat(FittedFromSums[CombatCorrection, CombatModel]):
    """Shift and scale of every batch and feature, ready to be applied."""

    method: ClassVar[str] = "combat"
    options_type: ClassVar[type[CombatCorrection]] = CombatCorrection
    learned_type: ClassVar[type[CombatModel]] = CombatModel

    @property
    def unseen(self) -> Flags:
        """Where a batch has no observation of a corrected feature."""
        return self.model.unseen

    def learned(self) -> tuple[LearnedBatch, ...]:
        """Shift and scale of each batch, over its corrected features."""
        return learned_batches(self.model, self.batch_levels, self.gathered)

    def _extended(self, statistics: BatchStatistics) -> CombatModel:
        options = self.correction
        return extend_combat(
            self.model, statistics, parametric=options.prior, stopping=options.stopping
        )


_UNCHANGED = {
    CONSTANT: (
        "zero_variance",
        "do not vary inside some batch, and were left unchanged: a constant has no scale",
    ),
    NO_RESIDUAL: (
        "no_residual_variation",
        "follow batches and kept factors exactly, and were left unchanged: nothing is left to "
        "scale by",
    ),
    NO_REFERENCE: (
        "not_in_reference",
        "were observed less than twice in the reference batch, and were left unchanged",
    ),
}


def combat_notes(
    fit: FitDesign, model: CombatModel, mean_only: bool, shrink: bool = True
) -> tuple[Note, ...]:
    """Gather the notes of a fit.

    Those of the design, what is lost, and every automatic decision.
    """
    design, gathered = fit.design, fit.gathered
    of_design = [note for note in design.notes if note.code != "single_specimen_batches"]
    unchanged = chosen_features(gathered.features, model.status == ENTANGLED)
    return (
        *of_design,
        *_single(fit, mean_only),
        *_own_estimates(model, shrink),
        *lost_notes(fit),
        *remarks(gathered.sheet, design, fit.found, scales=not model.mean_only),
        *_left_alone(model, gathered),
        *entangled_features(unchanged),
        *unseen_notes(model.unseen, gathered.features, gathered.batch_levels),
        *gap_notes(
            model.alone,
            gathered.features,
            gathered.batch_levels,
            "observed_once",
            "were observed once only in some batch"
            f"{'' if shrink else ', or follow the model there exactly'}; there they were shifted, "
            "not rescaled",
        ),
    )


def learned_batches(
    model: CombatModel, batch_levels: Sequence[str], gathered: Gathered
) -> tuple[LearnedBatch, ...]:
    """Summarise shift and scale of each batch over its corrected features.

    Specimens of batches that came later are not counted.
    """
    sizes = dict(zip(gathered.batch_levels, gathered.statistics.specimens.tolist(), strict=True))
    found = []
    for b, level in enumerate(batch_levels):
        known = (model.status == CORRECTED) & ~model.unseen[b]
        shifts, scales = model.shifts[b, known], 1.0 / model.scales[b, known]
        found.append(
            LearnedBatch(
                level,
                int(sizes.get(level, 0)),
                *(
                    float(part)
                    for part in (shifts.mean(), shifts.std(), scales.mean(), scales.std())
                ),
            )
        )
    return tuple(found)


def _single(fit: FitDesign, mean_only: bool) -> list[Note]:
    batches = fit.design.batches
    single = [level for level, n in zip(batches.levels, batches.counts, strict=True) if n == 1]
    if not single:
        return []
    message = (
        f"Batches with a single specimen: {listed(single)}. Its scale cannot be told from its value"
        ", so only means were adjusted, in all batches alike, as R's sva does."
    )
    if mean_only:
        message = f"Batches with a single specimen: {listed(single)}."
    return [Note("single_specimen_batches", message, tuple(single))]


def _own_estimates(model: CombatModel, shrink: bool) -> list[Note]:
    if shrink:
        return []
    how = "shifted" if model.mean_only else "shifted and rescaled"
    message = (
        f"Nothing was shrunken: every feature was {how} by its own estimates, which in small "
        "batches are mostly chance."
    )
    return [Note("not_shrunken", message)]


def _left_alone(model: CombatModel, gathered: Gathered) -> list[Note]:
    return [
        note
        for status, (code, reason) in _UNCHANGED.items()
        for note in features_note(
            code, chosen_features(gathered.features, model.status == status), reason
        )
    ]
