"""The table of all tests as delimited text: one line for each contrast and feature."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from batchsense.errors import DataError

if TYPE_CHECKING:
    from batchsense.experiments.testing import ContrastTests

#: The columns; effect to standard_error are empty for F.
COLUMNS = (
    "contrast",
    "feature",
    "mean",
    "effect",
    "low",
    "high",
    "standard_error",
    "statistic",
    "kind",
    "df",
    "p",
    "q",
    "remark",
)
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def check_table_format(output: str | None) -> None:
    """Refuse, before any work, an output that is not delimited text.

    Raises
    ------
    DataError
        An unknown kind of file.

    Examples
    --------
    >>> check_table_format("tests.xlsx")
    Traceback (most recent call last):
    batchsense.errors.DataError: tests.xlsx: the table is written as .csv, .tsv or .txt (also .gz)
    """
    if output not in (None, "-") and _suffix(output) not in _DELIMITERS:
        raise DataError("the table is written as .csv, .tsv or .txt (also .gz)", where=output)


def table_text(found: ContrastTests, delimiter: str = ",") -> str:
    """Write the table as text; numbers read back as the same float64, nothing where untested."""
    stream = io.StringIO()
    lines = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(_rows(found))
    return stream.getvalue()


def write_table(found: ContrastTests, output: str) -> None:
    """Write the table to a file, in one piece or not at all.

    Raises
    ------
    DataError
        As :func:`check_table_format`, or the file cannot be written.
    """
    from batchsense.experiments.tables.writing import replacing

    check_table_format(output)
    content = table_text(found, _DELIMITERS[_suffix(output)]).encode()
    if output.lower().endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    with replacing(output) as temporary:
        temporary.write_bytes(content)


def _rows(found: ContrastTests) -> Iterator[list[str | float]]:
    """Give the lines: factors first, features in the order of the matrix."""
    remarks = {name: reason for reason, names in found.untested.items() for name in names}
    mean, df = _cells(found.mean), _cells(np.where(found.df > 0, found.df, np.nan))
    for one in found.factors:
        columns = [_cells(array) for array in (one.f, one.p_value, one.q_value)]
        for j, feature in enumerate(found.features):
            f, p, q = (column[j] for column in columns)
            remark = remarks.get(feature, "") if p == "" else ""
            yield [one.factor, feature, mean[j], *[""] * 4, f, "F", df[j], p, q, remark]
    for effect in found.effects:
        arrays = (effect.effect, effect.low, effect.high, effect.standard_error, effect.t)
        columns = [_cells(array) for array in (*arrays, effect.p_value, effect.q_value)]
        for j, feature in enumerate(found.features):
            *numbers, t, p, q = (column[j] for column in columns)
            remark = remarks.get(feature, "") if p == "" else ""
            name = str(effect.contrast)
            yield [name, feature, mean[j], *numbers, t, "t", df[j], p, q, remark]


def _cells(array: object) -> list[str | float]:
    """Give the numbers of an array, nothing where they are missing."""
    values: list[float] = array.tolist()  # type: ignore[attr-defined]
    return ["" if math.isnan(value) else value for value in values]


def _suffix(output: str | None) -> str:
    """Give the ending that tells the format, without .gz."""
    path = Path(output or "")
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
