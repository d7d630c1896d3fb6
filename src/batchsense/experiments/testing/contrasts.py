"""What is asked: contrasts as the user writes them, and options.

``drug``: a column; ``drug: yes - no`` and ``drug: (high + low)/2 - none``: means of its levels;
``drug*time``: an interaction; ``drug*time: a.late - a.early``, or the cells alone where no other
columns have such levels; ``drug*age: a - b``, with a numeric age: slopes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from batchsense.errors import DataError, listed
from batchsense.experiments.contrasts.combination import Difference, combination, interaction
from batchsense.experiments.contrasts.formula import Formula, crossed_with_margins
from batchsense.experiments.contrasts.grammar import Cell, weights_of_cells
from batchsense.experiments.design import Design
from batchsense.experiments.tables.columns import Factor, column, sorted_levels
from batchsense.experiments.tables.table import Table
from batchsense.experiments.tables.text import did_you_mean

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
    joint : bool
        Test all contrasts together as well, by F.
    design : str, optional
        The model as a formula, ``"~ drug * time + age"``; the batches stand beside it. Without it
        all that is named is in the model, and the products of columns whose cells are compared.
    blocks : str, optional
        The column that says which rows come from the same subject, or are replicates: they are
        correlated, by what the features agree on.
    per_feature : bool
        Give each feature a variance between ``blocks`` of its own, by a mixed model with
        Satterthwaite's degrees of freedom; nothing is shared among features then.
    specimen_weights : bool
        Weigh each specimen by how little it scatters in all features.
    """

    shrink: bool = True
    trend: bool = False
    robust: bool = False
    level: float = 0.95
    values: Values | None = None
    ignore_batches: bool = False
    corrected_by: str | None = None
    joint: bool = False
    design: str | None = None
    blocks: str | None = None
    per_feature: bool = False
    specimen_weights: bool = False


#: Names without a column are looked for among columns of at most so many levels.
_MOST_LEVELS = 100
_SIGNS = "+-\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Asked:
    """One contrast in the words of the user."""

    #: The columns of the sheet: several where cells or an interaction are asked for.
    columns: tuple[str, ...]
    levels: str = ""  #: What is compared, such as ``"yes - no"``; empty for the whole

    def __str__(self) -> str:
        name = "*".join(self.columns)
        return f"{name}:{self.levels}" if self.levels else name

    def contrasts(self, design: Design) -> list[Difference]:
        """What is to be tested, unless one column is asked for as a whole."""
        factors = {kept.name: kept for kept in design.kept}
        if not self.levels:
            return interaction(design, self.columns)
        cells: dict[Cell, float]
        labelled = [factors[name] for name in self.columns if factors[name].values is None]
        if len(labelled) == len(self.columns) == 1:
            pair = pair_of_levels(self, labelled[0])
            if pair is not None:
                cells = {(pair.upper,): 1.0, (pair.lower,): -1.0}
                return [combination(design, self.columns, cells, self.levels)]
        elif not labelled:
            one = self.columns[0]
            raise DataError(
                f"column {one!r} was read as numbers, which have a slope and no levels; ask for "
                f"{one!r}, which gives the difference for one more (10 more: ten times that), or "
                f"declare it with --categorical {one}"
            )
        cells = weights_of_cells(
            self.levels, [one.name for one in labelled], [one.levels for one in labelled]
        )
        return [combination(design, self.columns, cells, " ".join(self.levels.split()))]


def parse_contrast(text: str, table: Table, among: Sequence[str] | None = None) -> Asked:
    """Split the words at the colon, as far as the sheet knows the columns.

    Cells without columns, ``a.late - a.early``, are looked for ``among`` columns of the sheet.

    Examples
    --------
    >>> sheet = {"drug": ["no", "yes"], "time": ["late", "early"]}
    >>> table = Table.from_arrays([[1.0], [2.0]], sheet)
    >>> parse_contrast("drug: yes - no", table)
    Asked(columns=('drug',), levels='yes - no')
    >>> parse_contrast("yes.late - yes.early", table).columns
    ('drug', 'time')
    """
    text = text.strip()
    if text in table.sheet:
        return Asked((text,))
    for place, letter in enumerate([*text, ":"]):
        named = text[:place].strip()
        if letter == ":" and (columns := _columns(named, table)):
            return Asked(columns, text[place + 1 :].strip())
    found = _columns_of_cells(text, table, among)
    if len(found) == 1:
        return Asked(found[0], text)
    if found:
        raise DataError(
            f"{text!r} can be read as cells of {' or of '.join('*'.join(one) for one in found)}; "
            f"write {'*'.join(found[0])}: {text}",
            where=table.source.sheet,
        )
    if ":" in text or not any(sign in text for sign in _SIGNS):
        for name in map(str.strip, text.partition(":")[0].split("*")):
            column(table.sheet, name, table.source.sheet)  # refused with the nearest name
    labels = {label for one in table.sheet.values() for label in one if label is not None}
    words = [
        word
        for word in re.split(rf"[\s.*/(){_SIGNS[0]}{_SIGNS[2]}-]+", text)
        if word and word not in labels
    ]
    unknown = [word for word in words if not word.isdigit()]
    hint = f"no column has {unknown[0]!r}; {did_you_mean(unknown[0], labels)}" if unknown else ""
    raise DataError(
        f"{text!r} does not say of which columns these are levels; {hint}write COLUMN: A - B, or "
        f"COLUMN*COLUMN: A.C - A.D. Columns: {listed(table.sheet, 20)}",
        where=table.source.sheet,
    )


