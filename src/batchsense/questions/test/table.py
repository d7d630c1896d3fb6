"""The table of all tests as delimited text: one line for each contrast and feature."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.errors import DataError

if TYPE_CHECKING:
    from batchsense.experiments.testing import ContrastTests

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
    return found.to_frame().to_csv(sep=delimiter, index=False, lineterminator="\n")


def write_table(found: ContrastTests, output: str) -> None:
    """Write the table to a file, in one piece or not at all.

    Raises
    ------
    DataError
        As :func:`check_table_format`, or the file cannot be written.
    """
    from batchsense.storage.atomic import writing

    check_table_format(output)
    content = table_text(found, _DELIMITERS[_suffix(output)]).encode()
    if output.lower().endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    with writing(output) as temporary:
        temporary.write_bytes(content)


def _suffix(output: str | None) -> str:
    path = Path(output or "")
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
