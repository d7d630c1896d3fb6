"""Plates: which wells are filled, where references stand, and where each specimen goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.variation.positions import place, well_factors, well_order

Integers = npt.NDArray[np.int64]
#: Rows of a plate have letters; a plate of 1,536 wells has 32 of them.
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


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
    score: float
    random_best: float

    def name(self, well: int) -> str:
        """Name a well: a letter for its row, a number for its column."""
        row, column = divmod(int(well), self.columns)
        return f"{row_name(row)}{column + 1}"

    def terms(self) -> npt.NDArray[np.float64]:
        """Give indicators of plate row, plate column and edge for a model."""
        parts = [
            np.eye(int(factor.max()) + 1)[factor[self.wells]]
            for factor in well_factors(self.rows, self.columns)
        ]
        return np.hstack(parts)


def row_name(row: int) -> str:
    """Give the letters of a plate row.

    Examples
    --------
    >>> row_name(0), row_name(25), row_name(26)
    ('A', 'Z', 'AA')
    """
    first, second = divmod(row, 26)
    return (_LETTERS[first - 1] if first else "") + _LETTERS[second]


def parse_plate(text: str) -> tuple[int, int]:
    """Read the size of a plate, rows × columns.

    Raises
    ------
    DataError
        Anything but two positive whole numbers with an x between them.

    Examples
    --------
    >>> parse_plate("8x12")
    (8, 12)
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise DataError(f"a plate is rows x columns, such as 8x12, not {text!r}", where="--plate")
    return int(parts[0]), int(parts[1])


def parse_capacities(text: str) -> list[int]:
    """Read the wells of every batch, or of each with commas between.

    Raises
    ------
    DataError
        Anything but positive whole numbers.

    Examples
    --------
    >>> parse_capacities("24"), parse_capacities("24, 20")
    ([24], [24, 20])
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise DataError(
            f"capacities are whole numbers, such as 24 or 24,20, not {text!r}", where="--capacity"
        )
    return [int(part) for part in parts]


def fill_plates(
    basis: npt.NDArray[np.float64],
    codes: Integers,
    batch_count: int,
    size: tuple[int, int],
    references: int,
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
    order = well_order(rows, columns)
    free, taken = [], []
    for held in np.bincount(codes, minlength=batch_count):
        filled = order[: held + references]
        places = ((np.arange(references) + 0.5) * len(filled) / max(references, 1)).astype(int)
        taken.append(filled[places])
        free.append(np.delete(filled, places))
    found = place(basis, codes, free, well_factors(rows, columns), seed=seed, progress=progress)
    best = float(found.random_scores.min())
    return Plates(rows, columns, found.wells, tuple(taken), found.score, best)
