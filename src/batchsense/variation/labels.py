"""Labels as codes: which observation belongs to which level."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchsense.arrays import Floats, Places
from batchsense.errors import DataError, listed


@dataclass(frozen=True, slots=True)
class Levels:
    """The distinct labels, sorted, and the index of each observation's label among them."""

    levels: tuple[Hashable, ...]
    codes: Places

    @property
    def counts(self) -> Places:
        """Number of observations per level."""
        return np.bincount(self.codes, minlength=len(self.levels))

    @property
    def indicators(self) -> Floats:
        """One column of zeros and ones per level."""
        return np.eye(len(self.levels))[self.codes]


def levels_of(labels: ArrayLike, name: str = "labels") -> Levels:
    """Find the levels of labels; refuse missing ones.

    Labels that cannot be compared with each other are sorted by their text.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) == 0:
        raise DataError(
            f"{name} have shape {array.shape}; give one label per observation, at least one"
        )
    values = _as_text(array) if array.dtype.kind == "M" else array.tolist()
    missing = [row for row, label in enumerate(values) if _is_missing(label)]
    if missing:
        raise DataError(f"{name} are missing in rows {listed(missing)}; give every observation one")
    distinct = set(values)
    try:
        ordered = sorted(distinct)
    except TypeError:
        ordered = sorted(distinct, key=lambda label: (str(label), type(label).__name__))
    index = {label: code for code, label in enumerate(ordered)}
    codes = np.fromiter((index[label] for label in values), dtype=np.intp, count=len(values))
    return Levels(tuple(ordered), codes)


def _as_text(moments: NDArray[np.datetime64]) -> list[str | None]:
    """Dates as text, None where missing (numpy would give nanoseconds as integers)."""
    texts = np.datetime_as_string(moments, unit="auto").tolist()
    return [None if gone else text for text, gone in zip(texts, np.isnat(moments), strict=True)]


def _is_missing(label: object) -> bool:
    """Tell None, NaN, NaT and pandas' NA, whose comparison has no truth value."""
    try:
        return label is None or bool(label != label)
    except TypeError:
        return True


def table_of_counts(rows: Levels, columns: Levels) -> Places:
    """Cross-tabulate two labels of the same observations."""
    if len(rows.codes) != len(columns.codes):
        raise DataError(
            f"{len(rows.codes)} labels against {len(columns.codes)}; give one of each kind per"
            " observation"
        )
    shape = (len(rows.levels), len(columns.levels))
    cells = np.ravel_multi_index((rows.codes, columns.codes), shape)
    return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
