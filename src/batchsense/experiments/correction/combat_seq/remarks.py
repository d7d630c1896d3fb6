"""What ComBat-seq cannot be given, and what must be said with its result."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.correction.combat_seq.model import CombatSeqModel
from batchsense.experiments.correction.fit_design import FitDesign, lost_notes
from batchsense.experiments.correction.remarks import chosen_features, remarks
from batchsense.experiments.design import Design
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note


def check_counts(table: Table) -> None:
    """Refuse a table that holds anything but counts.

    Parameters
    ----------
    table : Table
        The table.

    Raises
    ------
    DataError
        A value is missing, negative or not whole; names specimens and features.

    Examples
    --------
    >>> check_counts(Table.from_arrays([[1.0, 2.5], [3.0, 4.0]], {"month": ["May", "July"]}))
    Traceback (most recent call last):
    batchsense.errors.DataError: arrays: ComBat-seq needs counts, whole numbers from 0 on, and 1 ...
    """
    values = table.values
    wrong = np.argwhere(~((values >= 0) & (values == np.rint(values))))
    if not len(wrong):
        return
    cells = (
        f"{table.specimens[i]} / {table.features[j]} is "
        f"{'missing' if np.isnan(values[i, j]) else f'{values[i, j]:g}'}"
        for i, j in wrong[:3]
    )
    raise DataError(
        f"ComBat-seq needs counts, whole numbers from 0 on, and {len(wrong)} values are none, for "
        f"example (specimen / feature): {listed(cells)}; give it the counts themselves, or correct "
        "values on a log scale with another method",
        where=table.source.matrix,
    )


def refuse_single(design: Design, table: Table) -> None:
    """Refuse batches that tell nothing about their dispersion.

    Raises
    ------
    DataError
        Naming the batches of a single specimen.
    """
    batches = design.batches
    single = [level for level, n in zip(batches.levels, batches.counts, strict=True) if n == 1]
    if single:
        raise DataError(
            f"ComBat-seq needs two specimens or more in every batch, and {listed(single)} of "
            f"{batches.name!r} has one: nothing tells how counts scatter there. Take it out, or "
            "correct log counts with another method",
            where=table.source.sheet,
        )


def refuse_empty(design: Design, table: Table) -> None:
    """Refuse specimens or batches without counts in the features that can be used.

    Raises
    ------
    DataError
        Naming the specimens.
    """
    codes = design.batches.codes
    totals = [table.values[codes == b].sum(axis=0) for b in range(len(design.batches.levels))]
    used = np.all(np.array(totals) > 0, axis=0)
    if not used.any():
        raise DataError(
            "no feature has counts in every batch, so batches cannot be compared",
            where=table.source.matrix,
        )
    refuse_no_counts(table.values[:, used].sum(axis=1), table)


def refuse_no_counts(library: Floats, table: Table) -> None:
    """Refuse specimens without a library.

    Raises
    ------
    DataError
        Naming the specimens.
    """
    if (library == 0).any():
        empty = [table.specimens[i] for i in np.flatnonzero(library == 0)]
        raise DataError(
            f"specimens without counts in the features that all batches have: {listed(empty)}; "
            "take them out",
            where=table.source.matrix,
        )


def notes_on(table: Table, fit: FitDesign, model: CombatSeqModel) -> tuple[Note, ...]:
    """Gather what must be said with the result.

    Returns
    -------
    tuple of Note
        Notes on the sheet; ``confounded_removed``, ``nothing_kept``, ``attenuation``,
        ``later_tests``, ``features_unchanged`` and ``common_dispersion``, as they apply.
    """
    design = fit.design
    name = design.batches.name
    told = ("nothing_kept", "attenuation")
    notes = [*design.notes, *lost_notes(fit)]
    notes += [one for one in remarks(table, design, fit.found) if one.code in told]
    message = (
        f"A later test must keep {name} in its model, best on the original counts: the correction "
        f"has used {len(design.batches.levels) - 1} degrees of freedom, and tests that do not know "
        "it find too much."
    )
    notes.append(Note("later_tests", message, (name,)))
    if not model.used.all():
        unchanged = chosen_features(table.features, ~model.used)
        message = (
            f"{len(unchanged)} features were left unchanged, because they have no counts in some "
            f"batch: {listed(unchanged, 3)}."
        )
        notes.append(Note("features_unchanged", message, unchanged[:10]))
    if model.shared.any():
        levels = tuple(
            level for level, one in zip(design.batches.levels, model.shared, strict=True) if one
        )
        message = (
            f"What is kept does not vary inside {name} {listed(levels)}, or leaves nothing over to "
            "see the scatter by; all features share one dispersion there, as in R."
        )
        notes.append(Note("common_dispersion", message, levels))
    return tuple(notes)
