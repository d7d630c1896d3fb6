"""Plates: the wells of references, and of specimens so that nothing wanted goes with positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.experiments.layout.wells import (
    FREE_WELL,
    PlateWells,
    well_factors,
    well_name,
    well_order,
)
from batchsense.progress import Progress, silent

#: The placement starts from the best of so many random ones, which are also what it is compared
#: with; fewer than for layouts, because the descent decides.
RANDOM_PLACEMENTS = 50
#: A swap must lower the score by more than this: below is rounding.
LEAST_GAIN = 1e-13
#: Rounds through all specimens at most; only a stop for the unforeseen, the descent ends by itself.
ROUNDS = 25


@dataclass(frozen=True, slots=True, eq=False)
class Plates:
    """Where the specimens and the references stand.

    Attributes
    ----------
    rows, columns : int
        Size of a plate.
    wells : array of shape (specimens,)
        Well of each specimen, numbered row by row from 0.
    reference_wells : tuple of arrays
        Wells of the references of each batch.
    empty_wells : array
        Wells that stay empty on every plate, because that was asked for.
    kept : int
        Specimens that kept the well that they had.
    score : float
        Sum over rows, columns and edge of the squared canonical correlations with the balanced
        factors, all plates together.
    random_best : float
        The least of 50 random placements in the same wells.
    """

    rows: int
    columns: int
    wells: Integers
    reference_wells: tuple[Integers, ...]
    empty_wells: Integers
    kept: int
    score: float
    random_best: float

    def name(self, well: int) -> str:
        """Name a well: a letter for its row, a number for its column."""
        return well_name(well, self.columns)

    def terms(self) -> Floats:
        """Indicators of plate row, plate column and edge for a model."""
        parts = [
            np.eye(int(factor.max()) + 1)[factor[self.wells]]
            for factor in well_factors(self.rows, self.columns)
        ]
        return np.hstack(parts)


def fill_plates(
    basis: Floats,
    codes: Integers,
    batch_count: int,
    wells: PlateWells,
    references: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Plates:
    """Place specimens and references on one plate a batch.

    Wells are filled column by column; those left over stay empty at the end. References stand
    evenly among the filled wells, the same on every plate with as many specimens.
    """
    usable = well_order(*wells.size)
    usable = usable[~np.isin(usable, wells.empty)]
    free, reference_wells = [], []
    for b in range(batch_count):
        own = wells.taken[codes == b]
        open_wells = usable[~np.isin(usable, own)]
        filled = open_wells[: int((own == FREE_WELL).sum()) + references]
        places = ((np.arange(references) + 0.5) * len(filled) / max(references, 1)).astype(int)
        reference_wells.append(filled[places])
        free.append(np.delete(filled, places))
    factors = well_factors(*wells.size)
    found = place(basis, codes, free, factors, taken=wells.taken, seed=seed, progress=progress)
    return Plates(
        *wells.size,
        wells=found.wells,
        reference_wells=tuple(reference_wells),
        empty_wells=wells.empty,
        kept=int((wells.taken != FREE_WELL).sum()),
        score=found.score,
        random_best=float(found.random_scores.min()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """The wells of the specimens."""

    wells: Integers  #: (specimens,): well of each specimen, numbered row by row from 0
    #: Sum over plate rows, plate columns and edge of the squared canonical correlations with what
    #: is balanced, all plates together.
    score: float
    random_scores: Floats  #: The same of random placements in the same wells


def place(
    basis: Floats,
    codes: Integers,
    wells: list[Integers],
    factors: tuple[Integers, ...],
    *,
    taken: Integers | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Placement:
    """Place the specimens of each batch in its wells, balanced over positions.

    The effect of a position is taken to be additive and the same on every plate, so the score of
    each factor pools the plates: Σ_l ‖S_l‖²/m_l over its levels l, with S_l the sum of the basis
    rows in wells of that level. Specimens of one plate are swapped, each with its best partner,
    until nothing lowers the sum of the scores.

    ``basis`` is that of :func:`~batchsense.experiments.layout.allocation.balance_basis`, shape
    (specimens, columns); ``codes`` and ``taken`` (-1 where a specimen is free to go) have shape
    (specimens,). ``wells`` holds for each batch as many wells as it has free specimens, ``factors``
    the levels of each position factor. Never worse than the best of 50 random placements in the
    same wells.
    """
    rng = np.random.default_rng(seed)
    held = np.full(len(codes), -1) if taken is None else np.asarray(taken)
    members = [np.flatnonzero((codes == b) & (held < 0)) for b in range(len(wells))]
    levels = [int(factor.max()) + 1 for factor in factors]
    best, chance = None, np.empty(RANDOM_PLACEMENTS)
    for k in range(RANDOM_PLACEMENTS):
        drawn = held.astype(np.int64)
        for own, free in zip(members, wells, strict=True):
            drawn[own] = rng.permutation(free)
        chance[k] = _score(basis, drawn, factors, levels)
        if best is None or chance[k] < chance[:k].min():
            best = drawn
    placed = held if best is None else best
    tables = [
        _sums(basis, factor[placed], count) for factor, count in zip(factors, levels, strict=True)
    ]
    for done in range(ROUNDS):
        progress("placing specimens on plates", done, ROUNDS)
        gained = False
        for specimen in rng.permutation(np.flatnonzero(held < 0)):
            others = members[codes[specimen]]
            gained |= _best_partner(basis, placed, others, specimen, factors, tables)
        if not gained:
            break
    return Placement(placed, _score(basis, placed, factors, levels), chance)


def _sums(basis: Floats, level: Integers, count: int) -> tuple[Floats, Floats]:
    sums = np.zeros((count, basis.shape[1]))
    np.add.at(sums, level, basis)
    return sums, np.maximum(np.bincount(level, minlength=count), 1).astype(float)


def _score(
    basis: Floats, placed: Integers, factors: tuple[Integers, ...], levels: list[int]
) -> float:
    total = 0.0
    for factor, count in zip(factors, levels, strict=True):
        sums, held = _sums(basis, factor[placed], count)
        total += float(((sums**2).sum(axis=1) / held).sum())
    return total


def _best_partner(
    basis: Floats,
    placed: Integers,
    others: Integers,
    specimen: int,
    factors: tuple[Integers, ...],
    tables: list[tuple[Floats, Floats]],
) -> bool:
    shifts = basis[others] - basis[specimen]
    lengths = (shifts**2).sum(axis=1)
    change = np.zeros(len(others))
    for factor, (sums, held) in zip(factors, tables, strict=True):
        own, theirs = factor[placed[specimen]], factor[placed[others]]
        means = sums / held[:, None]
        along = 2 * ((means[own] - means[theirs]) * shifts).sum(axis=1)
        both = along + lengths * (1 / held[own] + 1 / held[theirs])
        change += np.where(theirs == own, 0.0, both)
    chosen = int(change.argmin())
    if not change[chosen] < -LEAST_GAIN:
        return False
    partner = others[chosen]
    for factor, (sums, _) in zip(factors, tables, strict=True):
        own, theirs = factor[placed[specimen]], factor[placed[partner]]
        sums[own] += shifts[chosen]
        sums[theirs] -= shifts[chosen]
    placed[specimen], placed[partner] = placed[partner], placed[specimen]
    return True
