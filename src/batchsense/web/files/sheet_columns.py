"""What the form shows of a sheet: its columns, with the first of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchsense.errors import DataError
from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of

# Chosen by eye: enough to recognise a column, on one line beside its name.
_SHOWN_VALUES = 4
_LONGEST_VALUE = 24
#: Every column stands in up to ten fields of a form; more columns than these nobody reads.
_MOST_COLUMNS = 1000
_LONGEST_NAMES = 200_000
#: Each costs a reading of the workbook.
_TRIED_WORKSHEETS = 5
#: Kinds of matrices whose sheet may stand in columns beside the features.
WIDE_KINDS = (*DELIMITERS, ".parquet", ".xlsx")
#: Of a wide table with thousands of features so many columns are offered as no features.
_OFFERED = 100


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


def digits_outline() -> SheetOutline:
    """The columns of the built-in digits."""
    from batchsense.experiments import digits_table

    return SheetOutline(_described(digits_table().sheet))


def files_outline(
    matrix: Path | None, sheet: Path | None, worksheet: str | None = None
) -> SheetOutline:
    """Look into a sheet, or into a matrix that brings its own."""
    from batchsense.experiments.tables import annotated, workbook
    from batchsense.experiments.tables.reading import read_sheet

    layers: tuple[str, ...] = ()
    entries: Mapping[str, tuple[str | None, ...]] = {}
    if matrix is not None and suffix_of(matrix) in annotated.SUFFIXES:
        entries, layers = annotated.outline(matrix)
    elif matrix is not None and sheet is None and suffix_of(matrix) in WIDE_KINDS:
        entries = _describing(read_sheet(str(matrix))[0])
    if sheet is None:
        if not entries:
            raise DataError(
                "a sheet is needed beside this matrix: one row per specimen, with its id and its "
                "batch",
                where=None if matrix is None else matrix.name,
            )
        return SheetOutline(_described(entries), layers=layers)
    names = workbook.worksheets(sheet) if suffix_of(sheet) == workbook.SUFFIX else ()
    if len(names) < 2 and (worksheet is None or not names):
        return SheetOutline(_described(read_sheet(sheet)[0]), layers=layers)
    name, entries = _first_readable(sheet, names if worksheet is None else (worksheet,))
    return SheetOutline(_described(entries), names, name, layers)


def _first_readable(
    book: Path, names: tuple[str, ...]
) -> tuple[str, Mapping[str, tuple[str | None, ...]]]:
    """The first worksheet that is a sheet: remarks and merged titles often come before it."""
    from batchsense.experiments.tables.reading import read_sheet

    complaint: DataError | None = None
    for name in names[:_TRIED_WORKSHEETS]:
        try:
            return name, read_sheet(f"{book}#{name}")[0]
        except DataError as error:
            complaint = complaint or error
    raise complaint or DataError("the workbook has no worksheet", where=book.name)


def _describing(
    wide: Mapping[str, tuple[str | None, ...]],
) -> Mapping[str, tuple[str | None, ...]]:
    """The columns of a wide table that may describe its specimens, those with few values first.

    None where it is a matrix of numbers alone, beside which a sheet is needed.
    """
    by_values = sorted(wide, key=lambda name: len(set(wide[name])))
    if all(len(set(entries)) == len(entries) for entries in list(wide.values())[1:]):
        return {}
    shown = set(by_values[:_OFFERED])
    return {name: entries for name, entries in wide.items() if name in shown}


def _described(sheet: Mapping[str, tuple[str | None, ...]]) -> list[SheetColumn]:
    if len(sheet) > _MOST_COLUMNS or sum(map(len, sheet)) > _LONGEST_NAMES:
        raise DataError(
            f"a form shows at most {_MOST_COLUMNS:,} columns and {_LONGEST_NAMES:,} letters of "
            f"their names, and this sheet has {len(sheet):,}; send the columns that matter, or use "
            "the command line"
        )
    described = []
    for name, entries in sheet.items():
        distinct = list(dict.fromkeys(entry for entry in entries if entry is not None))
        shown = tuple(_cut(value) for value in distinct[:_SHOWN_VALUES])
        described.append(SheetColumn(name, shown, len(distinct), entries.count(None)))
    return described


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 1] + "…"
