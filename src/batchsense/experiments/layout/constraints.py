"""What a layout must obey: capacities, units that stay whole, labels that must not meet, locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchsense.arrays import Flags, Floats, Integers

Kind = Literal["wells", "unit", "locked_wells", "apart", "locked_apart"]

#: The unit may go anywhere.
FREE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Constraints:
    """Units of specimens, the batches they may go to, and who must not meet."""

    sizes: Integers  #: (units,): specimens in each unit; a unit goes to one batch as a whole
    capacities: Integers  #: (batches,): at most so many specimens in each batch
    locked: Integers  #: (units,): the batch of a unit that is placed already, -1 where it is free
    #: (units, labels): which labels a unit carries; no batch may hold two units with the same
    #: label.
    apart: Flags

    @classmethod
    def of(
        cls,
        sizes: Integers,
        capacities: Integers,
        locked: Integers | None = None,
        apart: Flags | None = None,
    ) -> Constraints:
        """Fill in what is not constrained."""
        units = len(sizes)
        return cls(
            np.asarray(sizes, dtype=np.int64),
            np.asarray(capacities, dtype=np.int64),
            np.full(units, FREE) if locked is None else np.asarray(locked, dtype=np.int64),
            np.zeros((units, 0), dtype=bool) if apart is None else np.asarray(apart, dtype=bool),
        )

    @property
    def batch_count(self) -> int:
        """Number of batches."""
        return len(self.capacities)

    def held(self) -> Integers:
        """Specimens that locked units put into each batch, shape (batches,)."""
        placed = self.locked != FREE
        return np.bincount(
            self.locked[placed], weights=self.sizes[placed], minlength=self.batch_count
        ).astype(np.int64)

    def targets(self) -> Floats:
        """Batch sizes as even as locks and capacities allow, shape (batches,); fractions stay.

        The level τ with Σ clip(τ, locked, capacity) = specimens, found by bisection.
        """
        low, high = 0.0, float(self.sizes.sum())
        held, total = self.held(), self.sizes.sum()
        even = total / self.batch_count
        if (held <= even).all() and (self.capacities >= even).all():
            return np.full(self.batch_count, even)
        for _ in range(60):
            level = (low + high) / 2
            if np.clip(level, held, np.maximum(self.capacities, held)).sum() < total:
                low = level
            else:
                high = level
        return np.asarray(np.clip(high, held, np.maximum(self.capacities, held)))

    def broken(self, codes: Integers) -> list[str]:
        """Name the kinds of constraint that an assignment breaks; empty if it keeps all."""
        found = []
        sizes = np.bincount(codes, weights=self.sizes, minlength=self.batch_count)
        if (sizes > self.capacities).any():
            found.append("capacity")
        if (codes[self.locked != FREE] != self.locked[self.locked != FREE]).any():
            found.append("lock")
        if (self.meetings(codes) > 1).any():
            found.append("apart")
        return found

    def meetings(self, codes: Integers) -> Integers:
        """Units with each label in each batch, shape (batches, labels)."""
        indicators = np.arange(self.batch_count)[:, None] == codes
        return np.asarray(indicators.astype(np.int64) @ self.apart.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A condition that every layout must meet and that these constraints cannot."""

    #: ``"wells"``: more specimens than places; ``"unit"``: a free unit larger than every batch;
    #: ``"locked_wells"``: locked specimens exceed a capacity; ``"apart"``: a label on more units
    #: than there are batches; ``"locked_apart"``: units with one label are locked to the same
    #: batch.
    kind: Kind
    index: int  #: The unit, batch or label concerned; -1 for ``"wells"``
    amount: int  #: By how much: specimens for the first three, units for the last two


def shortfalls(constraints: Constraints) -> tuple[Shortfall, ...]:
    """Count what is missing, by conditions that are necessary and cheap.

    Each is a proof of its own: places against specimens, a unit against the largest batch, the
    locked specimens of a batch against its capacity, the units with one label against the batches.
    """
    found = []
    missing = int(constraints.sizes.sum() - constraints.capacities.sum())
    if missing > 0:
        found.append(Shortfall("wells", -1, missing))
    room = constraints.capacities.max()
    found.extend(
        Shortfall("unit", int(unit), int(constraints.sizes[unit] - room))
        for unit in np.flatnonzero((constraints.sizes > room) & (constraints.locked == FREE))
    )
    excess = constraints.held() - constraints.capacities
    found.extend(
        Shortfall("locked_wells", int(b), int(excess[b])) for b in np.flatnonzero(excess > 0)
    )
    carriers = constraints.apart.sum(axis=0)
    found.extend(
        Shortfall("apart", int(label), int(carriers[label] - constraints.batch_count))
        for label in np.flatnonzero(carriers > constraints.batch_count)
    )
    placed = constraints.locked != FREE
    indicators = np.arange(constraints.batch_count)[:, None] == constraints.locked[placed]
    meeting = indicators.astype(np.int64) @ constraints.apart[placed].astype(np.int64)
    extra = np.maximum(meeting - 1, 0).sum(axis=0)
    found.extend(
        Shortfall("locked_apart", int(label), int(extra[label])) for label in np.flatnonzero(extra)
    )
    return tuple(found)
