"""Specimens grouped by batch and by what is kept, so that one pass serves any number of terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers, Places
from batchsense.errors import DataError
from batchsense.storage.matrices.folded import Folded


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Specimens that share their batch and their covariates.

    Where covariates take few values, a sum per cell gives every product with a covariate. Where
    they take many, there is one cell per batch, and the products are summed one by one.
    """

    order: Places  #: (specimens,): the specimens, cell by cell, batch by batch
    starts: Places  #: (cells + 1,): where each cell begins in ``order``
    batch_of_cell: Places  #: (cells,): the batch of each cell; ascending
    of_specimen: Places  #: (specimens,): the cell of each specimen
    #: (cells, covariates): the covariates of each cell; None where cells do not determine them.
    covariates: Floats | None

    @property
    def sizes(self) -> Integers:
        """Specimens per cell."""
        return np.diff(self.starts)

    @property
    def batch_starts(self) -> Places:
        """Where each batch that occurs begins in ``order``, and the end."""
        first = np.flatnonzero(np.diff(self.batch_of_cell, prepend=-1))
        return np.append(self.starts[first], self.starts[-1])

    @property
    def batches_present(self) -> Places:
        """The batches that occur, ascending."""
        return self.batch_of_cell[np.flatnonzero(np.diff(self.batch_of_cell, prepend=-1))]


def checked(
    values: npt.ArrayLike | Folded,
    codes: npt.ArrayLike,
    covariates: npt.ArrayLike | None,
    width: int,
) -> tuple[Any, Places, Floats]:
    """Check that observations, batch codes and covariates belong together.

    Shapes: ``values`` (specimens, features); ``codes`` (specimens,); ``covariates`` (specimens,
    covariates).
    """
    matrix = values if isinstance(values, Folded) else np.asarray(values)
    if isinstance(matrix, np.ndarray) and matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    places = np.asarray(codes, dtype=np.intp)
    if len(matrix.shape) != 2 or places.shape != matrix.shape[:1]:
        raise DataError(
            f"observations of shape {matrix.shape} and batch codes of shape {places.shape} do not "
            "belong together; give one row and one code per specimen"
        )
    kept = np.empty((len(places), 0)) if covariates is None else covariates
    kept = np.asarray(kept, dtype=np.float64)
    if kept.shape != (len(places), width):
        raise DataError(
            f"covariates of shape {kept.shape}; {(len(places), width)} is needed: one row per "
            "specimen, one column per kept term"
        )
    if not np.isfinite(kept).all():
        raise DataError("a covariate is missing or infinite; every kept term must be known")
    return matrix, places, kept


def group(codes: Places, covariates: Floats, few: bool | None = None) -> Cells:
    """Sort specimens into cells.

    ``few`` says whether cells shall determine the covariates; by default where a cell holds four
    specimens or more on average.
    """
    order = np.lexsort((*covariates.T[::-1], codes))
    sorted_codes, sorted_rows = codes[order], covariates[order]
    new_batch = np.diff(sorted_codes, prepend=-1) != 0
    new_cell = new_batch.copy()
    new_cell[1:] |= (sorted_rows[1:] != sorted_rows[:-1]).any(axis=1)
    if few is None:
        few = int(new_cell.sum()) <= max(4 * int(new_batch.sum()), len(codes) // 4)
    starts = np.flatnonzero(new_cell if few else new_batch)
    of_specimen = np.empty(len(codes), dtype=np.intp)
    of_specimen[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(codes))))
    return Cells(
        order=order,
        starts=np.append(starts, len(codes)),
        batch_of_cell=sorted_codes[starts],
        of_specimen=of_specimen,
        covariates=sorted_rows[starts] if few else None,
    )
