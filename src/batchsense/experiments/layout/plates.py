"""Plates: which wells are filled, where references stand, and where each specimen goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.experiments.layout.positions import place, well_factors, well_order
from batchsense.experiments.layout.wells import FREE_WELL, well_name
from batchsense.progress import Progress, silent


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
        """Give indicators of plate row, plate column and edge for a model."""
        parts = [
            np.eye(int(factor.max()) + 1)[factor[self.wells]]
            for factor in well_factors(self.rows, self.columns)
        ]
        return np.hstack(parts)


def fill_plates(
    basis: Floats,
    codes: Integers,
    batch_count: int,
    size: tuple[int, int],
    references: int,
    empty: Integers,
    taken: Integers,
    seed: int,
    progress: Progress = silent,
) -> Plates:
    """Place specimens and references on one plate a batch.

    Wells are filled column by column; those left over stay empty at the end. References stand
    evenly among the filled wells, the same on every plate with as many specimens.

    Parameters
    ----------
    basis : array of shape (specimens, columns)
        What is to be balanced.
    codes : array of shape (specimens,)
        The batch of each specimen.
    batch_count, references : int
        Numbers of batches, and of references in each.
    size : pair of int
        Rows and columns of a plate.
    empty : array
        Wells that stay empty on every plate.
    taken : array of shape (specimens,)
        The well of each specimen that is placed already, -1 where it is free.
    seed : int
        Seed.
    progress : Progress
        Told of the rounds.

    Returns
    -------
    Plates
        All wells.
    """
    rows, columns = size
    usable = well_order(rows, columns)
    usable = usable[~np.isin(usable, empty)]
    free, reference_wells = [], []
    for b in range(batch_count):
        own = taken[codes == b]
        open_wells = usable[~np.isin(usable, own)]
        filled = open_wells[: int((own == FREE_WELL).sum()) + references]
        places = ((np.arange(references) + 0.5) * len(filled) / max(references, 1)).astype(int)
        reference_wells.append(filled[places])
        free.append(np.delete(filled, places))
    factors = well_factors(rows, columns)
    found = place(basis, codes, free, factors, taken=taken, seed=seed, progress=progress)
    return Plates(
        rows=rows,
        columns=columns,
        wells=found.wells,
        reference_wells=tuple(reference_wells),
        empty_wells=empty,
        kept=int((taken != FREE_WELL).sum()),
        score=found.score,
        random_best=float(found.random_scores.min()),
    )
