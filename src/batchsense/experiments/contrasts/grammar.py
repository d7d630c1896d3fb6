"""Sums of means as people write them: ``(high + low)/2 - none``, ``a.late - a.early``.

::

    sum      = product { ("+" | "-") product }
    product  = operand { "*" operand | "/" number }
    operand  = number | cell | "-" operand | "(" sum ")"
    cell     = name { "." name }            one level for each column, in their order
    name     = a level as it stands | "a level" | 'a level'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchsense.errors import DataError, listed
from batchsense.experiments.tables.text import did_you_mean

Cell = tuple[str, ...]

_MINUS = "-\N{MINUS SIGN}"
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_WORD = re.compile(r"[^\s+\-\N{MINUS SIGN}*/()]+")
#: A sum that is nested deeper is no contrast that anybody wrote, and would exhaust the stack.
_DEEPEST = 50
#: Longer texts are refused: 200 levels of 20 letters.
_LONGEST = 4000


@dataclass(slots=True)
class _Sum:
    """A number, and a weight for each cell."""

    constant: float = 0.0
    cells: dict[Cell, float] = field(default_factory=dict)

    def plus(self, other: _Sum, factor: float = 1.0) -> _Sum:
        cells = dict(self.cells)
        for cell, weight in other.cells.items():
            cells[cell] = cells.get(cell, 0.0) + factor * weight
        return _Sum(self.constant + factor * other.constant, cells)


def weights_of_cells(
    text: str, columns: Sequence[str], levels: Sequence[Sequence[str]]
) -> dict[Cell, float]:
    """Read the weight of each cell in a sum of means."""
    if len(text) > _LONGEST:
        raise DataError(f"the contrast has {len(text):,} letters; at most {_LONGEST:,} are read")
    reader = _Reader(text, columns, [tuple(one) for one in levels])
    found = reader.sum(0)
    if reader.rest():
        raise reader.stuck("an operator was expected")
    if found.constant or not found.cells:
        raise DataError(
            f"{text!r} adds the number {found.constant:g} to means of levels; numbers multiply or "
            f"divide, as in ({reader.example()})/2. Levels of {listed(columns)}: {reader.known()}"
        )
    return found.cells


class _Reader:
    """Reads one text from left to right."""

    def __init__(
        self, text: str, columns: Sequence[str], levels: Sequence[tuple[str, ...]]
    ) -> None:
        self.text, self.place = text, 0
        self.columns, self.levels = tuple(columns), levels

    def rest(self) -> str:
        """What is not read yet, from its first letter."""
        while self.place < len(self.text) and self.text[self.place].isspace():
            self.place += 1
        return self.text[self.place :]

    def takes(self, letters: str) -> str:
        rest = self.rest()
        if not rest or rest[0] not in letters:
            return ""
        self.place += 1
        return rest[0]

    def sum(self, depth: int) -> _Sum:
        if depth > _DEEPEST:
            raise self.stuck("too many brackets")
        found = self.product(depth)
        while sign := self.takes("+" + _MINUS):
            found = found.plus(self.product(depth), 1.0 if sign == "+" else -1.0)
        return found

    def product(self, depth: int) -> _Sum:
        found = self.operand(depth)
        while sign := self.takes("*/"):
            other = self.operand(depth, number=sign == "/" or bool(found.cells))
            if other.cells and (found.cells or sign == "/"):
                raise self.stuck("means can be added and weighted, not multiplied or divided by")
            if sign == "/":
                if not other.constant:
                    raise self.stuck("division by zero")
                found = _Sum().plus(found, 1.0 / other.constant)
            elif other.cells:
                found = _Sum().plus(other, found.constant)
            else:
                found = _Sum().plus(found, other.constant)
        return found

    def operand(self, depth: int, number: bool = False) -> _Sum:
        if self.takes(_MINUS):
            return _Sum().plus(self.operand(depth + 1, number), -1.0)
        if depth > _DEEPEST:
            raise self.stuck("too many signs")
        if self.takes("("):
            found = self.sum(depth + 1)
            if not self.takes(")"):
                raise self.stuck("a closing bracket is missing")
            return found
        rest = self.rest()
        numeral = _NUMBER.match(rest)
        end = self.place + (numeral.end() if numeral else 0)
        if numeral and self.text[end:].lstrip()[:1] == "*":
            number = True
        cells = {} if number and numeral and self._ends(end) else self._cells(self.place, 0)
        if len(cells) > 1:
            raise self.stuck(
                f"can be read as {listed(map(repr, map('.'.join, cells.values())))}; put names in "
                "quotes"
            )
        for end_of_cell, cell in cells.items():
            self.place = end_of_cell
            return _Sum(0.0, {cell: 1.0})
        if numeral and self._ends(end):
            self.place = end
            return _Sum(float(numeral[0]))
        raise self._unknown()

    def _cells(self, place: int, column: int) -> dict[int, Cell]:
        """Every cell that may stand at a place, by where it ends."""
        found: dict[int, Cell] = {}
        for end, level in self._names(place, column):
            if column + 1 == len(self.columns):
                if self._ends(end):
                    found[end] = (level,)
            elif self.text[end : end + 1] == ".":
                for last, rest in self._cells(end + 1, column + 1).items():
                    found[last] = (level, *rest)
        return found

    def _names(self, place: int, column: int) -> list[tuple[int, str]]:
        quote = self.text[place : place + 1]
        if quote and quote in "'\"":
            end = self.text.find(quote, place + 1)
            level = self.text[place + 1 : end]
            if end > 0 and level in self.levels[column]:
                return [(end + 1, level)]
        return [
            (place + len(level), level)
            for level in self.levels[column]
            if self.text.startswith(level, place)
        ]

    def _ends(self, place: int) -> bool:
        rest = self.text[place:].lstrip()
        return not rest or rest[0] in "+*/)" + _MINUS

    def _unknown(self) -> DataError:
        rest = self.rest()
        if not rest:
            return self.stuck("it ends where a level was expected")
        end = rest.find(rest[0], 1) if rest[0] in "'\"" else -1
        word = _WORD.match(rest)
        name = rest[1:end] if end > 0 else word[0] if word else rest[0]
        parts = name.split(".") if len(self.columns) > 1 else [name]
        if len(parts) != len(self.columns):
            return self.stuck(
                f"{name!r} is no cell of {listed(self.columns)}; write {self.example()}, and put "
                "names with dots, blanks or signs in quotes"
            )
        for part, column, levels in zip(parts, self.columns, self.levels, strict=True):
            if part not in levels:
                return self.stuck(
                    f"{column!r} has no level {part!r}; {did_you_mean(part, levels)}"
                    f"Levels: {listed(levels, 20)}. Names with blanks or signs are put in quotes"
                )
        return self.stuck(f"after {name!r} an operator was expected")

    def example(self) -> str:
        """Two cells of these columns."""
        first = [one[0] for one in self.levels]
        last = [one[-1] for one in self.levels]
        return f"{'.'.join(last)} + {'.'.join(first)}"

    def known(self) -> str:
        return "; ".join(listed(one, 20) for one in self.levels)

    def stuck(self, why: str) -> DataError:
        before = self.text[: self.place].strip()
        return DataError(f"the contrast {self.text!r}{f', after {before!r}' * bool(before)}: {why}")
