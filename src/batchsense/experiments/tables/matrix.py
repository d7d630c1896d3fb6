"""A matrix as its file has it, before the sheet tells which axis holds the specimens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchsense.errors import DataError, listed

#: Suffixes of matrices and sheets, with what separates the cells of a text file.
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
KNOWN = ".csv, .tsv, .txt (each also .gz), .parquet and, for matrices, .h5ad"


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
        ``"float32"`` or ``"float64"``.
    """

    values: npt.NDArray[np.float64]
    row_ids: tuple[str, ...]
    column_ids: tuple[str, ...]
    corner: str | None = "id"
    dtype: str = "float64"


def suffix_of(path: str | Path) -> str:
    """Give the suffix that tells the format, without ``.gz``.

    Examples
    --------
    >>> suffix_of("matrix.tsv.gz"), suffix_of("m.h5ad")
    ('.tsv', '.h5ad')
    """
    target = Path(path)
    if target.suffix.lower() == ".gz":
        target = target.with_suffix("")
    return target.suffix.lower()


def refuse_text(where: str, cell: str, row: str, column: str) -> DataError:
    """Make the error for a cell that is not a number."""
    return DataError(
        f"row {row!r}, column {column!r} holds {shortened(cell)}, which is not a number; the "
        "matrix may hold only ids and numbers (empty or NA where missing)",
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
    """Give a column name that no other column has.

    Examples
    --------
    >>> free_name("id", ["id", "id_"]), free_name("id", ["drug"])
    ('id__', 'id')
    """
    others = set(taken)
    while wanted in others:
        wanted += "_"
    return wanted
