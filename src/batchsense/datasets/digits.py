"""Handwritten digits, shipped with scikit-learn: the real data that both sides start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats, Integers

#: First row of each form in scikit-learn's digits, as `tests/built_in_data/test_forms.py` derives
#: them from the order of the rows.
FORM_STARTS: tuple[int, ...] = (
    0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667,
)  # fmt: skip


def form_of_rows(rows: int, starts: Sequence[int] = FORM_STARTS) -> tuple[Integers, Integers]:
    """The form of each row and the row's place within its form, both from 0.

    ``starts`` ascends from 0. The place equals the printed position on forms without a missing row.
    """
    first = np.asarray(starts, dtype=np.int64)
    row = np.arange(rows, dtype=np.int64)
    form_labels = np.searchsorted(first, row, side="right").astype(np.int64) - 1
    return form_labels, row - first[form_labels]


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
    """Load the digits and their forms, read-only; no download, the same object every time.

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
    observations, digit = _rows_of_scikit_learn()
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


def _rows_of_scikit_learn() -> tuple[Floats, Integers]:
    """Read scikit-learn's file; importing scikit-learn takes a second, reading the file nothing."""
    package = find_spec("sklearn")
    folder = Path(package.origin).parent if package and package.origin else Path()
    file = folder / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits as load_from_sklearn

    observations, digit = load_from_sklearn(return_X_y=True)
    return observations, digit
