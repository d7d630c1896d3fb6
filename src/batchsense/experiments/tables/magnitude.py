"""Numbers whose squares overflow or vanish, so that every sum of squares would be wrong."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed

#: The squares of larger numbers, summed up, no longer fit double precision.
LARGEST = 1e150
#: The squares of smaller ones are zero, or have lost digits.
SMALLEST = 1e-150


def refuse_magnitude(sizes: Floats, names: list[str], where: str) -> None:
    """Refuse columns of numbers that cannot be squared.

    Parameters
    ----------
    sizes : array of shape (columns,)
        The largest absolute value of each column; NaN where all are missing.
    names : list of str
        What to call them.
    where : str
        Name of the file, for the message.

    Raises
    ------
    DataError
        Naming the columns.

    Examples
    --------
    >>> refuse_magnitude(np.array([3.0, 1e200]), ["g1", "g2"], "m.csv")
    Traceback (most recent call last):
    batchsense.errors.DataError: m.csv: values too large to be squared (beyond 1e+150) in g2; ...
    """
    for wrong, what in (
        (sizes > LARGEST, f"too large to be squared (beyond {LARGEST:g})"),
        ((sizes > 0) & (sizes < SMALLEST), f"too small to be squared (all below {SMALLEST:g})"),
    ):
        if wrong.any():
            culprits = listed(names[place] for place in np.flatnonzero(wrong))
            raise DataError(f"values {what} in {culprits}; rescale them", where=where)
