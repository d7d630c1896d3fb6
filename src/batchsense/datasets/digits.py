"""Handwritten digits, shipped with scikit-learn: the real data that both sides start from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError

#: Digits on the preprinted form: each of the ten thirteen times.
FORM_LENGTH = 130

#: First row of each form in scikit-learn's digits, as :func:`form_starts` derives them.
FORM_STARTS: tuple[int, ...] = (
    0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class FormAlignment:
    """The rows aligned to a repeated form.

    Attributes
    ----------
    starts : array of shape (forms,)
        First row of each form.
    edits : int
        Rows missing, rows too many and digits that differ, over the whole data.
    template : array of shape (length,)
        The digits printed on the form.
    """

    starts: Integers
    edits: int
    template: Integers


def form_starts(target: npt.ArrayLike, length: int = FORM_LENGTH, forms: int = 14) -> Integers:
    """Derive the first row of each form from the order of the digits; see :func:`align_forms`.

    Examples
    --------
    Three copies of a form of five digits, one digit of the second copy lost:

    >>> rows = [3, 1, 4, 1, 5] + [3, 1, 1, 5] + [3, 1, 4, 1, 5]
    >>> form_starts(rows, length=5, forms=3)
    array([0, 5, 9])
    """
    return align_forms(target, length, forms).starts


def align_forms(target: npt.ArrayLike, length: int = FORM_LENGTH, forms: int = 14) -> FormAlignment:
    r"""Align the rows to a form repeated ``forms`` times, with the fewest edits.

    The form is the most frequent window of ``length`` digits. With :math:`F_{ij}` the edit
    distance of the first i rows to the first j printed digits and :math:`G_{ij}` that of the rests,
    form k may begin at row i exactly if :math:`F_{i,Lk} + G_{i,Lk}` equals the least total.

    Parameters
    ----------
    target : array of shape (rows,)
        The digit of each row, in the order of the file.
    length : int
        Digits on one form (L).
    forms : int
        How many forms there are.

    Raises
    ------
    DataError
        No window is the most frequent one, or a form could begin at several rows.

    References
    ----------
    Wagner and Fischer (1974), "The string-to-string correction problem".

    Examples
    --------
    >>> align_forms([3, 1, 4, 1, 5, 3, 1, 1, 5, 3, 1, 4, 1, 5], length=5, forms=3).edits
    1
    """
    rows = np.asarray(target, dtype=np.int64)
    template = _most_frequent_window(rows, length)
    printed = np.tile(template, forms)
    forward = _edit_table(rows, printed)
    # Unit costs only: with substitutions at cost 2 one boundary of the digits becomes ambiguous.
    backward = _edit_table(rows[::-1], printed[::-1])[::-1, ::-1]
    edits = int(forward[-1, -1])
    on_best_path = (forward + backward)[:, ::length] == edits
    if (on_best_path.sum(axis=0) != 1).any():
        ambiguous = np.flatnonzero(on_best_path.sum(axis=0) != 1).tolist()
        raise DataError(
            f"the order of the rows leaves the start of form {ambiguous[0]} open; "
            f"check length={length} and forms={forms}"
        )
    return FormAlignment(on_best_path.argmax(axis=0)[:-1], edits, template)


def form_of_rows(rows: int, starts: Sequence[int] = FORM_STARTS) -> tuple[Integers, Integers]:
    """The form of each row and the row's place within its form, both from 0.

    ``starts`` ascends from 0. The place equals the printed position on forms without a missing row.
    """
    first = np.asarray(starts, dtype=np.int64)
    row = np.arange(rows, dtype=np.int64)
    form_labels = np.searchsorted(first, row, side="right").astype(np.int64) - 1
    return form_labels, row - first[form_labels]


def _most_frequent_window(rows: Integers, length: int) -> Integers:
    if len(rows) < length:
        raise DataError(f"{len(rows)} rows are fewer than one form of {length} digits")
    windows = Counter(rows[i : i + length].tobytes() for i in range(len(rows) - length + 1))
    commonest = windows.most_common(2)
    if len(commonest) == 2 and commonest[0][1] == commonest[1][1]:
        raise DataError(
            f"no sequence of {length} digits is more frequent than every other; "
            "the rows seem not to be in the order of the file"
        )
    return np.frombuffer(commonest[0][0], dtype=np.int64)


def _edit_table(rows: Integers, printed: Integers) -> npt.NDArray[np.int32]:
    columns = np.arange(len(printed) + 1, dtype=np.int32)
    table = np.empty((len(rows) + 1, len(columns)), dtype=np.int32)
    table[0] = columns
    for i, digit in enumerate(rows, start=1):
        best = table[i - 1] + 1
        best[1:] = np.minimum(best[1:], table[i - 1, :-1] + (printed != digit))
        # A missing row costs 1 per column, so d[j] = min over k ≤ j of best[k] + (j - k).
        table[i] = np.minimum.accumulate(best - columns) + columns
    return table


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
