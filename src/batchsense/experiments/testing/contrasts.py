"""What is asked: contrasts as the user writes them (``drug``, ``drug:yes-no``), and options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.columns import Factor, column
from batchsense.experiments.tables.table import Table

Values = Literal["original", "corrected"]


@dataclass(frozen=True, slots=True)
class ContrastOptions:
    """How contrasts are tested.

    Attributes
    ----------
    shrink : bool
        Draw the variances together; False gives the ordinary t and F.
    trend : bool
        Let the common variance depend on the mean of a feature.
    robust : bool
        Keep a few wild features from setting the common variance.
    level : float
        Confidence level of the intervals.
    values : {"original", "corrected"}, optional
        Which values of a corrected table to test. By default the corrected ones of linear removal,
        and the original ones of other corrections.
    ignore_batches : bool
        Leave the batches out of the model, as a test that knows nothing of the correction would.
        Only for a corrected table, and always with a note on how many false positives follow.
    corrected_by : str, optional
        For a table whose values were corrected elsewhere: ``"linear"``, another method, or
        ``"unknown"``. The batches stay in the model; a note says how far that is exact, and what a
        test without them would call.
    """

    shrink: bool = True
    trend: bool = False
    robust: bool = False
    level: float = 0.95
    values: Values | None = None
    ignore_batches: bool = False
    corrected_by: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One contrast in the words of the user.

    Attributes
    ----------
    factor : str
        The column of the sheet.
    levels : str
        ``"yes-no"``: the first level minus the second; empty for the whole column.
    """

    factor: str
    levels: str = ""

    def __str__(self) -> str:
        return f"{self.factor}:{self.levels}" if self.levels else self.factor


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


def parse_contrast(text: str, table: Table) -> Asked:
    """Split the words at the colon, as far as the sheet knows the column.

    Raises
    ------
    DataError
        No such column.

    Examples
    --------
    >>> table = Table.from_arrays([[1.0], [2.0]], {"drug": ["no", "yes"]})
    >>> parse_contrast("drug:yes-no", table)
    Asked(factor='drug', levels='yes-no')
    """
    if text in table.sheet:
        return Asked(text)
    for place, letter in enumerate(text):
        if letter == ":" and text[:place].strip() in table.sheet:
            return Asked(text[:place].strip(), text[place + 1 :].strip())
    column(table.sheet, text.partition(":")[0], table.source.sheet)  # refused with the nearest name
    raise DataError(f"no column {text!r}", where=table.source.sheet)


def pair_of_levels(asked: Asked, factor: Factor) -> Difference:
    """Find the two levels in ``"yes-no"``; names of levels may hold hyphens themselves.

    Raises
    ------
    DataError
        The factor is numeric, or the words are not two of its levels, or they can be read in two
        ways.

    Examples
    --------
    >>> drug = Factor("drug", ("IL-2", "no"), np.array([0, 1]))
    >>> print(pair_of_levels(Asked("drug", "IL-2-no"), drug))
    drug: IL-2 - no
    """
    if factor.values is not None:
        raise DataError(
            f"column {factor.name!r} was read as numbers, which have a slope and no levels; ask "
            f"for {factor.name!r}, or declare it with --categorical {factor.name}"
        )
    known = set(factor.levels)
    text = asked.levels
    found = [
        (text[:place].strip(), text[place + 1 :].strip())
        for place, letter in enumerate(text)
        if letter in "-\N{MINUS SIGN}"
    ]
    found = [pair for pair in found if set(pair) <= known and pair[0] != pair[1]]
    if len(found) == 1:
        return Difference(factor.name, *found[0])
    if found:
        raise DataError(f"{str(asked)!r} can be read in {len(found)} ways; rename a level")
    raise DataError(
        f"{str(asked)!r} does not name two levels of {factor.name!r}; write {factor.name}:A-B for "
        f"A minus B with two of {listed(factor.levels)}"
    )
