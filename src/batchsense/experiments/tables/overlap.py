"""What is in the sheet is no feature: columns that the matrix holds as well are left out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, listed
from batchsense.experiments.tables.text import is_number, look
from batchsense.notes import Note

if TYPE_CHECKING:
    from batchsense.experiments.tables.table import Column, Table

#: Numbers of sheet and matrix that agree so closely are the same: float32 holds seven digits.
_SAME = 1e-6
#: A correlation this near to 1 is a change of unit, not chance.
_SAME_UNIT = 1e-9
#: A feature is said to tell a column where fewer than one in a thousand tables of noise, whose
#: features have as few values, would have such a one.
_CHANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Aside:
    """Numbers of the matrix that are no features, kept to be written back as they were.

    Attributes
    ----------
    names : tuple of str
        What the matrix calls them.
    places : tuple of int
        Where they stand among all that the matrix holds, ascending.
    values : array of shape (specimens, names)
        The numbers.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    values: Floats


def set_aside(table: Table) -> Table:
    """Leave out of the features what is a column of the sheet, with a note.

    A feature is such a column where it has its name and tells the same: the same numbers, in
    whatever unit, or one number for each label. Features that tell a column exactly under another
    name stay, with a note.

    Raises
    ------
    DataError
        A feature has the name of a column and tells something else, or nothing else is left.

    Examples
    --------
    >>> from batchsense.experiments import Table
    >>> table = Table.from_arrays(
    ...     [[5.0, 0.1], [7.0, 0.3], [7.0, 0.2]],
    ...     {"month": ["May", "July", "July"]},
    ...     features=["month", "gene"],
    ... )
    >>> table.features, table.aside.names, table.notes[0].code
    (('gene',), ('month',), 'sheet_columns_left_out')
    """
    shared, others = shared_with_sheet(table.values, table.features, table.sheet)
    # Ids are not what a feature measures: one called so may hold anything else.
    others = [one for one in others if one.strip() != table.source.id_column]
    if others:
        raise DataError(
            f"features have names of columns of the sheet and hold something else: "
            f"{listed(map(repr, others))}; rename one of the two, or take it out",
            where=table.source.matrix,
        )
    if len(shared) == len(table.features):
        raise DataError(
            "the sheet holds every feature of the matrix as a column; give a sheet without them, "
            "or the one table alone with its columns that are no features: --sheet-columns",
            where=table.source.sheet,
        )
    if shared:
        table = _without(table, shared)
    return replace(table, notes=(*table.notes, *_telling_features(table)))


def shared_with_sheet(
    values: Floats, features: Sequence[str], sheet: Mapping[str, Column]
) -> tuple[dict[int, str], list[str]]:
    """Features that are columns of the sheet, by place, and those that only bear such a name.

    Shapes: ``values`` (specimens, features).
    """
    columns = {look(name): name for name in sheet}
    shared: dict[int, str] = {}
    others: list[str] = []
    for place, feature in enumerate(features):
        name = columns.get(look(feature))
        if name is None:
            continue
        if _tells_the_same(values[:, place], sheet[name]):
            shared[place] = name
        elif feature.strip() == name:
            others.append(feature)
    return shared, others


def with_aside(table: Table, values: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Values and features of a table as its matrix had them, with what was left out in its place.

    Shapes: the values (specimens, features), the result (specimens, features and what was left
    out).
    """
    if table.aside is None:
        return values, table.features
    count = len(table.features) + len(table.aside.names)
    others = np.setdiff1d(np.arange(count), table.aside.places)
    whole: Floats = np.empty((len(values), count))
    whole[:, others], whole[:, table.aside.places] = values, table.aside.values
    names = dict(zip(table.aside.places, table.aside.names, strict=True))
    names |= dict(zip(others.tolist(), table.features, strict=True))
    return whole, tuple(names[place] for place in range(count))


def _without(table: Table, shared: dict[int, str]) -> Table:
    places = tuple(shared)
    names = tuple(table.features[place] for place in places)
    note = Note(
        "sheet_columns_left_out",
        f"Columns of the sheet that the matrix holds as well, with the same content, were left out "
        f"of its features: {listed(map(repr, names))}.",
        names,
    )
    kept = np.setdiff1d(np.arange(len(table.features)), places)
    return replace(
        table,
        values=table.values[:, kept],
        features=tuple(table.features[place] for place in kept),
        notes=(*table.notes, note),
        aside=Aside(names, places, table.values[:, places]),
    )


def _tells_the_same(values: Floats, labels: Column) -> bool:
    rows = [row for row, label in enumerate(labels) if label is not None]
    rows = [row for row in rows if not np.isnan(values[row])]
    texts, numbers = [str(labels[row]) for row in rows], values[rows]
    if not rows:
        return False
    if all(map(is_number, texts)):
        given = np.array([float(text) for text in texts])
        if np.allclose(given, numbers, rtol=_SAME, atol=0.0):
            return True
        if len(rows) > 2 and np.ptp(given) > 0 and np.ptp(numbers) > 0:
            return bool(abs(np.corrcoef(given, numbers)[0, 1]) > 1.0 - _SAME_UNIT)
    pairs = len(set(zip(texts, numbers.tolist(), strict=True)))
    return pairs == len(set(texts)) == len(set(numbers.tolist())) < len(rows)


def _telling_features(table: Table) -> list[Note]:
    """Remark on features of other names that have one value for each label of a column."""
    notes = []
    for name, labels in table.sheet.items():
        levels, codes = np.unique([str(label) for label in labels], return_inverse=True)
        if None in labels or not 1 < len(levels) < len(labels):
            continue
        found = [table.features[place] for place in _one_to_one(table.values, codes)]
        if found:
            message = (
                f"Each label of {name!r} has one value of its own in {listed(map(repr, found))}: "
                f"if that is {name!r} in other words, it is no feature; take it out of the matrix."
            )
            notes.append(Note("features_tell_a_column", message, (name, *found)))
    return notes


def _one_to_one(values: Floats, codes: Integers) -> Sequence[int]:
    """The features with one value in each group and another in each, unless chance makes such.

    Most features drop out at the first rows, so that this costs about one pass over the values.
    """
    first = np.unique(codes, return_index=True)[1]
    few = np.flatnonzero((np.diff(np.sort(values[first], axis=0), axis=0) > 0).all(axis=0))
    for row in values:  # only features with as many values as there are groups stay
        few = few[(row[few] == values[np.ix_(first, few)]).any(axis=0)]
        if not len(few):
            return []
    sizes = np.bincount(codes)
    ways = special.gammaln(len(codes) + 1) - special.gammaln(sizes + 1).sum()
    if np.log(len(few) / _CHANCE) > ways - special.gammaln(len(sizes) + 1):
        return []
    same = (values[:, few] == values[np.ix_(first[codes], few)]).all(axis=0)
    return [int(place) for place in few[same]]
