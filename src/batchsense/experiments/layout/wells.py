"""Wells: how they are written and numbered, which stay empty, which are taken already."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Integers
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.columns import column
from batchsense.experiments.tables.table import Table

#: Rows of a plate have letters; a plate of 1,536 wells has 32 of them.
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WELL = re.compile(r"([A-Z]{1,2})0*([1-9][0-9]?)")
#: No well is fixed for this specimen.
FREE_WELL = -1


@dataclass(frozen=True, slots=True)
class PlateRules:
    """Plates, one for each batch.

    Attributes
    ----------
    size : pair of int
        Rows and columns, such as ``(8, 12)``.
    empty_wells : str, optional
        Wells that stay empty on every plate: ``"edge"``, single wells, blocks by two corners, with
        commas between, such as ``"edge, C3-D4"``.
    lock_wells : str, optional
        Column with the wells of rows whose batch is locked; empty where free. It may be ``"well"``
        itself, as an earlier layout wrote it.
    """

    size: tuple[int, int]
    empty_wells: str | None = None
    lock_wells: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlateWells:
    """The wells of plates of one size, numbered row by row from 0."""

    size: tuple[int, int]  #: Rows and columns
    empty: Integers  #: Wells that stay empty on every plate
    #: (specimens,): the well of each specimen that is placed already, -1 where it is free.
    taken: Integers


def well_order(rows: int, columns: int) -> Integers:
    """The wells in the order in which a plate is filled: column by column."""
    return np.arange(rows * columns).reshape(rows, columns).T.ravel()


def well_factors(rows: int, columns: int) -> tuple[Integers, ...]:
    """The row, the column and the edge (1) or inside (0) of every well."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    edge = (row == 0) | (row == rows - 1) | (column == 0) | (column == columns - 1)
    return row, column, edge.astype(np.int64)


def well_name(well: int, columns: int) -> str:
    """Name a well: letters for its row, a number for its column."""
    row, place = divmod(int(well), columns)
    first, second = divmod(row, 26)
    return f"{_LETTERS[first - 1] if first else ''}{_LETTERS[second]}{place + 1}"


def parse_plate(text: str) -> tuple[int, int]:
    """Read the size of a plate, rows × columns.

    Examples
    --------
    >>> parse_plate("8x12")
    (8, 12)
    """
    size = _whole_numbers(text.lower().replace("×", "x").split("x"))
    if len(size) != 2:
        raise DataError(f"a plate is rows x columns, such as 8x12, not {text!r}", where="--plate")
    return size[0], size[1]


def parse_capacities(text: str) -> list[int]:
    """Read the wells of every batch, or of each with commas between.

    Examples
    --------
    >>> parse_capacities("24"), parse_capacities("24, 20")
    ([24], [24, 20])
    """
    capacities = _whole_numbers(text.split(","))
    if not capacities:
        raise DataError(
            f"capacities are whole numbers, such as 24 or 24,20, not {text!r}", where="--capacity"
        )
    return capacities


def _whole_numbers(parts: list[str]) -> list[int]:
    """The parts as numbers; none of them if one is no positive whole number."""
    bare = [part.strip() for part in parts]
    good = all(part.isascii() and part.isdigit() and int(part) > 0 for part in bare)
    return [int(part) for part in bare] if good else []


def parse_wells(text: str, size: tuple[int, int]) -> Integers:
    """Read wells: ``edge``, single ones, and blocks by two corners, with commas between.

    Shapes: the result (wells,).
    """
    chosen = np.zeros(size, dtype=bool)
    for part in (part.strip() for part in text.split(",")):
        if part.lower() == "edge":
            chosen |= (well_factors(*size)[2] == 1).reshape(size)
            continue
        first, block, last = part.partition("-")
        corners = [divmod(_well(one, size), size[1]) for one in (first, last if block else first)]
        (top, bottom), (left, right) = (sorted(pair) for pair in zip(*corners, strict=True))
        chosen[top : bottom + 1, left : right + 1] = True
    return np.flatnonzero(chosen)


def _well(text: str, size: tuple[int, int], where: str = "--empty-wells") -> int:
    rows, columns = size
    found = _WELL.fullmatch(text.strip().upper())
    if found is None:
        raise DataError(
            f"{text.strip()!r} is no well; write edge, A1, or two corners such as A1-B12",
            where=where,
        )
    row = 0
    for letter in found[1]:
        row = row * 26 + _LETTERS.index(letter) + 1
    place = int(found[2]) - 1
    if row > rows or place >= columns:
        raise DataError(
            f"a plate of {rows} x {columns} has no well {text.strip()}; its last one is "
            f"{well_name(rows * columns - 1, columns)}",
            where=where,
        )
    return (row - 1) * columns + place


def read_wells(table: Table, plates: PlateRules, empty: Integers, locked: Integers) -> PlateWells:
    """Read the wells of the rows that are placed already."""
    taken = np.full(len(table.specimens), FREE_WELL)
    found = PlateWells(plates.size, empty, taken)
    if plates.lock_wells is None:
        return found
    name, where = plates.lock_wells, table.source.sheet
    seen: dict[tuple[int, int], str] = {}
    for k, entry in enumerate(column(table.sheet, name, where)):
        if entry is None:
            continue
        specimen = table.specimens[k]
        well = _well(entry, plates.size, f"{where}: row {specimen!r}, column {name!r}")
        if locked[k] < 0:
            raise DataError(
                f"row {specimen!r} has the well {entry} and no batch; a well is kept only with the "
                "batch of the row (--lock)",
                where=where,
            )
        if well in empty:
            raise DataError(
                f"row {specimen!r} is in well {entry}, which is to stay empty", where=where
            )
        other = seen.setdefault((int(locked[k]), well), specimen)
        if other != specimen:
            raise DataError(
                f"rows {listed(map(repr, (other, specimen)))} are in the same well {entry} of the "
                "same batch",
                where=where,
            )
        taken[k] = well
    return found
