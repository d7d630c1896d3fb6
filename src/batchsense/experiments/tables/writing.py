"""Write a result in the layout of its input, in one piece or not at all."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.experiments.row_labels import row_labels
from batchsense.experiments.tables import annotated, tenx
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.arrow import parquet
from batchsense.experiments.tables.delimited.numbers import arrow_is_here, rows_of_text
from batchsense.experiments.tables.matrix import DELIMITERS, KNOWN, RawMatrix, stored, suffix_of
from batchsense.experiments.tables.overlap import with_aside
from batchsense.experiments.tables.table import Table
from batchsense.storage.atomic import writing

if TYPE_CHECKING:
    from anndata import AnnData

#: From so many numbers on Arrow makes their text, a quarter of it at a time; fewer are written
#: before it is loaded.
_MANY = 200_000


def check_format(source: str, output: str | Path) -> None:
    """Refuse, before any work, an output whose format does not suit the input.

    Raises
    ------
    DataError
        An unknown kind of file, an AnnData output without an AnnData input or the reverse, or an
        output in the folder that is read.

    Examples
    --------
    >>> check_format("in.csv", "out.h5ad")
    Traceback (most recent call last):
    batchsense.errors.DataError: out.h5ad: an .h5ad result needs an .h5ad input; name a text or ...
    """
    wanted, given = _result_kind(source, output), suffix_of(source)
    if wanted == ".xlsx":
        raise DataError(
            "workbooks are read, not written; name a .csv, .tsv or .txt (also .gz) or .parquet",
            where=str(output),
        )
    if wanted not in [*DELIMITERS, ".parquet", ".mtx", *annotated.SUFFIXES]:
        raise DataError(f"unknown kind of file {wanted!r}; known: {KNOWN}", where=str(output))
    if wanted in annotated.SUFFIXES and given != wanted:
        raise DataError(
            f"an {wanted} result needs an {wanted} input; name a text or Parquet file",
            where=str(output),
        )
    if given in annotated.SUFFIXES and wanted != given:
        raise DataError(
            f"the result of an {given} input is a layer beside its X; name an {given} file",
            where=str(output),
        )
    if wanted == ".mtx" and given != ".mtx":
        raise DataError(
            "a folder with a matrix.mtx as the result needs such a folder as input; name a text or "
            "Parquet file",
            where=str(output),
        )
    if given in (".mtx", ".zarr"):
        _refuse_inside(source, Path(output), given)


def _refuse_inside(source: str, output: Path, kind: str) -> None:
    root = Path(source)
    if kind == ".mtx" and not root.is_dir():
        root = root.parent
    target = output.resolve()
    if root.resolve() in (target, *target.parents):
        raise DataError("lies in the folder of the input; name another place", where=str(output))


def _result_kind(source: str, output: str | Path) -> str:
    """The kind of the result; a folder's name has no suffix to tell it."""
    suffix = Path(output).suffix.lower()
    if suffix_of(source) == ".mtx" and suffix not in (*DELIMITERS, ".gz", ".parquet", ".h5ad"):
        return suffix if suffix in annotated.SUFFIXES else ".mtx"
    return suffix_of(output)


def write(
    table: Table | AnnData,
    values: Floats,
    output: str | Path,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write values in the orientation, with the ids and in the order of the table's own file.

    Text holds every number so that it reads back as the same float64; Parquet and AnnData keep
    float32 where the input had it, and whole numbers stay what they were if the result is whole. An
    AnnData result goes to ``layers["batchsense"]``: ``X`` is not touched, and
    ``uns["batchsense"]`` says what was done. A folder with a ``matrix.mtx`` gives such a folder,
    with what was done in ``batchsense.json``. File or folder appear only when they are complete.

    Parameters
    ----------
    table : Table or AnnData
        The table that the values belong to.
    values : array of shape (specimens, features)
        The result.
    output : path
        The file; its name tells the format.
    provenance : mapping, optional
        For AnnData and folders: what was done, as text, numbers and lists of text.

    Raises
    ------
    DataError
        As :func:`check_format`, or the file cannot be written.
    OutputError
        What stands there may not be replaced, for example a folder of other things.
    """
    table = as_table(table)
    check_format(table.source.matrix, output)
    raw = layout(table, values)
    suffix = _result_kind(table.source.matrix, output)
    with writing(output) as temporary:
        if suffix in DELIMITERS:
            with _text(temporary, zipped=Path(output).suffix.lower() == ".gz") as stream:
                write_text(raw, stream, DELIMITERS[suffix])
        elif suffix == ".parquet":
            parquet.write_matrix(temporary, raw)
        elif suffix == ".mtx":
            tenx.write(temporary, table.source.matrix, raw, provenance or {})
        else:
            annotated.write(temporary, table.source.matrix, raw, provenance or {})


def layout(table: Table, values: Floats) -> RawMatrix:
    """The values in the layout of the table's file."""
    own = row_labels(values, "values")
    if own is not None and own.labels != table.specimens:
        raise DataError("the index of values and the specimens of the table differ")
    if values.shape != table.values.shape:
        raise ValueError(f"values of shape {values.shape} for a table of {table.values.shape}")
    source, labels = table.source, {name: table.sheet[name] for name in table.source.sheet_columns}
    values, features = with_aside(table, np.asarray(values))
    if source.orientation == "specimens × features":
        axes = (values, table.specimens, features)
    else:
        axes = (values.T, features, table.specimens)
    return RawMatrix(*axes, corner=source.corner, dtype=source.dtype, labels=labels)


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
    lines.writerow([*corner, *matrix.labels, *matrix.column_ids])
    values = stored(matrix.values, matrix.dtype)
    heads = zip(matrix.row_ids, *matrix.labels.values(), strict=True)
    if values.size >= _MANY and arrow_is_here():
        kind = np.int64 if values.dtype.kind in "iu" else np.float64
        width = max(1, _MANY // 4 // values.shape[1])

        def texts(start: int) -> list[str]:
            block = np.ascontiguousarray(values[start : start + width], dtype=kind)
            return rows_of_text(block, delimiter)

        for row, head in zip(_ahead(texts, range(0, len(values), width)), heads, strict=True):
            # A cell behind them, so that an empty id is written as beside other cells.
            begin = io.StringIO()
            csv.writer(begin, delimiter=delimiter, lineterminator="\n").writerow([*head, ""])
            stream.write(f"{begin.getvalue()[:-1]}{row}\n")
        return
    for head, row in zip(heads, values, strict=True):
        lines.writerow([*head, *("" if value != value else value for value in row.tolist())])


def _ahead(texts: Callable[[int], list[str]], starts: range) -> Iterator[str]:
    """The texts of all blocks in their order; two are made at a time, while others are written."""
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Future[list[str]]] = deque()
        for start in starts:
            waiting.append(pool.submit(texts, start))
            if len(waiting) > 2:
                yield from waiting.popleft().result()
        for one in waiting:
            yield from one.result()


@contextlib.contextmanager
def _text(path: Path, zipped: bool) -> Iterator[TextIO]:
    # Through gzip without a time stamp: equal input, equal bytes.
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
