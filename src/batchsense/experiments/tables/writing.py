"""Write a result in the layout of its input, in one piece or not at all."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from batchsense.errors import DataError
from batchsense.experiments.tables import annotated, parquet
from batchsense.experiments.tables.matrix import DELIMITERS, KNOWN, RawMatrix, suffix_of
from batchsense.experiments.tables.table import Table


def check_format(source: str, output: str | Path) -> None:
    """Refuse, before any work, an output whose format does not suit the input.

    Parameters
    ----------
    source : str
        Path of the input matrix (or a description of it).
    output : path
        Where the result shall go.

    Raises
    ------
    DataError
        An unknown kind of file, an AnnData output without an AnnData input, or the reverse.

    Examples
    --------
    >>> check_format("in.csv", "out.h5ad")
    Traceback (most recent call last):
    batchsense.errors.DataError: out.h5ad: an .h5ad result needs an .h5ad input; name a text or ...
    """
    kinds = [*DELIMITERS, ".parquet"]
    wanted, given = suffix_of(output), suffix_of(source)
    if wanted not in [*kinds, ".h5ad"]:
        raise DataError(f"unknown kind of file {wanted!r}; known: {KNOWN}", where=str(output))
    if wanted == ".h5ad" and given != ".h5ad":
        raise DataError(
            "an .h5ad result needs an .h5ad input; name a text or Parquet file",
            where=str(output),
        )
    if given == ".h5ad" and wanted != ".h5ad":
        raise DataError(
            "the result of an .h5ad input is a layer beside its X; name an .h5ad file",
            where=str(output),
        )


def write(
    table: Table,
    values: npt.NDArray[np.float64],
    output: str | Path,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write values in the orientation, with the ids and in the order of the table's own file.

    Text holds every number so that it reads back as the same float64; Parquet and AnnData keep
    float32 where the input had it. An AnnData result goes to ``layers["batchsense"]``: ``X`` is
    not touched, and ``uns["batchsense"]`` says what was done. The file appears only when it is
    complete.

    Parameters
    ----------
    table : Table
        The table that the values belong to.
    values : array of shape (specimens, features)
        The result.
    output : path
        The file; its name tells the format.
    provenance : mapping, optional
        For AnnData: what was done, as text, numbers and lists of text.

    Raises
    ------
    DataError
        As :func:`check_format`, or the file cannot be written.
    """
    check_format(table.source.matrix, output)
    raw = layout(table, values)
    suffix = suffix_of(output)
    with replacing(output) as temporary:
        if suffix in DELIMITERS:
            with _text(temporary, zipped=Path(output).suffix.lower() == ".gz") as stream:
                write_text(raw, stream, DELIMITERS[suffix])
        elif suffix == ".parquet":
            parquet.write_matrix(temporary, raw)
        else:
            annotated.write(temporary, table.source.matrix, raw, provenance or {})


def layout(table: Table, values: npt.NDArray[np.float64]) -> RawMatrix:
    """Give values the layout of the table's file."""
    if values.shape != table.values.shape:
        raise ValueError(f"values of shape {values.shape} for a table of {table.values.shape}")
    source = table.source
    if source.orientation == "specimens × features":
        axes = (values, table.specimens, table.features)
    else:
        axes = (values.T, table.features, table.specimens)
    return RawMatrix(*axes, corner=source.corner, dtype=source.dtype)


def write_text(matrix: RawMatrix, stream: TextIO, delimiter: str = "\t") -> None:
    """Write delimited text: the shortest digits that read back exactly, nothing where missing.

    Examples
    --------
    >>> import sys
    >>> matrix = RawMatrix(np.array([[0.1, np.nan]]), ("s1",), ("a", "b"))
    >>> write_text(matrix, sys.stdout, ",")
    id,a,b
    s1,0.1,
    """
    lines = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    corner = () if matrix.corner is None else (matrix.corner,)
    lines.writerow([*corner, *matrix.column_ids])
    has_missing = bool(np.isnan(matrix.values).any())
    for name, row in zip(matrix.row_ids, matrix.values, strict=True):
        numbers: list[float | str] = row.tolist()
        if has_missing:
            numbers = ["" if value != value else value for value in numbers]
        lines.writerow([name, *numbers])


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it at the end, remove it after a failure."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _text(path: Path, zipped: bool) -> Iterator[TextIO]:
    """Open for text, through gzip if wanted (without a time stamp: equal input, equal bytes)."""
    if not zipped:
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as stream,
    ):
        yield stream
