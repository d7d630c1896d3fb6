"""What must be said with a table that ComBat corrected: every decision it made by itself."""

from __future__ import annotations

from collections.abc import Sequence

from batchsense.errors import listed
from batchsense.experiments.correction.combat.model import (
    CONSTANT,
    CORRECTED,
    ENTANGLED,
    NO_REFERENCE,
    NO_RESIDUAL,
    CombatModel,
)
from batchsense.experiments.correction.fit_design import FitDesign, lost_notes
from batchsense.experiments.correction.gathered import Gathered
from batchsense.experiments.correction.interface import LearnedBatch
from batchsense.experiments.correction.remarks import (
    CARRIED,
    SHOWN,
    chosen_features,
    entangled_features,
    gap_notes,
    remarks,
    unseen_notes,
)
from batchsense.notes import Note

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


def combat_notes(fit: FitDesign, model: CombatModel, mean_only: bool) -> tuple[Note, ...]:
    """Gather the notes of a fit.

    Parameters
    ----------
    fit : FitDesign
        Design and statistics.
    model : CombatModel
        What was fitted.
    mean_only : bool
        Whether the user asked for means only.

    Returns
    -------
    tuple of Note
        Those of the design, what is lost, and every automatic decision.
    """
    design, gathered = fit.design, fit.gathered
    of_design = [note for note in design.notes if note.code != "single_specimen_batches"]
    unchanged = chosen_features(gathered.features, model.status == ENTANGLED)
    return (
        *of_design,
        *_single(fit, mean_only),
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
            "were observed once only in some batch; there they were shifted, not rescaled",
        ),
    )


def learned_batches(
    model: CombatModel, batch_levels: Sequence[str], gathered: Gathered
) -> tuple[LearnedBatch, ...]:
    """Summarise shift and scale of each batch over its corrected features.

    Parameters
    ----------
    model : CombatModel
        The model.
    batch_levels : sequence of str
        Its batches.
    gathered : Gathered
        The fitted specimens; batches that came later count none.

    Returns
    -------
    tuple of LearnedBatch
        One for each batch.
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
    """Say that a batch of one specimen decided for all."""
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


def _left_alone(model: CombatModel, gathered: Gathered) -> list[Note]:
    """Name the features that were left as they are, by reason."""
    notes = []
    for status, (code, reason) in _UNCHANGED.items():
        names = chosen_features(gathered.features, model.status == status)
        if names:
            message = f"{len(names)} features {reason}: {listed(names, SHOWN)}."
            notes.append(Note(code, message, names[:CARRIED]))
    return notes