def _columns(text: str, table: Table) -> tuple[str, ...]:
    """The columns in ``drug`` or ``drug * time``; empty if there are none, or one comes twice."""
    if text in table.sheet:
        return (text,)
    names = tuple(one.strip() for one in text.split("*"))
    known = all(name in table.sheet for name in names)
    return names if known and len(set(names)) == len(names) else ()


def _has_cells(text: str) -> bool:
    return "." in text and any(sign in text for sign in _SIGNS[1:])


def _columns_of_cells(
    text: str, table: Table, among: Sequence[str] | None
) -> list[tuple[str, ...]]:
    """Every two or three columns, in order, that have the levels of all cells in a text."""
    if not _has_cells(text):
        return []
    levels: dict[str, tuple[str, ...]] = {}
    for name in among or table.sheet:
        labels = {label for label in table.sheet.get(name, ()) if label is not None}
        if 1 < len(labels) <= _MOST_LEVELS and any(label in text for label in labels):
            levels[name] = sorted_levels(labels)
    start = text.lstrip("( -\N{MINUS SIGN}")
    start = start.partition("*")[2].strip() if start[:1].isdigit() and "*" in start else start
    found: list[tuple[str, ...]] = []
    for first in levels:
        for columns in _starting(start, (first,), levels):
            try:
                weights_of_cells(text, columns, [levels[name] for name in columns])
            except DataError:
                continue
            found.append(columns)
    return found


def _starting(
    text: str, columns: tuple[str, ...], levels: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """The columns whose levels the first cell of a text can be made of."""
    rests = [
        text[len(form) + 1 :]
        for level in levels[columns[-1]]
        for form in (level, f"'{level}'", f'"{level}"')
        if text.startswith(form + ".")
    ]
    found = []
    for rest in rests:
        for name in levels:
            if name in columns:
                continue
            if any(rest.startswith((one, f"'{one}'", f'"{one}"')) for one in levels[name]):
                found.append((*columns, name))
            if len(columns) < 2:
                found.extend(_starting(rest, (*columns, name), levels))
    return list(dict.fromkeys(found))


def read_terms(
    texts: Sequence[str], keep: Sequence[str], formula: Formula | None, table: Table
) -> tuple[list[Asked], tuple[list[str], tuple[tuple[str, ...], ...]]]:
    """What is asked; columns and products of the model: of the formula, else all named."""
    among = None if formula is None else formula.columns
    asked = [parse_contrast(text, table, among) for text in texts]
    named = dict.fromkeys(name for one in asked for name in one.columns)
    if formula is None:
        crossed = [term for one in asked for term in crossed_with_margins(one.columns)]
        once = {frozenset(term): term for term in reversed(crossed)}
        return asked, ([*dict.fromkeys([*named, *keep])], tuple(sorted(once.values(), key=len)))
    for name in named:
        if name not in (*formula.columns, *keep):
            raise DataError(
                f"{name!r} is compared, but not in the design; add + {name} to it",
                where=table.source.sheet,
            )
    return asked, (list(dict.fromkeys([*formula.columns, *keep])), formula.interactions)


def pair_of_levels(asked: Asked, factor: Factor) -> Difference | None:
    """Find the two levels in ``"yes-no"``; names of levels may hold hyphens themselves.

    None if it is something else than two levels.
    """
    known = set(factor.levels)
    text = asked.levels
    found = [
        (text[:place].strip(), text[place + 1 :].strip())
        for place, letter in enumerate(text)
        if letter in "-\N{MINUS SIGN}"
    ]
    found = [pair for pair in found if set(pair) <= known and pair[0] != pair[1]]
    if len(found) > 1:
        raise DataError(
            f"{str(asked)!r} can be read in {len(found)} ways; put the names of levels in quotes"
        )
    return Difference(factor.name, *found[0]) if found else None
