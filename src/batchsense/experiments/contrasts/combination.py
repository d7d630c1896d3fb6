"""From cells with weights to weights of coefficients, where the design gives them one meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.contrasts.grammar import Cell
from batchsense.experiments.design import Design
from batchsense.experiments.tables.columns import Factor

#: Weights below this part of the largest are the rounding of thirds and the like.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Difference:
    """A level minus another, or the slope of a numeric factor (both levels empty).

    Examples
    --------
    >>> print(Difference("drug", "yes", "no"), "|", Difference("age"))
    drug: yes - no | age
    """

    factor: str
    upper: str = ""
    lower: str = ""

    def __str__(self) -> str:
        return f"{self.factor}: {self.upper} - {self.lower}" if self.upper else self.factor

    def means(self) -> dict[str, float]:
        """The weight of the mean of each level; empty for a slope."""
        return {self.upper: 1.0, self.lower: -1.0} if self.upper else {}

    def weights(self, names: Iterable[str]) -> Floats:
        """Its weights on named coefficients; a level that has none is the base level."""
        terms = list(names)
        found = np.zeros(len(terms))
        if not self.upper:
            found[terms.index(self.factor)] = 1.0
            return found
        for level, sign in ((self.upper, 1.0), (self.lower, -1.0)):
            name = f"{self.factor}[{level}]"
            if name in terms:
                found[terms.index(name)] += sign
        return found


@dataclass(frozen=True, slots=True)
class Combination(Difference):
    """A weighted sum of means of levels or cells, or of slopes within them."""

    text: str = ""
    #: Weights of the coefficients of the design.
    coefficients: tuple[tuple[str, float], ...] = ()
    #: Weights of the means that it compares.
    cells: tuple[tuple[Cell, float], ...] = ()

    def __str__(self) -> str:
        return f"{self.factor}: {self.text}"

    def means(self) -> dict[str, float]:
        """The weight of the mean (or slope) of each cell."""
        return {".".join(map(quoted, cell)): weight for cell, weight in self.cells}

    def weights(self, names: Iterable[str]) -> Floats:
        """Its weights on named coefficients."""
        own = dict(self.coefficients)
        return np.array([own.get(name, 0.0) for name in names])


def combination(
    design: Design, columns: Sequence[str], cells: Mapping[Cell, float], text: str
) -> Difference:
    """A contrast of cells of some columns; of slopes, where a column is numeric.

    The mean of a cell is the sum of the coefficients of every term that it determines. A term that
    it does not determine, for it holds another column, must cancel in the sum.
    """
    factors = {one.name: one for one in design.kept}
    slopes = {name for name in columns if factors[name].values is not None}
    labelled = [name for name in columns if name not in slopes]
    name = "*".join(columns)
    total = sum(cells.values())
    size = max(map(abs, cells.values()))
    if not slopes and abs(total) > _ROUNDING * size:
        raise DataError(
            f"the weights of {f'{name}: {text}'!r} sum to {total:.4g}, not to 0: that is a mean, "
            "no difference; subtract another, as in A - B or (A + B)/2 - C"
        )
    found: dict[str, float] = {}
    for term in design.terms():
        numbers = {one for one in term if factors[one].values is not None}
        if not slopes <= numbers:
            continue
        seen = [one for one in term if one in labelled]
        free = [one for one in term if one not in (*labelled, *slopes)]
        for levels, weight in _summed(cells, [labelled.index(one) for one in seen]).items():
            if abs(weight) <= _ROUNDING * size:
                continue
            if free:
                raise _differs(name, text, free, factors)
            parts = dict(zip(seen, levels, strict=True))
            if any(factors[one].levels[0] == level for one, level in parts.items()):
                continue  # a first level has no coefficient
            found[":".join(f"{one}[{parts[one]}]" if one in parts else one for one in term)] = (
                weight
            )
    if not found:
        raise DataError(
            f"{f'{name}: {text}'!r} is zero whatever the data: its weights cancel in this design"
        )
    pair = {weight: cell for cell, weight in cells.items() if weight}
    if len(labelled) == len(columns) == 1 and sorted(w for w in cells.values() if w) == [-1, 1]:
        return Difference(name, *pair[1.0], *pair[-1.0])
    return Combination(name, "", "", text, tuple(found.items()), tuple(cells.items()))


def interaction(design: Design, columns: Sequence[str]) -> list[Difference]:
    """All differences of differences that an interaction is made of, against the first levels."""
    factors = {one.name: one for one in design.kept}
    labelled = [factors[name] for name in columns if factors[name].values is None]
    if not labelled:
        raise DataError(
            f"{'*'.join(columns)} is a product of numbers, which has no levels to compare; make a "
            "column of it and ask for that"
        )
    return [
        combination(design, columns, *_against_first(labelled, levels))
        for levels in product(*(one.levels[1:] for one in labelled))
    ]


def _against_first(factors: Sequence[Factor], levels: Cell) -> tuple[dict[Cell, float], str]:
    cells: dict[Cell, float] = {(): 1.0}
    for factor, level in zip(factors, levels, strict=True):
        cells = {
            (*cell, one): sign * weight
            for cell, weight in cells.items()
            for one, sign in ((level, 1.0), (factor.levels[0], -1.0))
        }
    texts = [
        f"{'-' if weight < 0 else '+'} {'.'.join(map(quoted, cell))}"
        for cell, weight in cells.items()
    ]
    return cells, " ".join(texts).removeprefix("+ ")


def quoted(level: str) -> str:
    """A level as a contrast names it: in quotes where it holds anything but letters and digits.

    Examples
    --------
    >>> quoted("late"), quoted("IL-2")
    ('late', "'IL-2'")
    """
    if level.replace("_", "").isalnum():
        return level
    return f'"{level}"' if "'" in level else f"'{level}'"


def _summed(cells: Mapping[Cell, float], places: Sequence[int]) -> dict[Cell, float]:
    found: dict[Cell, float] = {}
    for cell, weight in cells.items():
        part = tuple(cell[place] for place in places)
        found[part] = found.get(part, 0.0) + weight
    return found


def _differs(name: str, text: str, free: Sequence[str], factors: Mapping[str, Factor]) -> DataError:
    asked = f"{name}: {text}" if text else name
    other = factors[free[0]]
    own = factors.get(name)
    if own is not None and own.values is not None:
        remedy = "leave the product out of the design"
        if other.values is None:
            ends = quoted(other.levels[0]), quoted(other.levels[-1])
            slope = f"{name}*{other.name}"
            remedy = f"say where ({slope}: {ends[0]}), or weigh ({slope}: ({' + '.join(ends)})/2)"
    elif other.values is not None:
        remedy = f"compare slopes ({name}*{other.name}: …), or leave the product out of the design"
    else:
        remedy = (
            f"say where, naming cells ({name}*{other.name}: A.{quoted(other.levels[0])} - "
            f"B.{quoted(other.levels[0])}), or weigh them "
            f"((A.{quoted(other.levels[0])} + A.{quoted(other.levels[-1])})/2 - …)"
        )
    return DataError(
        f"in this design {asked!r} differs with {listed(free)}, so it has no one answer; {remedy}"
    )
