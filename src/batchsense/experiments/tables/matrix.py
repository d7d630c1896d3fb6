"""A matrix as its file has it, before the sheet tells which axis holds the specimens."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.text import why_no_number
from batchsense.notes import Note

#: Suffixes of matrices and sheets, with what separates the cells of a text file.
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
KNOWN = (
    ".csv, .tsv, .txt (each also .gz), .parquet, .xlsx; for matrices also .h5ad, .zarr and folders "
    "with a matrix.mtx"
)
#: A sparse matrix is unfolded up to this size unless the user wants more. Chosen, not measured: a
#: correction holds a few arrays of this size, and a laptop of 16 GB has room for them.
DENSE_LIMIT_GB = 4.0
#: Whole numbers beyond this are no longer exact in double precision.
LARGEST_EXACT = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class RawMatrix:
    """Numbers with an id for each row and column, in the layout of the file.

    Attributes
    ----------
    values : array of shape (rows, columns)
        The numbers; NaN where a cell is empty.
    row_ids, column_ids : tuple of str
        The ids.
    corner : str or None
        Header text above the row ids.
    dtype : str
        Type of the numbers in the file: ``"float32"``, ``"float64"`` or that of whole numbers.
    notes : tuple of Note
        What was passed over, and which reading was taken.
    labels : mapping of str to tuple
        Columns of labels between the ids and the numbers, where sheet and matrix are one table.
    """

    values: Floats
    row_ids: tuple[str, ...]
    column_ids: tuple[str, ...]
    corner: str | None = "id"
    dtype: str = "float64"
    notes: tuple[Note, ...] = ()
    labels: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)


def suffix_of(path: str | Path) -> str:
    """The suffix that tells the format, without ``.gz``; ``.mtx`` for a folder of that kind.

    Examples
    --------
    >>> suffix_of("matrix.tsv.gz"), suffix_of("m.h5ad")
    ('.tsv', '.h5ad')
    """
    target = Path(path)
    if target.suffix.lower() == ".gz":
        target = target.with_suffix("")
    suffix = target.suffix.lower()
    if suffix not in (".zarr", ".mtx") and any(
        (target / name).is_file() for name in ("matrix.mtx", "matrix.mtx.gz")
    ):
        return ".mtx"
    return suffix


def dense(values: Any, where: str, densify: bool = False, copy: bool = True) -> tuple[Floats, str]:
    """Numbers as a dense array in double precision, and the name of the type that they had.

    A sparse matrix is unfolded up to 4 GB, or whatever its size with ``densify``. The name is
    ``"float64"`` where the original type cannot hold results.

    Raises
    ------
    DataError
        Not numbers, whole numbers that double precision cannot hold, or a sparse matrix that would
        take more than 4 GB.

    Examples
    --------
    >>> dense(np.array([[1, 2]], dtype=np.int32), "m")
    (array([[1., 2.]]), 'int32')
    """
    original, kind = values.dtype, values.dtype.kind
    if kind not in "fiu":
        raise DataError(f"the matrix holds {values.dtype}, not numbers", where=where)
    if hasattr(values, "toarray"):
        refuse_unfolding(values.shape, where, densify)
        values = values.astype(np.float64).toarray() if kind == "f" else values.toarray()
    array = np.asarray(values)
    if (
        kind in "iu"
        and array.size
        and max(abs(int(array.max())), abs(int(array.min()))) > (LARGEST_EXACT)
    ):
        raise DataError("whole numbers beyond 2⁵³ are not exact in double precision", where=where)
    known = kind in "iu" or original == np.float32
    # Read-only arrays and those with gaps would make compiled code be compiled again.
    copy = copy or not (array.flags.writeable and array.flags.forc)
    return array.astype(np.float64, copy=copy), original.name if known else "float64"


def refuse_unfolding(shape: tuple[int, ...], where: str, densify: bool) -> None:
    """Refuse a sparse matrix that would take more than 4 GB, unless ``densify`` says so."""
    gigabytes = math.prod(shape) * 8 / 1e9
    if gigabytes > DENSE_LIMIT_GB and not densify:
        raise DataError(
            f"the matrix is sparse, and a correction makes it dense: {gigabytes:.1f} GB (limit "
            f"{DENSE_LIMIT_GB:g} GB). Select features first, say --densify (densify=True) if "
            "there is so much memory, or correct an .h5ad or .zarr on disk (--out-of-core)",
            where=where,
        )


#: Numbers that take so many times the room of their file are packed (constant, or mostly zero), and
#: then held to the limit of sparse matrices. Text takes less than 8 times, Parquet of measured
#: values about once, of counts rarely more than 20 times.
PACKED = 50


def refuse_packed(
    shape: tuple[int, ...], path: str | Path, densify: bool = False, size: int | None = None
) -> None:
    """Refuse a small file that unfolds to a large matrix, unless ``densify`` says so.

    Parameters
    ----------
    shape : tuple of int
        The matrix, or what was read of it.
    path : path
        The file.
    densify : bool
        Whether the user knows.
    size : int, optional
        Bytes that it takes on the disk, where they are not those of the file.

    Raises
    ------
    DataError
        More than 4 GB, and more than 50 times the file.
    """
    unfolded = 8 * math.prod(shape)
    if densify or unfolded <= DENSE_LIMIT_GB * 1e9:
        return
    if unfolded > PACKED * (os.path.getsize(path) if size is None else size):
        raise DataError(
            f"it unfolds to {unfolded / 1e9:.1f} GB or more (limit {DENSE_LIMIT_GB:g} GB for a "
            "file so small). Select features first, or say --densify (densify=True) if there is "
            "so much memory",
            where=str(path),
        )


def stored(values: Floats, dtype: str) -> npt.NDArray[Any]:
    """The values in the type of their input, or in double precision where that loses something.

    Examples
    --------
    >>> (
    ...     stored(np.array([1.0, 2.0]), "int32").dtype.name,
    ...     stored(np.array([1.5]), "int32").dtype.name,
    ... )
    ('int32', 'float64')
    """
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    # NaN fails the first comparison.
    if ((values >= limits.min) & (values <= limits.max) & (values == np.rint(values))).all():
        return values.astype(dtype)
    return values


def refuse_text(where: str, cell: str, row: str, column: str) -> DataError:
    """Make the error for a cell that is not a number."""
    reason = why_no_number(cell) or (
        "the matrix may hold only ids and numbers (empty or NA where missing). Of one wide table, "
        "name the columns that are no features: --sheet-columns"
    )
    return DataError(
        f"row {row!r}, column {column!r} holds {shortened(cell)}, which is not a number; {reason}",
        where=where,
    )


def shortened(text: str, length: int = 40) -> str:
    """Quote a text, cut where it is long.

    Examples
    --------
    >>> shortened("abc"), shortened("abcdef", 4)
    ("'abc'", "'abc…'")
    """
    return repr(text if len(text) <= length else text[: length - 1] + "…")


def check_ids(ids: tuple[str, ...], axis: str, where: str) -> None:
    """Refuse an axis with an empty id."""
    empty = [str(place + 1) for place, name in enumerate(ids) if not name.strip()]
    if empty:
        raise DataError(f"{axis} without an id: number {listed(empty)}", where=where)


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """A column name that no other column has.

    Examples
    --------
    >>> free_name("id", ["id", "id_"]), free_name("id", ["drug"])
    ('id__', 'id')
    """
    others = set(taken)
    while wanted in others:
        wanted += "_"
    return wanted


#: The squares of larger numbers, summed up, no longer fit double precision, which ends at 1.8e308:
#: this leaves room for 1e8 terms.
LARGEST = 1e150
#: The squares of much smaller ones are zero or have lost digits: below 2.2e-308.
SMALLEST = 1e-150


def refuse_magnitude(sizes: Floats, names: list[str], where: str) -> None:
    """Refuse, by name, columns whose largest absolute value (NaN if missing) cannot be squared.

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
