"""What stands where a batch column would: several columns, of categories and numbers, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.tables.columns import (
    Factor,
    batch_factor,
    column,
    kept_factors,
    may_be_codes,
)
from batchsense.experiments.tables.table import Table
from batchsense.experiments.tables.text import is_number, nearly_numbers
from batchsense.notes import Note

#: Numbers that name batches are shared by more specimens than this on average; ages are not.
FEW_EACH = 3


@dataclass(frozen=True, slots=True, eq=False)
class NumericBatches(Factor):
    """Numeric columns that stand where a batch column would: surrogate variables."""

    #: (specimens, surrogates): the numbers; ``levels`` holds their names, and all specimens have
    #: one code.
    columns: Floats | None = None

    def indicators(self) -> Floats:
        """The numbers themselves, shape (specimens, surrogates)."""
        return np.empty((len(self.codes), 0)) if self.columns is None else self.columns


@dataclass(frozen=True, slots=True, eq=False)
class Nuisances(Factor):
    """Several batch columns of any kind; ``levels`` are the occupied cells of the categories."""

    parts: tuple[Factor, ...] = ()  #: The columns, in the order in which they were named

    def indicators(self) -> Floats:
        """Every level of every column, and the numbers around their means."""
        return np.hstack(
            [
                one.indicators()
                if one.values is None
                else (one.values - one.values.mean())[:, None]
                for one in self.parts
            ]
        )

    def design(self) -> tuple[Floats, tuple[str, ...]]:
        """The columns of a model with a constant, and their names."""
        return np.hstack([one.design()[0] for one in self.parts]), tuple(
            name for one in self.parts for name in one.design()[1]
        )


def parts_of(nuisance: Factor) -> tuple[Factor, ...]:
    """The columns that the batches are made of."""
    return nuisance.parts if isinstance(nuisance, Nuisances) else (nuisance,)


def sheet_columns(nuisance: Factor) -> tuple[str, ...]:
    """Their names in the sheet."""
    if isinstance(nuisance, NumericBatches):
        return nuisance.levels
    return tuple(one.name for one in parts_of(nuisance))


def indicator_names(nuisance: Factor) -> tuple[str, ...]:
    """The names of the columns of ``indicators``."""
    if isinstance(nuisance, NumericBatches):
        return nuisance.levels
    return tuple(
        name
        for one in parts_of(nuisance)
        for name in (
            [f"{one.name}[{level}]" for level in one.levels] if one.values is None else [one.name]
        )
    )


def terms_to_zero(nuisance: Factor) -> Floats:
    """Levels coded to sum to zero and numbers around their mean, shape (specimens, terms)."""
    if isinstance(nuisance, NumericBatches):
        columns = nuisance.indicators()
        return np.asarray(columns - columns.mean(axis=0))
    if isinstance(nuisance, Nuisances):
        return np.hstack([terms_to_zero(one) for one in nuisance.parts])
    if nuisance.values is not None:
        return np.asarray((nuisance.values - nuisance.values.mean())[:, None])
    indicators = nuisance.indicators()
    return np.asarray(indicators[:, :-1] - indicators[:, -1:])


def numeric_batches(table: Table, names: Sequence[str]) -> NumericBatches:
    """Read numeric columns, such as ``sv1`` and ``sv2``, in the place of a batch column."""
    factors, _ = kept_factors(table, names, "", ColumnKinds(numeric=names))
    numbers = [one.design()[0] for one in factors]
    codes = np.zeros(len(table.specimens), dtype=np.int64)
    return NumericBatches(" + ".join(names), tuple(names), codes, columns=np.hstack(numbers))


def no_batches(specimens: int) -> NumericBatches:
    """What stands in the place of batches of which nothing is known yet."""
    codes = np.zeros(specimens, dtype=np.int64)
    return NumericBatches("", (), codes, columns=np.empty((specimens, 0)))


def several_batches(
    table: Table, names: Sequence[str], keep: Sequence[str], kinds: ColumnKinds
) -> tuple[Nuisances, ColumnKinds, list[Note]]:
    """Read several batch columns; also the kinds that remain for what is kept, and notes.

    Text is categories and fractions are numbers. Whole numbers are categories where they are
    counted through and shared by three specimens on average; else their kind is asked for, as is
    that of fractions that may be codes.
    """
    where = table.source.sheet
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"column {name!r} is named as a batch twice", where=where)
        if name in keep:
            raise DataError(f"column {name!r} cannot be both the batch and kept", where=where)
    parts, notes = [], []
    for name in names:
        if _is_numeric(table, name, kinds):
            (part,), _ = kept_factors(table, [name], "", ColumnKinds(numeric=[name]))
            if name not in kinds.numeric:
                message = f"Batch column {name!r} was read as a number; --categorical declares it."
                notes.append(Note("kind_assumed", message, (name,)))
        else:
            part = batch_factor(table, name, ColumnKinds(categorical=[name]))
        parts.append(part)
    labelled = [one for one in parts if one.values is None]
    cells = [" · ".join(each) for each in zip(*map(_labels, labelled), strict=True)]
    occupied = sorted(set(cells))
    place = {cell: code for code, cell in enumerate(occupied)}
    codes = np.array([place[cell] for cell in cells] or [0] * len(table.specimens), dtype=np.int64)
    rest = ColumnKinds(
        [name for name in kinds.categorical if name not in names],
        [name for name in kinds.numeric if name not in names],
    )
    levels = tuple(occupied) or ("",)
    return Nuisances(" + ".join(names), levels, codes, parts=tuple(parts)), rest, notes


def _labels(factor: Factor) -> list[str]:
    return [factor.levels[code] for code in factor.codes.tolist()]


def _is_numeric(table: Table, name: str, kinds: ColumnKinds) -> bool:
    if name in kinds.categorical and name in kinds.numeric:
        raise DataError(
            f"column {name!r} is declared categorical and numeric", where=table.source.sheet
        )
    if name in kinds.numeric or name in kinds.categorical or name in table.categorical:
        return name in kinds.numeric
    labels = [label for label in column(table.sheet, name, table.source.sheet) if label is not None]
    distinct = set(labels)
    if not all(map(is_number, distinct)):
        nearly = nearly_numbers(distinct)
        if nearly and any("." in one or "," in one for one in distinct):  # what measures something
            raise DataError(
                f"batch column {name!r} would be read as {len(distinct)} categories: {nearly}, or "
                f"say --categorical {name} (categorical in Python)",
                where=table.source.sheet,
            )
        return False
    numbers = sorted(map(float, distinct))
    codes = may_be_codes(numbers, len(labels))
    whole = all(number.is_integer() for number in numbers)
    if whole and len(labels) >= FEW_EACH * len(numbers) and (codes or len(numbers) == 2):
        return False
    if not whole and not codes:
        return True
    raise DataError(
        f"batch column {name!r} holds {len(numbers)} distinct numbers ({listed(distinct, 3)}), "
        f"which may be names or a measurement, and what is removed depends on it. Say --numeric "
        f"{name} or --categorical {name} (categorical or numeric in Python)",
        where=table.source.sheet,
    )
