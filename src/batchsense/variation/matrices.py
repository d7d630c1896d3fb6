"""Numbers from outside, checked once: finite float64 matrices or an error that says where."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats
from batchsense.errors import DataError


def finite_matrix(
    values: ArrayLike, what: str, *, vector: bool = False, empty: bool = False
) -> Floats:
    """Give a float64 matrix with at least one row, or say which entry is not a finite number.

    Shapes: ``values`` (observations, columns).

    Examples
    --------
    >>> finite_matrix([[1, 2]], "observations")
    array([[1., 2.]])
    >>> finite_matrix([[1.0, float("nan")]], "observations")
    Traceback (most recent call last):
    batchsense.errors.DataError: observations: row 0, column 1 is nan; every value must be finite
    """
    try:
        raw = np.asarray(values)
        if np.iscomplexobj(raw):
            raise DataError(f"{what} are complex; give real numbers")
        table = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers: {error}") from error
    if vector and table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or (table.shape[0] == 0 and not empty):
        wanted = "(observations, columns)" + ("" if empty else " with at least one row")
        raise DataError(f"{what} have shape {table.shape}; give {wanted}")
    finite = np.isfinite(table)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise DataError(
            f"{what}: row {row}, column {column} is {table[row, column]}; every value must be"
            " finite"
        )
    return table
