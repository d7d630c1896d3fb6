"""Which features a diagnosis can use, and what must be said about the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.table import Table
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note

#: A single feature with more than this part of the total variance outweighs all others together.
DOMINANT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What features look like, each of shape (features,)."""

    #: Without missing values; and no tally of a counting program; and not all the same.
    complete: Flags
    used: Flags
    varies: Flags
    variance: Floats  #: Of the used features; 0 of the others

    @classmethod
    def of(cls, values: Floats, tally: Flags) -> Looks:
        """Look at features, of which some are tallies."""
        complete = np.asarray(~np.isnan(values).any(axis=0))
        used = complete & ~tally
        chosen = values if used.all() else values[:, used]
        varies, variance = np.zeros(len(used), dtype=bool), np.zeros(len(used))
        varies[used], variance[used] = np.ptp(chosen, axis=0) > 0, chosen.var(axis=0)
        return cls(complete, used, varies, variance)

    def remarks(self, table: Table, standardise: bool) -> list[Note]:
        """Remark on features left out, constant or dominant; refuse where nothing is left."""
        notes = []
        complete, used = self.complete, self.used
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
                f"{(~complete).sum()} of {len(complete)} features have missing values and were "
                f"left out of the diagnosis: {listed(names[~complete], 3)}."
            )
            notes.append(Note("incomplete_features", message, left_out))
        if not self.varies.any():
            raise DataError(
                "no feature varies: all specimens hold the same values", where=table.source.matrix
            )
        constant = [str(name) for name in names[used & ~self.varies]]
        if constant:
            message = (
                f"{len(constant)} features are constant and carry nothing: {listed(constant, 3)}."
            )
            notes.append(Note("constant_features", message, tuple(constant[:10])))
        largest = int(np.argmax(self.variance))
        part = self.variance[largest] / self.variance.sum()
        if not standardise and part > DOMINANT and used.sum() > 2:
            name = str(names[largest])
            message = (
                f"Feature {name!r} has {100 * part:.0f} % of the total variance and decides the "
                "shares alone; transform the data or give every feature the same weight "
                "(--standardise)."
            )
            notes.append(Note("dominant_feature", message, (name,)))
        return notes

    def prepared(self, values: Floats, standardise: bool) -> Floats:
        """The used features, centred and divided by their scatter if standardised."""
        chosen = values if self.used.all() else values[:, self.used]
        if not standardise:
            return chosen
        scale = np.where(self.varies, np.sqrt(self.variance), 1.0)[self.used]
        return np.asarray((chosen - chosen.mean(axis=0)) / scale)


def usable_features(table: Table, standardise: bool) -> tuple[Floats, list[Note]]:
    """Take the complete features; remark on those left out, constant or dominant.

    The observations have no missing values, and mean 0 and variance 1 if standardised.
    """
    looks = Looks.of(table.values, tallies(table.features))  # table.notes name these
    notes = looks.remarks(table, standardise)
    return looks.prepared(table.values, standardise), notes
