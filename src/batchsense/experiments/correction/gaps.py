"""Features that were never observed in some batch: what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchsense.arrays import Flags, Places
from batchsense.errors import listed
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note

#: Pairs of feature and batch that a note carries for programs, and shows to people.
_CARRIED, _SHOWN = 10, 3


def gap_notes(
    flags: Flags, features: Sequence[str], batch_levels: Sequence[str], code: str, reason: str
) -> list[Note]:
    """Name the pairs of feature and batch that are marked.

    Parameters
    ----------
    flags : array of bool, shape (batches, features)
        The pairs.
    features, batch_levels : sequence of str
        Their names.
    code, reason : str
        The code of the note, and what follows "3 features" in its message.

    Returns
    -------
    list of Note
        One, or none if nothing is marked.
    """
    pairs = [f"{features[j]} / {batch_levels[b]}" for j, b in np.argwhere(flags.T)]
    if not pairs:
        return []
    count = int(flags.any(axis=0).sum())
    message = f"{count} features {reason} (feature / batch): {listed(pairs, _SHOWN)}."
    return [Note(code, message, tuple(pairs[:_CARRIED]))]


def unseen_notes(unseen: Flags, features: Sequence[str], batch_levels: Sequence[str]) -> list[Note]:
    """Remark on features that a batch lacks altogether."""
    return gap_notes(
        unseen,
        features,
        batch_levels,
        "unseen_in_batch",
        "were not observed in some batch; they were corrected in the others, and nothing is known "
        "of them there",
    )


def left_unchanged_notes(
    unseen: Flags, table: Table, codes: Places, batch_levels: Sequence[str]
) -> list[Note]:
    """Remark on observed values of a batch in which the feature was never seen in fitting.

    Parameters
    ----------
    unseen : array of bool, shape (batches, features)
        Features of the table that a batch lacked in fitting.
    table : Table
        What is corrected.
    codes : array of shape (specimens,)
        The batch of each of its specimens.
    batch_levels : sequence of str
        The batches.

    Returns
    -------
    list of Note
        ``left_unchanged``, if there are such values.
    """
    where = []
    for b in np.flatnonzero(unseen.any(axis=1)).tolist():
        features = np.flatnonzero(unseen[b])
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
