"""What the form shows of a sheet: its columns, with the first of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchsense.errors import DataError
from batchsense.experiments.tables.matrix import suffix_of
from batchsense.web.uploads import Upload

_SHOWN_VALUES = 4
_LONGEST_VALUE = 24


@dataclass(frozen=True, slots=True)
class SheetColumn:
    """One column of a sheet.

    Attributes
    ----------
    name : str
        Its name.
    values : tuple of str
        Its first distinct values, cut where they are long.
    distinct, missing : int
        How many distinct values it has, and how many entries are empty.
    """

    name: str
    values: tuple[str, ...]
    distinct: int
    missing: int

    @property
    def hint(self) -> str:
        """The values in a line.

        Examples
        --------
        >>> SheetColumn("month", ("May", "July"), 2, 1).hint
        '2 values: May, July; 1 empty'
        """
        values = ", ".join(self.values) + (", …" if self.distinct > len(self.values) else "")
        many = "1 value" if self.distinct == 1 else f"{self.distinct:,} values"
        empty = f"; {self.missing:,} empty" if self.missing else ""
        return f"{many}: {values}{empty}" if self.values else f"no value{empty}"


def sheet_columns(upload: Upload | None) -> list[SheetColumn]:
    """Read the columns of a visitor's sheet, or those of the built-in digits.

    Parameters
    ----------
    upload : Upload or None
        The files; None for the digits.

    Returns
    -------
    list of SheetColumn
        In the order of the sheet.

    Raises
    ------
    DataError
        The sheet cannot be read.
    """
    if upload is None:
        from batchsense.experiments import digits_table

        return _described(digits_table().sheet)
    try:
        return _described(_entries(upload))
    except DataError as error:
        raise DataError(upload.named(str(error))) from None


def _entries(upload: Upload) -> Mapping[str, tuple[str | None, ...]]:
    """Read the sheet alone; for an AnnData file, its ``obs``."""
    from batchsense.experiments.tables import annotated, delimited, parquet

    if upload.sheet is None:
        return annotated.read(upload.matrix)[1]
    if suffix_of(upload.sheet) == ".parquet":
        return parquet.read_sheet(upload.sheet)[0]
    return delimited.read_sheet(upload.sheet)


def _described(sheet: Mapping[str, tuple[str | None, ...]]) -> list[SheetColumn]:
    """Count and show the values of each column."""
    described = []
    for name, entries in sheet.items():
        distinct = list(dict.fromkeys(entry for entry in entries if entry is not None))
        shown = tuple(_cut(value) for value in distinct[:_SHOWN_VALUES])
        described.append(SheetColumn(name, shown, len(distinct), entries.count(None)))
    return described


def _cut(value: str) -> str:
    """Cut a long value."""
    return value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 1] + "…"
