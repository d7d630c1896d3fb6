"""Which columns of the sheet a surrogate looks like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.surrogates.estimation import f_test
from batchsense.experiments.tables.table import Table
from batchsense.experiments.tables.text import is_number
from batchsense.variation.linear import factor

#: A column of the sheet with more levels than this share of the specimens, so with less than two
#: specimens a level, explains anything.
_MOST_LEVELS = 0.5
#: The usual 5 %, for all columns of the sheet together.
_BEYOND_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far a column of the sheet explains a surrogate.

    Attributes
    ----------
    column : str
        The column.
    adjusted_r2 : float
        R² with what chance explains subtracted.
    p_value : float
        Of the F test, not corrected for the number of columns.
    """

    column: str
    adjusted_r2: float
    p_value: float


def likenesses(table: Table, values: Floats) -> tuple[Likeness, ...]:
    """The columns of the sheet, at most three, that explain a surrogate best, the best first.

    Of all columns that were looked at, only those that explain more than chance does (F, Bonferroni
    at 5 %) are like it: half of all columns of noise have a positive adjusted R². Text with too
    many levels and the ids are not looked at.
    """
    found = []
    rows = len(values)
    for name, entries in table.sheet.items():
        present = np.array([entry is not None for entry in entries])
        labels = [entry for entry in entries if entry is not None]
        distinct = sorted(set(labels))
        if name == table.source.id_column or present.sum() < max(4, rows / 2) or len(distinct) < 2:
            continue
        few = len(distinct) <= max(2.0, _MOST_LEVELS * len(labels))
        if all(map(is_number, distinct)) and (len(distinct) > 6 or not few):
            columns = np.array([float(label) for label in labels])[:, None]
        elif few:
            columns = (np.array(labels)[:, None] == np.array(distinct[1:])).astype(float)
        else:
            continue
        found.append(_likeness(name, values[present], columns))
    alike = [one for one in found if one.p_value * len(found) <= _BEYOND_CHANCE]
    return tuple(sorted(alike, key=lambda one: -one.adjusted_r2)[:3])


def _likeness(name: str, values: Floats, columns: Floats) -> Likeness:
    constant = np.ones((len(values), 1))
    fitted = factor(np.hstack([constant, columns]))
    left = float((fitted.residuals(values[:, None]) ** 2).sum())
    total = float(((values - values.mean()) ** 2).sum())
    df = len(values) - fitted.rank
    if df < 1 or total == 0:
        return Likeness(name, 0.0, 1.0)
    adjusted = 1 - (left / df) / (total / (len(values) - 1))
    p_value = f_test(values[:, None], np.hstack([constant, columns]), constant)
    return Likeness(name, adjusted, float(p_value[0]))
