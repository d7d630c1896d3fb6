"""Columns of the sheet as batches and factors, with every way in which they can be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, listed
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.tables.matrix import refuse_magnitude
from batchsense.experiments.tables.table import Column, Table
from batchsense.experiments.tables.text import did_you_mean, is_number, look, nearly_numbers
from batchsense.notes import Note

Kind = Literal["categorical", "numeric"]
#: At most so many distinct whole numbers are read as categories unless declared: plates, grades and
#: arms have few, ages and days many. A guess, so a note says where it decided.
FEW_VALUES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """One column of the sheet, ready for a design.

    Attributes
    ----------
    name : str
        The column.
    levels : tuple of str
        Its levels, sorted (numbers by size); empty for a numeric factor.
    codes : array of shape (specimens,)
        Index into ``levels`` for each specimen; zeros for a numeric factor.
    values : array of shape (specimens,) or None
        The numbers of a numeric factor.
    """

    name: str
    levels: tuple[str, ...]
    codes: Integers
    values: Floats | None = None

    @property
    def kind(self) -> Kind:
        """Whether the factor has levels or numbers."""
        return "categorical" if self.values is None else "numeric"

    @property
    def counts(self) -> Integers:
        """Specimens per level."""
        return np.bincount(self.codes, minlength=len(self.levels))

    def indicators(self) -> Floats:
        """One 0/1 column per level, shape (specimens, levels)."""
        return np.eye(len(self.levels))[self.codes]

    def design(self) -> tuple[Floats, tuple[str, ...]]:
        """The columns, (specimens, terms), of a model with intercept, and their names.

        Levels but the first, such as ``drug[yes]``, or the numbers.
        """
        if self.values is not None:
            return self.values[:, None], (self.name,)
        names = tuple(f"{self.name}[{level}]" for level in self.levels[1:])
        return self.indicators()[:, 1:], names


@dataclass(frozen=True, slots=True, eq=False)
class NumericBatches(Factor):
    """Numeric columns that stand where a batch column would: surrogate variables.

    Attributes
    ----------
    columns : array of shape (specimens, surrogates)
        The numbers; ``levels`` holds their names, and all specimens have one code.
    """

    columns: Floats | None = None

    def indicators(self) -> Floats:
        """The numbers themselves, shape (specimens, surrogates)."""
        return np.empty((len(self.codes), 0)) if self.columns is None else self.columns


def numeric_batches(table: Table, names: Sequence[str]) -> NumericBatches:
    """Read numeric columns, such as ``sv1`` and ``sv2``, in the place of a batch column.

    Raises
    ------
    DataError
        Unknown or repeated column, missing labels, text, or one value only.

    Examples
    --------
    >>> table = Table.from_arrays([[1.0], [2.0], [4.0]], {"sv1": [0.1, 0.2, 0.9]})
    >>> numeric_batches(table, ["sv1"]).name
    'sv1'
    """
    factors, _ = kept_factors(table, names, "", ColumnKinds(numeric=names))
    numbers = [one.design()[0] for one in factors]
    codes = np.zeros(len(table.specimens), dtype=np.int64)
    return NumericBatches(" + ".join(names), tuple(names), codes, None, np.hstack(numbers))


def column(sheet: Mapping[str, Column], name: str, where: str = "the sheet") -> Column:
    """The column of this name, or an error that says which name is nearest.

    Raises
    ------
    DataError
        There is no such column.

    Examples
    --------
    >>> column({"batch": ("1", "2")}, "btach")
    Traceback (most recent call last):
    batchsense.errors.DataError: the sheet: no column 'btach'; did you mean 'batch'? Columns: batch
    """
    if name in sheet:
        return sheet[name]
    hint = did_you_mean(name, sheet)
    raise DataError(f"no column {name!r}; {hint}Columns: {listed(sheet, 20)}", where=where)


def batch_factor(table: Table, name: str) -> Factor:
    """Read the batch labels: always categories, even where they are numbers.

    Raises
    ------
    DataError
        Unknown column, missing labels, one batch only, or as many batches as specimens.
    """
    factor = _categorical(name, _complete(table, name))
    if len(factor.levels) == 1:
        raise DataError(
            f"column {name!r} holds one batch only ({factor.levels[0]!r}); there is nothing to "
            "compare or correct",
            where=table.source.sheet,
        )
    if len(factor.levels) == len(table.specimens) > 2:
        raise DataError(
            f"column {name!r} has a batch of its own for each specimen; name the column that "
            "says which specimens were processed together",
            where=table.source.sheet,
        )
    return factor


def label_factor(table: Table, name: str) -> Factor:
    """Read labels as categories, however many there are: for specimens to be corrected later.

    Raises
    ------
    DataError
        Unknown column or missing labels.
    """
    return _categorical(name, _complete(table, name))


def kept_factors(
    table: Table,
    keep: Sequence[str],
    batch_name: str,
    kinds: ColumnKinds = ColumnKinds(),
) -> tuple[tuple[Factor, ...], tuple[Note, ...]]:
    """Read the factors that must be kept, with notes on what the rule below decided.

    Text is read as categories, numbers as numbers. Whole numbers are ambiguous: at most six
    distinct ones are read as categories, more of them as numbers, with a note unless they are two
    or most are different. ``kinds`` declares the kind, as does a categorical column of a Parquet
    or AnnData file.

    Raises
    ------
    DataError
        Unknown column, missing labels, a column with one value only or with a level of its own for
        each specimen, a column that is given twice or is the batch, or a contradicting kind.
    """
    where = table.source.sheet
    declared: dict[str, Kind] = {name: "categorical" for name in kinds.categorical}
    for name in kinds.numeric:
        if name in declared:
            raise DataError(f"column {name!r} is declared categorical and numeric", where=where)
        declared[name] = "numeric"
    if undeclared := [name for name in declared if name not in keep]:
        raise DataError(
            f"a kind is declared for {listed(map(repr, undeclared))}, which is not kept; add "
            f"--keep {undeclared[0]}",
            where=where,
        )
    factors: list[Factor] = []
    notes: list[Note] = []
    for name in keep:
        if name == batch_name:
            raise DataError(f"column {name!r} cannot be both the batch and kept", where=where)
        if name in [factor.name for factor in factors]:
            raise DataError(f"column {name!r} is to be kept twice", where=where)
        factor, note = _kept(table, name, declared.get(name))
        factors.append(factor)
        notes.extend(note)
    return tuple(factors), (*notes, *look_alikes(factors))


def look_alikes(factors: Iterable[Factor]) -> list[Note]:
    """Remark on labels that a reader would take for the same, one note for each factor."""
    notes = []
    for one in factors:
        groups: dict[str, list[str]] = {}
        for level in one.levels:
            groups.setdefault(look(level), []).append(level)
        alike = [level for group in groups.values() if len(group) > 1 for level in group]
        if alike:
            message = (
                f"Labels of {one.name!r} that look alike count as different: "
                f"{listed(map(ascii, alike))}. If they mean the same, write them the same."
            )
            notes.append(Note("look_alike_labels", message, tuple(alike)))
    return notes


def _kept(table: Table, name: str, kind: Kind | None) -> tuple[Factor, list[Note]]:
    if kind is None and name in table.categorical:
        kind = "categorical"
    labels = _complete(table, name)
    where = table.source.sheet
    distinct = set(labels)
    if len(distinct) == 1:
        raise DataError(
            f"column {name!r} has one value only ({labels[0]!r}); it holds nothing to keep",
            where=where,
        )
    all_numbers = all(is_number(label) for label in distinct)
    notes: list[Note] = []
    declared = kind is not None
    if kind is None:
        whole = all_numbers and all(float(label).is_integer() for label in distinct)
        few = whole and len(distinct) <= FEW_VALUES
        kind = "numeric" if all_numbers and not few else "categorical"
        if whole and 2 < len(distinct) <= len(labels) / 2:
            read_as = "a number" if kind == "numeric" else "categories"
            message = (
                f"Column {name!r} has {len(distinct)} distinct whole numbers and was read as "
                f"{read_as}; --numeric {name} or --categorical {name} declares it."
            )
            notes.append(Note("kind_assumed", message, (name,)))
    if kind == "numeric":
        if not all_numbers:
            text = next(label for label in labels if not is_number(label))
            raise DataError(f"column {name!r} holds {text!r}, not a number", where=where)
        values = np.array([float(label) for label in labels])
        if np.ptp(values) == 0:
            raise DataError(f"column {name!r} has one value only", where=where)
        refuse_magnitude(np.abs(values).max(keepdims=True), [f"column {name!r}"], where)
        return Factor(name, (), np.zeros(len(labels), dtype=np.int64), values), notes
    nearly = nearly_numbers(distinct)
    if len(distinct) == len(labels) > 2:
        raise DataError(
            f"column {name!r} has a level of its own for each specimen, so nothing can be told "
            f"about it; {nearly or 'name a column that specimens share'}",
            where=where,
        )
    if nearly and not declared:
        message = (
            f"Column {name!r} was read as {len(distinct)} categories: {nearly}, or declare it with "
            f"--categorical {name}."
        )
        notes.append(Note("kind_assumed", message, (name,)))
    return _categorical(name, labels), notes


def _complete(table: Table, name: str) -> tuple[str, ...]:
    labels = column(table.sheet, name, table.source.sheet)
    missing = [table.specimens[i] for i, label in enumerate(labels) if label is None]
    if missing:
        raise DataError(
            f"column {name!r} has no label for {listed(map(repr, missing))}; fill it in or take "
            "these specimens out of the matrix",
            where=table.source.sheet,
        )
    return tuple(label for label in labels if label is not None)


def _categorical(name: str, labels: Sequence[str]) -> Factor:
    levels = sorted_levels(labels)
    index = {level: code for code, level in enumerate(levels)}
    codes = np.array([index[label] for label in labels], dtype=np.int64)
    return Factor(name, levels, codes)


def sorted_levels(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels in order: numbers by size, anything else as text.

    Examples
    --------
    >>> sorted_levels(["10", "9", "10"]), sorted_levels(["10", "9", "a"])
    (('9', '10'), ('10', '9', 'a'))
    """
    distinct = set(labels)
    if all(is_number(label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (float(label), label)))
    return tuple(sorted(distinct))
