"""Handwritten digits, shipped with scikit-learn: the real data that both sides start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.datasets.forms import form_of_rows


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """1,797 handwritten digits in the order of the file, with the form each was written on.

    Attributes
    ----------
    observations : array of shape (1797, 64)
        Grey values from 0 (paper) to 16 (ink) of 8 × 8 pixels, row by row; read-only.
    digit : array of shape (1797,)
        What is written, 0 to 9.
    form_labels : array of shape (1797,)
        The copied form, 0 to 13, inferred from the order of the rows.
    position : array of shape (1797,)
        Place of the row within its form, from 0.
    feature_names : tuple of str
        ``pixel_0_0`` (row, column) to ``pixel_7_7``.
    specimen_ids : tuple of str
        ``row0000`` to ``row1796``.
    """

    observations: Floats
    digit: Integers
    form_labels: Integers
    position: Integers
    feature_names: tuple[str, ...]
    specimen_ids: tuple[str, ...]


@cache
def load_digits() -> Digits:
    """Load the digits and their forms; no download, the same object every time.

    Returns
    -------
    Digits
        Read-only arrays; copy before changing.

    References
    ----------
    Alpaydin and Kaynak (1998), "Optical recognition of handwritten digits", UCI Machine Learning
    Repository; scikit-learn carries the test part.

    Examples
    --------
    >>> digits = load_digits()
    >>> digits.observations.shape, int(digits.form_labels.max())
    ((1797, 64), 13)
    """
    from sklearn.datasets import load_digits as load_from_sklearn

    observations, digit = load_from_sklearn(return_X_y=True)
    form_labels, position = form_of_rows(len(digit))
    arrays = (
        np.asarray(observations, dtype=np.float64),
        np.asarray(digit, dtype=np.int64),
        form_labels,
        position,
    )
    for array in arrays:
        array.setflags(write=False)
    features = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return Digits(*arrays, features, tuple(f"row{row:04d}" for row in range(len(digit))))
