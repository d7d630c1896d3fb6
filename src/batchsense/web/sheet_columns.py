"""What the form shows of a sheet: its columns, with the first of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchsense.errors import DataError
from batchsense.experiments.tables.matrix import suffix_of
from batchsense.questions.table_request import known_names
from batchsense.web.uploads import Upload

# Chosen by eye: enough to recognise a column, on one line beside its name.
_SHOWN_VALUES = 4
_LONGEST_VALUE = 24


@dataclass(frozen=True, slots=True)
class SheetColumn:
    """One column of a sheet."""

    name: str
    values: tuple[str, ...]
    distinct: int
    missing: int

    @property
    def count(self) -> str:
        """How many values it has, in words."""
        return "1 value" if self.distinct == 1 else f"{self.distinct:,} values"

    @property
    def hint(self) -> str:
        """The values in a line.

        Examples
        --------
        >>> SheetColumn("month", ("May", "July"), 2, 1).hint
        '2 values: May, July; 1 empty'
        """
        values = ", ".join(self.values) + (", …" if self.distinct > len(self.values) else "")
        empty = f"; {self.missing:,} empty" if self.missing else ""
        return f"{self.count}: {values}{empty}" if self.values else f"no value{empty}"


@dataclass(frozen=True, slots=True)
class SheetOutline:
    """A sheet in short, and what else of the files can be chosen."""

    columns: list[SheetColumn]
    worksheets: tuple[str, ...] = ()
    worksheet: str | None = None
    layers: tuple[str, ...] = ()


def sheet_outline(upload: Upload | None, worksheet: str | None = None) -> SheetOutline:
    """Look into a visitor's files, or take the built-in digits.

    Raises
    ------
    DataError
        The sheet cannot be read.
    """
    if upload is None:
        from batchsense.experiments import digits_table

        return SheetOutline(_described(digits_table().sheet))
    try:
        return _outline(upload, worksheet)
    except DataError as error:
        raise known_names(error, {str(path): path.name for path in upload.paths}) from None


def _outline(upload: Upload, worksheet: str | None) -> SheetOutline:
    from batchsense.experiments.tables import annotated, workbook
    from batchsense.experiments.tables.reading import read_sheet

    layers: tuple[str, ...] = ()
    entries: Mapping[str, tuple[str | None, ...]] = {}
    if upload.matrix is not None and suffix_of(upload.matrix) in annotated.SUFFIXES:
        entries, layers = annotated.outline(upload.matrix)
    if upload.sheet is None:
        if not entries:
            raise DataError(
                "a sheet is needed beside this matrix: one row per specimen, with its id and its "
                "batch",
                where=upload.names[0],
            )
        return SheetOutline(_described(entries), layers=layers)
    names: tuple[str, ...] = ()
    path = str(upload.sheet)
    if suffix_of(upload.sheet) == workbook.SUFFIX:
        names = workbook.worksheets(upload.sheet)
        if len(names) < 2 and worksheet is None:
            names = ()
        else:
            worksheet = worksheet or names[0]
            path += f"#{worksheet}"
    else:
        worksheet = None
    return SheetOutline(_described(read_sheet(path)[0]), names, worksheet, layers)


def _described(sheet: Mapping[str, tuple[str | None, ...]]) -> list[SheetColumn]:
    described = []
    for name, entries in sheet.items():
        distinct = list(dict.fromkeys(entry for entry in entries if entry is not None))
        shown = tuple(_cut(value) for value in distinct[:_SHOWN_VALUES])
        described.append(SheetColumn(name, shown, len(distinct), entries.count(None)))
    return described


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 1] + "…"
