"""Columns of the sheet as batches and factors, with every way in which they can be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, listed
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.tables.matrix import DELIMITERS, refuse_magnitude, suffix_of
from batchsense.experiments.tables.table import Column, Table
from batchsense.experiments.tables.text import (
    MISSING,
    STRINGIFIED,
    did_you_mean,
    is_number,
    look,
    nearly_numbers,
)
from batchsense.notes import Note

Kind = Literal["categorical", "numeric"]
#: At most so many distinct whole numbers are read as categories unless declared: plates, grades and
#: arms have few, ages and days many. A guess, so a note says where it decided.
FEW_VALUES = 6
#: More distinct numbers are names only if they are counted through: conditions, arms and dates by
#: code are fewer. Counted through means that at most every third number is left out.
_MOST_CODES, _DENSE = 20, 1.5


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
    otherwise : Factor or None
        The other reading, where nobody declared the kind and the numbers allow both.
    """

    name: str
    levels: tuple[str, ...]
    codes: Integers
    values: Floats | None = None
    otherwise: Factor | None = None

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


def batch_factor(table: Table, name: str, kinds: ColumnKinds | None = None) -> Factor:
    """Read the batch labels: always categories, even where they are numbers.

    Fractions are no names of batches, unless ``kinds`` or the file declares them to be; None where
    the asker has no way to declare it.

    Raises
    ------
    DataError
        Unknown column, missing labels, fractional numbers, one batch only, or as many batches as
        specimens.
    """
    declared = name in table.categorical or (kinds is not None and name in kinds.categorical)
    factor = _categorical(name, _complete(table, name, declared))
    _refuse_fractions(factor, table.source.sheet, declared, kinds is not None)
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


def _fractions(levels: Sequence[str]) -> list[str]:
    """Levels that are no whole numbers, where all are numbers."""
    if not all(map(is_number, levels)):
        return []
    return [level for level in levels if not float(level).is_integer()]


def _refuse_fractions(factor: Factor, where: str, declared: bool, declarable: bool) -> None:
    levels = factor.levels
    if not declared and (fractions := _fractions(levels)):
        declare = f" say --categorical {factor.name}, or" if declarable else ""
        raise DataError(
            f"column {factor.name!r} holds fractional numbers ({listed(fractions, 3)}), which as "
            f"labels would make {len(levels)} batches. If it measures something, name it as "
            f"--surrogate {factor.name} of test, which takes out its slope, or divide it into "
            f"classes in a column of its own. If these are names of batches,{declare} put a letter "
            "before them",
            where=where,
        )


def label_factor(table: Table, name: str) -> Factor:
    """Read labels as categories, however many there are: for specimens to be corrected later.

    Raises
    ------
    DataError
        Unknown column or missing labels.
    """
    return _categorical(name, _complete(table, name, declared=True))


def unit_factor(table: Table, name: str) -> Factor:
    """Read what says which rows are of one subject or specimen; measured numbers do not."""
    found = label_factor(table, name)
    if name not in table.categorical and (fractions := _fractions(found.levels)):
        raise DataError(
            f"column {name!r} holds fractional numbers ({listed(fractions, 3)}), which measure "
            "something and do not say which rows belong together; name the column of the subjects, "
            "or put a letter before them if they are names",
            where=table.source.sheet,
        )
    return found


