"""Matrices and sheets as Parquet: ids in the index or in the first column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, MissingExtraError
from batchsense.experiments.row_labels import refuse_levels
from batchsense.experiments.tables.arrow.arrays import array_of, strings_of, values_of
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
#: Kinds of headings that are the same as names of fields.
_PLAIN_HEADING = ("unicode", "string", "empty")
_FLOATS = {"float": "float32", "double": "float64"}
#: Types of pandas that declare labels.
DECLARED = {"category", "bool", "boolean"}


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
    plain = _read_plain(path, densify)
    if plain is not None:
        check_ids(plain.row_ids, "row", where)
        return plain
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
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    declared = [str(dtype) in DECLARED for dtype in frame.dtypes]
    return sheet_columns([str(name) for name in frame.columns], columns, declared, where)


def sheet_columns(
    headings: Sequence[str], columns: Iterable[Iterable[Any]], declared: Sequence[bool], where: str
) -> tuple[dict[str, Column], frozenset[str]]:
    """The same of columns of Python values, and whether each is categorical or boolean."""
    names = named_columns([heading.strip() for heading in headings], where)
    sheet = {name: _texts(entries) for name, entries in zip(names, columns, strict=True)}
    return sheet, frozenset(name for name, is_so in zip(names, declared, strict=True) if is_so)


def _read_plain(path: str | Path, densify: bool) -> RawMatrix | None:
    """Read one file of ids and numbers without pandas; None where there is more to it."""
    with _told_plainly(path):
        from pyarrow import parquet

        target = Path(path)
        if target.is_dir():
            return None
        schema = parquet.read_schema(target)
        try:
            index = _index_of(schema)
        except (LookupError, TypeError, ValueError):  # notes that do not fit the columns
            index = None
        if index is None:
            return None
        place, heading = index
        numbers = [k for k in range(len(schema)) if k != place]
        if not numbers or not all(_is_number(schema.field(k).type) for k in numbers):
            return None
        texts = _looked_at(target, densify)
        table = parquet.ParquetFile(target, read_dictionary=texts).read()
        names = [schema.field(k).name for k in numbers]
        row_ids = tuple(label_text(value) or "" for value in table.column(place).to_pylist())
        if not row_ids:
            return None
        order: Literal["C", "F"] = "F" if len(row_ids) > len(names) else "C"
        values, kinds = np.empty((len(row_ids), len(names)), order=order), set()
        for to, k in enumerate(numbers):
            column = table.column(k)
            values[:, to] = np.concatenate([values_of(chunk) for chunk in column.chunks])
            whole = str(column.type).lstrip("u").startswith("int") and not column.null_count
            kinds.add(str(column.type) if whole else _FLOATS.get(str(column.type), "float64"))
    dtype = kinds.pop() if len(kinds) == 1 else "float64"
    return RawMatrix(values, row_ids, tuple(names), free_name(heading, names), dtype)


def _index_of(schema: Any) -> tuple[int, str] | None:
    """The column of ids and its heading, by what pandas noted; None where that is not plain."""
    noted = schema.pandas_metadata or {"index_columns": [], "column_indexes": []}
    plain = all(one["pandas_type"] in _PLAIN_HEADING for one in noted["column_indexes"])
    if not plain or len(noted["column_indexes"]) > 1 or len(noted["index_columns"]) > 1:
        return None
    place, heading = 0, str(schema.names[0]) if schema.names else ""
    for index in noted["index_columns"]:
        if isinstance(index, dict):
            if index.get("kind") != "range" or index.get("name") is not None:
                return None
            continue
        place = schema.names.index(index)
        own = {one["field_name"]: one["name"] for one in noted["columns"]}[index]
        heading = "id" if own is None else str(own)
    kind = str(schema.field(place).type)
    return (place, heading) if kind.lstrip("u").startswith(("int", "string", "large_s")) else None


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _texts(labels: Any) -> Column:
    """Labels as text, those of categories once for each."""
    if str(getattr(labels, "dtype", "")) != "category":
        return tuple(map(label_text, labels))
    texts = [*map(label_text, labels.cat.categories), None]
    return tuple(texts[code] for code in labels.cat.codes)


def _read(path: str | Path, densify: bool = False) -> pd.DataFrame:
    """Read a file, or a folder of parts; a text that is repeated stays one object."""
    with _told_plainly(path):
        from pyarrow import parquet

        # As a path, never an address that pyarrow would open.
        target = Path(path)
        parts = sorted(target.rglob("*.parquet")) if target.is_dir() else [target]
        texts = {name for part in parts for name in _looked_at(part, densify)}
        frame = parquet.read_table(target, read_dictionary=sorted(texts)).to_pandas()
    return _texts_as_objects(frame, texts)


@contextmanager
def _told_plainly(path: str | Path) -> Iterator[None]:
    try:
        from pyarrow import ArrowException
    except ImportError:
        raise MissingExtraError("Parquet files", "experiments") from None
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", str(path)) from None
    except (ArrowException, ValueError) as error:
        raise DataError(f"not a Parquet file: {error}", where=str(path)) from None
    except (LookupError, TypeError) as error:  # as pandas stumbles over them
        raise DataError(
            f"the notes of pandas in the file do not fit its columns ({error!r}); write it anew",
            where=str(path),
        ) from None


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
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Parquet files", "experiments") from None
    values = stored(matrix.values, matrix.dtype)
    heading = free_name(matrix.corner or "id", [*matrix.labels, *matrix.column_ids])
    texts = {heading: matrix.row_ids, **matrix.labels}
    numbers = (np.ascontiguousarray(column) for column in values.T)
    arrays = [strings_of(entries) for entries in texts.values()]
    arrays += [array_of(column, column != column) for column in numbers]
    # A dictionary of measured values would be given up after some work: few are equal.
    repeated = True if values.dtype.kind in "iu" else [*texts]
    table = pa.Table.from_arrays(arrays, names=[*texts, *matrix.column_ids])
    parquet.write_table(table, path, use_dictionary=repeated)
