"""What must be said with a table that ComBat corrected: every decision it made by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from batchsense.errors import listed
from batchsense.experiments.correction.combat_model import (
    CONSTANT,
    CORRECTED,
    ENTANGLED,
    NO_REFERENCE,
    NO_RESIDUAL,
    CombatModel,
)
from batchsense.experiments.correction.gathering import Gathered
from batchsense.experiments.correction.grounds import Grounds, lost_notes
from batchsense.experiments.correction.interface import LearnedBatch
from batchsense.experiments.correction.remarks import chosen_features, entangled_features, remarks
from batchsense.experiments.notes import Note
from batchsense.experiments.tables.table import Table

#: Features, or pairs of feature and batch, that a note carries for programs.
_CARRIED = 10
_SHOWN = 3

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


def combat_notes(grounds: Grounds, model: CombatModel, mean_only: bool) -> tuple[Note, ...]:
    """Gather the notes of a fit.

    Parameters
    ----------
    grounds : Grounds
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
    design, gathered = grounds.design, grounds.gathered
    of_design = [note for note in design.notes if note.code != "single_specimen_batches"]
    unchanged = chosen_features(gathered.features, model.status == ENTANGLED)
    return (
        *of_design,
        *_single(grounds, mean_only),
        *lost_notes(grounds),
        *remarks(gathered.sheet, design, grounds.found, scales=not model.mean_only),
        *_left_alone(model, gathered),
        *entangled_features(unchanged),
        *_gaps(model, gathered),
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
        shifts, scales = model.shifts[b, known], np.sqrt(model.shrunken_scales[b, known])
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


def touched(
    model: CombatModel, table: Table, codes: npt.NDArray[np.intp], batch_levels: Sequence[str]
) -> list[Note]:
    """Remark on observed values of a batch in which the feature was never seen in fitting."""
    where = []
    for b in np.flatnonzero(model.unseen.any(axis=1)).tolist():
        features = np.flatnonzero(model.unseen[b])
        observed = ~np.isnan(table.values[np.ix_(codes == b, features)])
        where += [
            f"{table.features[j]} / {batch_levels[b]}" for j in features[observed.any(axis=0)]
        ]
    if not where:
        return []
    message = (
        f"{len(where)} features were not observed in a batch when the correction was fitted; their "
        f"values in that batch were left unchanged (feature / batch): {listed(where, _SHOWN)}."
    )
    return [Note("left_unchanged", message, tuple(where[:_CARRIED]))]


def _single(grounds: Grounds, mean_only: bool) -> list[Note]:
    """Say that a batch of one specimen decided for all."""
    batches = grounds.design.batches
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
            message = f"{len(names)} features {reason}: {listed(names, _SHOWN)}."
            notes.append(Note(code, message, names[:_CARRIED]))
    return notes


def _gaps(model: CombatModel, gathered: Gathered) -> list[Note]:
    """Name features that a batch lacks, or has once only."""
    notes = []
    for flags, code, reason in (
        (
            model.unseen,
            "unseen_in_batch",
            "were not observed in some batch; they were corrected in the others, and nothing is "
            "known of them there",
        ),
        (
            model.alone,
            "observed_once",
            "were observed once only in some batch; there they were shifted, not rescaled",
        ),
    ):
        pairs = [
            f"{gathered.features[j]} / {gathered.batch_levels[b]}" for j, b in np.argwhere(flags.T)
        ]
        if pairs:
            count = int(flags.any(axis=0).sum())
            message = f"{count} features {reason} (feature / batch): {listed(pairs, _SHOWN)}."
            notes.append(Note(code, message, tuple(pairs[:_CARRIED])))
    return notes
