"""Rows of Parquet files: whole row groups are read, which are what such a file stores together."""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsense.arrays import Matrix
from batchsense.errors import DataError, MissingExtraError, listed
from batchsense.storage.rows.fingerprint import Stamp
from batchsense.storage.rows.source import (
    Field,
    Fill,
    Room,
    Rows,
    RowSource,
    Span,
    count_rows,
    refuse_empty,
)

#: Bytes of a Python text beside its letters, and of the reference to it.
_TEXT = 64


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are stored together.

    Attributes
    ----------
    file : str
        Where they lie.
    number : int
        Which of the file, from 0.
    begins : int
        How many rows of the table come before.
    rows, unpacked : int
        How many there are, and the bytes of the chosen columns.
    """

    file: str
    number: int
    begins: int
    rows: int
    unpacked: int

    @property
    def place(self) -> str:
        """Its name in words, counted from 1."""
        return f"{self.file}, row group {self.number + 1}"


@dataclass(frozen=True)
class ParquetRows(RowSource):
    """Rows of one Parquet file, or of all files of a folder in the order of their names.

    Attributes
    ----------
    groups : tuple of RowGroup
        In order.
    """

    groups: tuple[RowGroup, ...]

    @classmethod
    def of(cls, path: str | Path, columns: Sequence[str] | None = None) -> ParquetRows:
        """Look at the foot of the files.

        Raises
        ------
        DataError
            A file cannot be read or is cut short, has other columns than the first, or a chosen
            column holds neither numbers, lists of one length, nor texts.
        MissingExtraError
            pyarrow is not installed.
        """
        target, where = Path(path), str(path)
        stamp = Stamp.of(path)
        files = sorted(target.rglob("*.parquet")) if target.is_dir() else [target]
        opened = [(str(file), _foot(str(file))) for file in files]
        schema = opened[0][1].schema_arrow
        names = _chosen(schema.names, columns, where)
        groups: list[RowGroup] = []
        begins = 0
        for file, foot in opened:
            if not foot.schema_arrow.equals(schema):
                raise DataError(f"its columns differ from those of {files[0]}", where=file)
            for number in range(foot.metadata.num_row_groups):
                group = foot.metadata.row_group(number)
                bytes_of = _bytes_of(group, names)
                groups.append(RowGroup(file, number, begins, group.num_rows, bytes_of))
                begins += group.num_rows
        refuse_empty(where, begins)
        groups = [group for group in groups if group.rows]
        largest = max(groups, key=lambda group: group.unpacked)
        fields = tuple(_field(schema.field(name), groups[0], where) for name in names)
        return cls(
            path=where,
            rows=begins,
            fields=fields,
            unit=max(group.rows for group in groups),
            unit_bytes=largest.unpacked + largest.rows * sum(one.row_bytes for one in fields),
            unit_place=largest.place,
            stamp=stamp,
            groups=tuple(groups),
        )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Fill]:
        room = Room()
        with contextlib.ExitStack() as stack:
            files: dict[str, Any] = {}

            def file_of(group: RowGroup) -> Any:
                if group.file not in files:
                    files[group.file] = stack.enter_context(_foot(group.file))
                return files[group.file]

            yield lambda spans: self._filled(file_of, room, spans)

    def _filled(self, file_of: Any, room: Room, spans: Sequence[Span]) -> Rows:
        total = count_rows(spans)
        held = {one.name: room.get(one.name, one.dtype, (total, *one.shape)) for one in self.fields}
        at = 0
        last: tuple[RowGroup, dict[str, Matrix]] | None = None
        starts = [group.begins for group in self.groups]
        for low, high in spans:
            first = bisect_right(starts, low) - 1
            beyond = bisect_left(starts, high)
            for group in self.groups[first:beyond]:
                if last is None or last[0] is not group:
                    last = None  # before the next is unpacked
                    last = group, self._unpacked(file_of(group), group)
                begin, end = max(low - group.begins, 0), min(high - group.begins, group.rows)
                for name, values in last[1].items():
                    held[name][at : at + end - begin] = values[begin:end]
                at += end - begin
        return Rows(held)

    def _unpacked(self, file: Any, group: RowGroup) -> dict[str, Matrix]:
        from pyarrow import ArrowException

        try:
            table = file.read_row_group(
                group.number, columns=[one.name for one in self.fields], use_threads=False
            )
        except (ArrowException, OSError) as error:
            raise DataError(f"cannot be read: {error}", where=group.place) from None
        if table.num_rows != group.rows:
            raise DataError("holds another number of rows than it says", where=group.place)
        return {one.name: _numbers(table[one.name], one, group) for one in self.fields}


def _foot(path: str) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("Parquet files", "streaming") from None
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"not a Parquet file, or cut short: {error}", where=path) from None


def _chosen(known: Sequence[str], columns: Sequence[str] | None, where: str) -> list[str]:
    if repeated := [name for name in known if list(known).count(name) > 1]:
        raise DataError(f"several columns are called {repeated[0]!r}", where=where)
    names = list(known if columns is None else columns)
    for name in names:
        if name not in known:
            raise DataError(f"no column {name!r}; there are {listed(known)}", where=where)
    return names


def _bytes_of(group: Any, names: Sequence[str]) -> int:
    columns = [group.column(number) for number in range(group.num_columns)]
    return sum(
        one.total_uncompressed_size for one in columns if one.path_in_schema.split(".")[0] in names
    )


def _field(field: Any, group: RowGroup, where: str) -> Field:
    from pyarrow import types

    kind = field.type
    if types.is_fixed_size_list(kind) and _is_number(kind.value_type):
        dtype = np.dtype(kind.value_type.to_pandas_dtype())
        return Field.dense(field.name, dtype, (kind.list_size,))
    if _is_number(kind):
        return Field.dense(field.name, np.dtype(kind.to_pandas_dtype()))
    if types.is_list(kind) and _is_number(kind.value_type):
        return _list_field(field, group, where)
    if _is_text(kind):
        return Field(field.name, np.dtype(object), (), _TEXT + _length_of_text(field.name, group))
    raise DataError(
        f"column {field.name!r} holds {kind}, neither numbers nor texts; choose other columns",
        where=where,
    )


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(inner) or types.is_large_string(inner))


def _first_of(name: str, group: RowGroup) -> Any:
    return _foot(group.file).read_row_group(group.number, columns=[name])[name].combine_chunks()


def _list_field(field: Any, group: RowGroup, where: str) -> Field:
    """Lists of any length in the schema, which must be of one length in the rows."""
    import pyarrow.compute

    lengths = pyarrow.compute.list_value_length(_first_of(field.name, group)).unique().to_pylist()
    if len(lengths) != 1 or lengths[0] is None:
        raise DataError(
            f"column {field.name!r} holds lists of different lengths; fill them up to one length",
            where=where,
        )
    dtype = np.dtype(field.type.value_type.to_pandas_dtype())
    return Field.dense(field.name, dtype, (lengths[0],))


def _length_of_text(name: str, group: RowGroup) -> int:
    import pyarrow.compute

    values = _first_of(name, group)
    if pyarrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    lengths = pyarrow.compute.binary_length(values)
    return int(pyarrow.compute.mean(lengths).as_py() or 0) + 1


def _numbers(column: Any, field: Field, group: RowGroup) -> Matrix:
    """One column of a row group as an array; texts that repeat are one object."""
    import pyarrow

    if field.dtype == object:
        if not pyarrow.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        decoded: Matrix = column.to_pandas().astype(object).to_numpy()
        return decoded
    missing = column.null_count
    if field.shape:
        lists = column.combine_chunks()
        inner = lists.flatten()
        missing += inner.null_count * (field.dtype.kind != "f")
        if not missing and len(inner) != len(lists) * field.shape[0]:
            raise DataError(f"lists of {field.name!r} differ in length", where=group.place)
        column = inner
    if missing and (field.shape or field.dtype.kind != "f"):
        raise DataError(
            f"column {field.name!r} misses {missing} values and has no way to say so in numbers "
            f"of type {field.dtype}; fill them first",
            where=group.place,
        )
    return (
        np.asarray(column.to_numpy(zero_copy_only=False))
        .astype(field.dtype, copy=False)
        .reshape(-1, *field.shape)
    )
