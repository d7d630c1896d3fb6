"""Kept factors as columns that mean the same in every part of the data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.columns import FEW_VALUES, Factor, label_factor
from batchsense.experiments.tables.table import Table
from batchsense.experiments.tables.text import is_number


@dataclass(frozen=True, slots=True)
class Term:
    """One column of the kept part of a model: a level of a factor, or a number."""

    factor: str  #: The column of the sheet
    level: str | None  #: The level that the column marks; None for numbers

    def __str__(self) -> str:
        """Name the term as in a design: ``drug[yes]``, ``age``."""
        return self.factor if self.level is None else f"{self.factor}[{self.level}]"


def terms_of(factors: Sequence[Factor]) -> tuple[Term, ...]:
    """List the terms of factors: *every* level has one, so that none depends on the others.

    A column for each level says the same as the constant and all levels but one, and the fit knows
    how to deal with that. But which level is the first one differs from part to part of the data,
    and the meaning of these columns does not.
    """
    return tuple(
        Term(factor.name, level)
        for factor in factors
        for level in ((None,) if factor.values is not None else factor.levels)
    )


def columns_of(factors: Sequence[Factor], specimens: int) -> Floats:
    """The columns of :func:`terms_of`, shape (specimens, terms)."""
    columns = [one.indicators() if one.values is None else one.values[:, None] for one in factors]
    return np.hstack([np.zeros((specimens, 0)), *columns])


def read_factors(
    table: Table, keep: Sequence[str], categorical: Collection[str], numeric: Collection[str]
) -> tuple[Factor, ...]:
    """Read kept factors of a part of the data, where a level or all variation may be missing.

    Kinds that are not declared follow the rule of
    :func:`~batchsense.experiments.tables.columns.kept_factors`.
    """
    return tuple(
        _read(table, name, name in categorical or name in table.categorical, name in numeric)
        for name in keep
    )


def match_terms(table: Table, terms: Sequence[Term]) -> Floats:
    """The columns of known terms for other specimens.

    Shape (specimens, terms), the terms those that were fitted.
    """
    columns = np.zeros((len(table.specimens), len(terms)))
    for name in dict.fromkeys(term.factor for term in terms):
        places = [place for place, term in enumerate(terms) if term.factor == name]
        known = [terms[place].level for place in places]
        if known == [None]:
            columns[:, places[0]] = _numbers(label_factor(table, name), table)
            continue
        factor = label_factor(table, name)
        unseen = [level for level in factor.levels if level not in known]
        if unseen:
            raise DataError(
                f"column {name!r} holds levels that were not fitted: {listed(unseen)}; known are "
                f"{listed(known)}. Fit again with these specimens included",
                where=table.source.sheet,
            )
        at = np.array([places[known.index(level)] for level in factor.levels])
        columns[np.arange(len(columns)), at[factor.codes]] = 1.0
    return columns


def _read(table: Table, name: str, categorical: bool, numeric: bool) -> Factor:
    factor = label_factor(table, name)
    if categorical:
        return factor
    numbers = all(is_number(level) for level in factor.levels)
    whole = numbers and all(float(level).is_integer() for level in factor.levels)
    if numeric or (numbers and not (whole and len(factor.levels) <= FEW_VALUES)):
        values = _numbers(factor, table)
        return Factor(name, (), np.zeros(len(values), dtype=np.int64), values)
    return factor


def _numbers(factor: Factor, table: Table) -> Floats:
    text = [level for level in factor.levels if not is_number(level)]
    if text:
        raise DataError(
            f"column {factor.name!r} holds {text[0]!r}, not a number", where=table.source.sheet
        )
    return np.array([float(level) for level in factor.levels])[factor.codes]
