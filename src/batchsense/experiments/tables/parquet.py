"""Matrices and sheets as Parquet: ids in the index or in the first column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, MissingExtraError
from batchsense.experiments.row_labels import refuse_levels
from batchsense.experiments.tables.delimited import named_columns
from batchsense.experiments.tables.matrix import (
    RawMatrix,
    check_ids,
    free_name,
    refuse_packed,
    refuse_text,
    stored,
)
from batchsense.experiments.tables.table import Column
from batchsense.experiments.tables.text import label_text

if TYPE_CHECKING:
    import pandas as pd

#: A text takes the room of about eight numbers.
_ID = 8
_DECLARED = {"category", "bool", "boolean"}


def read_matrix(path: str | Path, densify: bool = False) -> RawMatrix:
    """Read a matrix; row ids in its index, or in its first column if the index only counts.

    Raises
    ------
    DataError
        The file cannot be read, unfolds to more than 4 GB without ``densify``, or a column holds
        something else than numbers.
    MissingExtraError
        pyarrow is not installed.
    """
    where = str(path)
    frame = _ids_first(_read(path, densify), where)
    if frame.shape[0] < 1 or frame.shape[1] < 2:
        raise DataError("the matrix holds no numbers", where=where)
    columns = tuple(str(name) for name in frame.columns[1:])
    row_ids = tuple(label_text(value) or "" for value in frame.iloc[:, 0])
    check_ids(row_ids, "row", where)
    # In the order in which the columns come, where they are long.
    order: Literal["C", "F"] = "F" if len(row_ids) > len(columns) else "C"
    values = np.empty((len(row_ids), len(columns)), order=order)
    for place, name in enumerate(columns):
        values[:, place] = _numeric(frame.iloc[:, place + 1], name, row_ids, where)
    kinds = {str(dtype) for dtype in frame.dtypes.iloc[1:]}
    same = kinds.pop() if len(kinds) == 1 else "float64"
    known = same == "float32" or same.lstrip("u").startswith("int")
    return RawMatrix(values, row_ids, columns, str(frame.columns[0]), same if known else "float64")


def read_sheet(path: str | Path) -> tuple[dict[str, Column], frozenset[str]]:
    """Read a sheet, and which of its columns are of categorical or boolean type.

    A named or non-counting index becomes the first column; None where a label is missing.

    Raises
    ------
    DataError
        The file cannot be read or is empty.
    MissingExtraError
        pyarrow is not installed.
    """
    frame = _ids_first(_read(path), str(path))
    if frame.empty:
        raise DataError("the sheet is empty; give one row per specimen", where=str(path))
    return sheet_of(frame, str(path))


def sheet_of(frame: pd.DataFrame, where: str) -> tuple[dict[str, Column], frozenset[str]]:
    """Turn a data frame into sheet columns, and name those of categorical or boolean type."""
    names = named_columns([str(name).strip() for name in frame.columns], where)
    sheet = {
        name: tuple(label_text(value) for value in frame.iloc[:, place])
        for place, name in enumerate(names)
    }
    kinds = [str(dtype) for dtype in frame.dtypes]
    declared = [n for n, kind in zip(names, kinds, strict=True) if kind in _DECLARED]
    return sheet, frozenset(declared)


def _read(path: str | Path, densify: bool = False) -> pd.DataFrame:
    """Read a file, or a folder of parts; a text that is repeated stays one object."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("Parquet files", "experiments") from None
    # As a path, never an address that pyarrow would open.
    target = Path(path)
    try:
        parts = sorted(target.rglob("*.parquet")) if target.is_dir() else [target]
        texts = {name for part in parts for name in _looked_at(part, densify)}
        frame = parquet.read_table(target, read_dictionary=sorted(texts)).to_pandas()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", str(path)) from None
    except (ArrowException, ValueError) as error:
        raise DataError(f"not a Parquet file: {error}", where=str(path)) from None
    return _texts_as_objects(frame, texts)


def _texts_as_objects(frame: pd.DataFrame, texts: set[str]) -> pd.DataFrame:
    """Columns and index levels of text, which came as categories, as what they are."""
    import pandas as pd

    for name in frame.columns:
        if name in texts:
            frame[name] = frame[name].astype(object)
    if isinstance(frame.index, pd.MultiIndex):
        levels: Any = [level.astype(object) for level in frame.index.levels]
        frame.index = frame.index.set_levels(levels)
    elif isinstance(frame.index, pd.CategoricalIndex) and (
        frame.index.name in texts or "__index_level_0__" in texts
    ):
        frame.index = frame.index.astype(object)
    return frame


def _looked_at(path: Path, densify: bool) -> list[str]:
    """Judge a file by what it says it unfolds to; name its columns of text."""
    from pyarrow import parquet, types

    schema, found = parquet.read_schema(path), parquet.read_metadata(path)
    groups = [found.row_group(place) for place in range(found.num_row_groups)]
    refuse_packed((sum(group.total_byte_size for group in groups) // 8,), path, densify)
    refuse_packed((found.num_rows, found.num_columns + _ID), path, densify)
    return [
        one.name for one in schema if types.is_string(one.type) or types.is_large_string(one.type)
    ]


def _ids_first(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    import pandas as pd

    refuse_levels(frame.index, where)
    refuse_levels(frame.columns, where, "header")
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return frame
    wanted = "id" if frame.index.name is None else str(frame.index.name)
    name = free_name(wanted, map(str, frame.columns))
    return frame.reset_index(names=name)


def _numeric(column: pd.Series, name: str, row_ids: tuple[str, ...], where: str) -> Floats:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    for row, value in zip(row_ids, column, strict=True):
        if isinstance(value, bool | np.bool_) or (
            not isinstance(value, int | float | np.number) and not pd.isna(value)
        ):
            raise refuse_text(where, str(value), row, name)
    return np.asarray(column.astype("float64"), dtype=np.float64)


def write_matrix(path: str | Path, matrix: RawMatrix) -> None:
    """Write a matrix in its ``dtype``, ids in the first column.

    Raises
    ------
    MissingExtraError
        pyarrow is not installed.
    """
    import pandas as pd

    frame = pd.DataFrame(stored(matrix.values, matrix.dtype), columns=list(matrix.column_ids))
    for name, entries in reversed(list(matrix.labels.items())):
        frame.insert(0, name, list(entries))
    frame.insert(0, free_name(matrix.corner or "id", frame.columns), list(matrix.row_ids))
    texts = [str(name) for name in frame.columns[: 1 + len(matrix.labels)]]
    # A dictionary of measured values would be given up after some work: few are equal.
    repeated = True if frame.dtypes.iloc[-1].kind in "iu" else texts
    try:
        frame.to_parquet(path, engine="pyarrow", index=False, use_dictionary=repeated)
    except ImportError:
        raise MissingExtraError("Parquet files", "experiments") from None
