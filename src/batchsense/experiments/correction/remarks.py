"""What must be said with every corrected table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from batchsense.arrays import Flags, Floats, Places
from batchsense.errors import listed
from batchsense.experiments.design import Design
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.sheets.nuisances import sheet_columns
from batchsense.experiments.statistics.confounding import analyse
from batchsense.experiments.tables.table import Column, Table
from batchsense.experiments.tables.text import is_number
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: An unkept column of the sheet that would lose more than this part of its effect is named; in a
#: small experiment the imbalance of chance alone takes as much.
NAMED_LOSS = 0.05
#: A column of the sheet with more levels than this is taken for numbers, or passed over: the months
#: of a year still are categories, ids are not.
_MOST_LEVELS = 12
#: Features, or pairs of feature and batch, that a note carries for programs, and shows to people:
#: three names say what kind of features they are, and a line of text holds no more.
CARRIED, SHOWN = 10, 3


def remarks(
    table: Table, design: Design, found: tuple[Entanglement, ...], scales: bool = False
) -> list[Note]:
    """Gather the notes on what correction destroys, leaves, and makes untrue later.

    ``scales``: whether the correction also rescales the batches, so that it is no projection.
    The notes are ``nothing_kept``, ``attenuation``, ``additive_only`` and ``later_tests``.
    """
    later = _later_tests(design, found, scales)
    return [*_attenuation(table, design), *_additive_only(design, scales), *later]


def chosen_features(features: tuple[str, ...], chosen: Flags) -> tuple[str, ...]:
    """Name some features."""
    return tuple(features[j] for j in np.flatnonzero(chosen))


def features_note(
    code: str, names: Sequence[str], reason: str, count: int | None = None
) -> list[Note]:
    """Name some features, or features in batches, and say what became of them.

    ``reason`` is what follows "3 features" in the message; ``count`` how many there are where
    ``names`` holds some of them more than once. No note where there is no name.
    """
    if not names:
        return []
    many = len(names) if count is None else count
    message = f"{many} features {reason}: {listed(names, SHOWN)}."
    return [Note(code, message, tuple(names[:CARRIED]))]


def entangled_features(features: tuple[str, ...]) -> list[Note]:
    """Remark on features that were left as they are, because their missing values entangle them."""
    return features_note(
        "features_unchanged",
        features,
        "were left unchanged, because the specimens in which they were observed lie in one batch, "
        "or do not tell batches and kept factors apart",
    )


def gap_notes(
    flags: Flags, features: Sequence[str], batch_levels: Sequence[str], code: str, reason: str
) -> list[Note]:
    """Name the pairs of feature and batch that are marked, flags of shape (batches, features)."""
    pairs = [f"{features[j]} / {batch_levels[b]}" for j, b in np.argwhere(flags.T)]
    count = int(flags.any(axis=0).sum())
    return features_note(code, pairs, f"{reason} (feature / batch)", count)


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

    ``unseen``, of shape (batches, features), marks features of the table that a batch lacked in
    fitting; ``codes`` is the batch of each specimen of the table.
    """
    where = []
    for b in np.flatnonzero(unseen.any(axis=1)).tolist():
        features = np.flatnonzero(unseen[b])
        observed = ~np.isnan(table.values[np.ix_(codes == b, features)])
        where += [
            f"{table.features[j]} / {batch_levels[b]}" for j in features[observed.any(axis=0)]
        ]
    return features_note(
        "left_unchanged",
        where,
        "were not observed in a batch when the correction was fitted; their values in that batch "
        "were left unchanged (feature / batch)",
    )


def _attenuation(table: Table, design: Design) -> list[Note]:
    losses = {}
    kept = {factor.name for factor in design.kept}
    for name, entries in table.sheet.items():
        if name in kept or name in (*sheet_columns(design.batches), table.source.id_column):
            continue
        columns = _as_columns(entries)
        if columns is not None:
            found = analyse(columns, design.batches.indicators(), design.wanted()[0])
            if found.attenuation > NAMED_LOSS:
                losses[name] = found.attenuation
    notes = []
    if not design.kept:
        message = (
            f"Nothing was named to be kept: of every difference that goes with "
            f"{design.batches.name} the part that goes with it (R²) is removed as well."
        )
        notes.append(Note("nothing_kept", message))
    if not losses:
        return notes
    each = listed(f"{name} loses up to {loss:.0%} of its effect" for name, loss in losses.items())
    message = (
        f"Columns that were not kept go with {design.batches.name}, and correction takes that "
        f"part away: {each}. Name with --keep what must stay."
    )
    return [*notes, Note("attenuation", message, tuple(losses))]


def _as_columns(entries: Column) -> Floats | None:
    """An unkept column of the sheet as numbers or indicators; None if it is neither."""
    labels = [entry for entry in entries if entry is not None]
    levels = sorted(set(labels))
    if len(labels) < len(entries) or len(levels) < 2:
        return None
    if len(levels) > _MOST_LEVELS and all(is_number(level) for level in levels):
        return np.array([[float(label)] for label in labels])
    if len(levels) > min(_MOST_LEVELS, len(labels) // 2):
        return None
    return np.array([[label == level for level in levels] for label in labels], dtype=np.float64)


def _additive_only(design: Design, scales: bool) -> list[Note]:
    if not design.kept:
        return []
    names = listed([factor.name for factor in design.kept])
    what = "adds and how far it stretches," if scales else "adds"
    message = (
        f"Only what {design.batches.name} {what} alike to all specimens of a batch was removed. "
        f"What it does differently to different levels of {names} is still there; diagnose says "
        "how much that is."
    )
    return [Note("additive_only", message)]


def _later_tests(design: Design, found: tuple[Entanglement, ...], scales: bool) -> list[Note]:
    columns = design.wanted()[0]
    wanted = columns.shape[1]
    n = design.specimens
    df = n - factor(np.hstack([columns, design.batches.indicators()])).rank
    if df < 1:
        return []
    factors = {
        one.name: math.sqrt(one.confounding.vif * (n - wanted) / df)
        for one in found
        if one.confounding.estimable
    }
    if not factors:
        return []
    each = listed(f"{name} up to {factor:.2f} times" for name, factor in factors.items())
    if scales:
        message = (
            f"A later test is best made on the original matrix with {design.batches.name} in its "
            "model. On the corrected values t statistics come out too large, by about as much as "
            f"after linear removal ({each}), and {design.batches.name} in the model mends that "
            "only approximately, because scales were changed too."
        )
        return [Note("later_tests", message, tuple(factors))]
    message = (
        f"A later test must keep {design.batches.name} in its model. Without it, t statistics on "
        f"the corrected values come out too large: {each}."
    )
    return [Note("later_tests", message, tuple(factors))]
