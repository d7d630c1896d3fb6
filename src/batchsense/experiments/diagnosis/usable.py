"""Which features a diagnosis can use, and what must be said about the others."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.table import Table
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note

#: A single feature with more than this part of the total variance outweighs all others together.
DOMINANT = 0.5


def usable_features(table: Table, standardise: bool) -> tuple[Floats, list[Note]]:
    """Take the complete features; remark on those left out, constant or dominant.

    The observations have no missing values, and mean 0 and variance 1 if standardised.

    Raises
    ------
    DataError
        Every feature has missing values, or none varies.
    """
    complete = np.asarray(~np.isnan(table.values).any(axis=0))
    left_in = ~tallies(table.features)  # table.notes name the others
    notes = []
    if not complete.any():
        raise DataError(
            "every feature has missing values; diagnosis needs some complete ones, so remove "
            "specimens with many missing values or fill them in",
            where=table.source.matrix,
        )
    names = np.array(table.features, dtype=object)
    if not complete.all():
        left_out = tuple(names[~complete][:10])
        message = (
            f"{(~complete).sum()} of {len(complete)} features have missing values and were left "
            f"out of the diagnosis: {listed(names[~complete], 3)}."
        )
        notes.append(Note("incomplete_features", message, left_out))
    complete &= left_in
    observations = table.values if complete.all() else table.values[:, complete]
    varies = np.asarray(np.ptp(observations, axis=0) > 0)
    if not varies.any():
        raise DataError(
            "no feature varies: all specimens hold the same values", where=table.source.matrix
        )
    if not varies.all():
        constant = [str(name) for name in names[complete][~varies]]
        message = f"{len(constant)} features are constant and carry nothing: {listed(constant, 3)}."
        notes.append(Note("constant_features", message, tuple(constant[:10])))
    variances = observations.var(axis=0)
    if standardise:
        scale = np.where(varies, np.sqrt(variances), 1.0)
        return (observations - observations.mean(axis=0)) / scale, notes
    largest = int(np.argmax(variances))
    part = variances[largest] / variances.sum()
    if part > DOMINANT and len(variances) > 2:
        name = str(names[complete][largest])
        message = (
            f"Feature {name!r} has {100 * part:.0f} % of the total variance and decides the shares "
            "alone; transform the data or give every feature the same weight (--standardise)."
        )
        notes.append(Note("dominant_feature", message, (name,)))
    return observations, notes