def kept_factors(
    table: Table,
    keep: Sequence[str],
    batch_name: str,
    kinds: ColumnKinds = ColumnKinds(),
) -> tuple[tuple[Factor, ...], tuple[Note, ...]]:
    """Read the factors that must be kept, with notes on what the rule below decided.

    Text is read as categories, numbers as numbers; at most six distinct whole numbers as
    categories. More than two numbers that specimens share may be either: a note says as what they
    were read, and the factor holds the other reading, so that a question is put where the answer
    depends on it (:func:`~batchsense.experiments.readings.refuse_doubtful`). ``kinds`` declares the
    kind, as does a categorical column of a Parquet or AnnData file.

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
    if declared.get(batch_name) == "numeric":
        raise DataError(
            f"column {batch_name!r} names the batches, so it cannot be numeric; a number that is "
            f"no label is --surrogate {batch_name} of test",
            where=where,
        )
    if undeclared := [name for name in declared if name not in (*keep, batch_name)]:
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
    """Remark on labels that a reader would take for the same, or for missing, by factor."""
    notes = []
    for one in factors:
        if marks := [level for level in one.levels if level in MISSING | STRINGIFIED]:
            message = (
                f"{listed(map(repr, marks))} of {one.name!r} was read as a label, as it is stored. "
                "Where it marks a missing one, leave that empty."
            )
            notes.append(Note("label_like_missing", message, tuple(marks)))
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
    labels = _complete(table, name, declared=kind == "categorical")
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
        if all_numbers and may_be_codes(sorted(map(float, distinct)), len(labels)):
            read_as = "a number" if kind == "numeric" else "categories"
            message = (
                f"Column {name!r} has {len(distinct)} distinct {'whole ' * whole}numbers and was "
                f"read as {read_as}; --numeric {name} or --categorical {name} declares it."
            )
            notes.append(Note("kind_assumed", message, (name,)))
            categories, numbers = _categorical(name, labels), _numeric(name, labels, where)
            if kind == "numeric":
                return replace(numbers, otherwise=categories), notes
            return replace(categories, otherwise=numbers), notes
    if kind == "numeric":
        if not all_numbers:
            text = next(label for label in labels if not is_number(label))
            raise DataError(f"column {name!r} holds {text!r}, not a number", where=where)
        return _numeric(name, labels, where), notes
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


def may_be_codes(numbers: Sequence[float], specimens: int) -> bool:
    """Tell whether distinct numbers, sorted, may be names of something.

    Two are the same either way, and one each tells nothing.
    Names are few, each shared by two specimens on average; or they are counted through, 1, 2, 3, …,
    perhaps with gaps. The ages of many subjects, who come twice, are neither.
    """
    if not 2 < len(numbers) < specimens:
        return False
    steps = np.diff(numbers)
    whole = all(number.is_integer() for number in numbers)
    dense = float(steps.sum()) < _DENSE * len(numbers)
    counted = whole and (dense or bool((steps == steps[0]).all()))
    return counted or len(numbers) <= min(_MOST_CODES, specimens / 2)


def _numeric(name: str, labels: Sequence[str], where: str) -> Factor:
    values = np.array([float(label) for label in labels])
    if np.ptp(values) == 0:
        raise DataError(f"column {name!r} has one value only", where=where)
    refuse_magnitude(np.abs(values).max(keepdims=True), [f"column {name!r}"], where)
    return Factor(name, (), np.zeros(len(labels), dtype=np.int64), values)


def _complete(table: Table, name: str, declared: bool) -> tuple[str, ...]:
    """The labels, none of them missing, or turned into text where it was."""
    labels = column(table.sheet, name, table.source.sheet)
    refuse_missing(table, name)
    doubtful = [] if declared else [i for i, one in enumerate(labels) if one in STRINGIFIED]
    if doubtful:
        names = listed(repr(table.specimens[i]) for i in doubtful)
        raise DataError(
            f"column {name!r} holds the text {labels[doubtful[0]]!r} for {names}, which programs "
            "write where a label is missing. Leave it empty there; if it is a label, say "
            f"--categorical {name} (categorical in Python)",
            where=table.source.sheet,
        )
    return tuple(label for label in labels if label is not None)


def refuse_missing(table: Table, name: str, instead: str = "") -> None:
    """Refuse specimens without a label; ``instead`` says what else can be done.

    Raises
    ------
    DataError
        Naming column and specimens.
    """
    labels = table.sheet[name]
    missing = [table.specimens[i] for i, label in enumerate(labels) if label is None]
    if missing:
        raise DataError(
            f"column {name!r} has no label for {listed(map(repr, missing))}; fill it in or take "
            f"these specimens out of the matrix{instead}{_marks(table.source.sheet)}",
            where=table.source.sheet,
        )


def _marks(sheet: str) -> str:
    """What a text file cannot say, where it is one."""
    if suffix_of(sheet.partition("#")[0]) not in (*DELIMITERS, ".xlsx"):
        return ""
    return ". In text and Excel files NA, NaN and null mean that a label is missing; write another"


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
