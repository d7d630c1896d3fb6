"""Which differences between levels a design can tell, at what price, and through whom."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.design import Design
from batchsense.experiments.tables.columns import Factor
from batchsense.variation.linear import factor

#: The pairs of levels of a factor with more levels than this are not gone through.
MOST_LEVELS = 12


@dataclass(frozen=True, slots=True)
class LevelContrast:
    """The difference between two levels of a kept factor.

    Attributes
    ----------
    first, second : str
        The levels; the difference is second minus first.
    estimable : bool
        Whether the design can tell it, with the batches and the other kept factors in the model.
    r2 : float
        Share of the information about it that goes with the batches: 1 - (variance without them) /
        (variance with them); 1 where it is not estimable.
    only_through : tuple of str
        Levels without whose specimens it would not be estimable, such as the controls that alone
        link two batches.
    """

    first: str
    second: str
    estimable: bool
    r2: float
    only_through: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write the difference."""
        return f"{self.second} - {self.first}"


def level_contrasts(design: Design, kept: Factor) -> tuple[LevelContrast, ...]:
    """Go through all pairs of levels of a kept factor.

    A contrast is estimable iff it lies in the row space of the design (constant, other kept
    factors, batches, this factor). Leaving out the specimens of each third level in turn tells
    whether the link runs through that level alone.

    Parameters
    ----------
    design : Design
        The factors.
    kept : Factor
        One of the kept ones.

    Returns
    -------
    tuple of LevelContrast
        Empty for a numeric factor, and for more than 12 levels.

    References
    ----------
    Searle (1971), Linear Models, section 5.4; Weeks and Williams (1964), Technometrics 6, 319.

    Examples
    --------
    Drug A was given in May and B in July; only the controls were run in both.

    >>> from batchsense.experiments.design import read_design
    >>> from batchsense.experiments.tables import Table
    >>> sheet = {"month": ["May"] * 4 + ["July"] * 4, "drug": [*"AAcc", *"BBcc"]}
    >>> design = read_design(Table.from_arrays(np.eye(8), sheet), "month", ["drug"])
    >>> for one in level_contrasts(design, design.kept[0]):
    ...     print(one, one.estimable, round(one.r2, 3), *one.only_through)
    B - A True 0.5 c
    c - A True 0.25
    c - B True 0.25
    """
    levels = kept.levels
    if kept.values is not None or len(levels) > MOST_LEVELS:
        return ()
    everyone = np.ones(design.specimens, dtype=bool)
    whole = _Told(design, kept, everyone)
    without = [_Told(design, kept, kept.codes != code) for code in range(len(levels))]
    found = []
    for one, two in combinations(range(len(levels)), 2):
        estimable = whole.tells(one, two)
        through = [
            levels[code]
            for code in range(len(levels))
            if estimable and code not in (one, two) and not without[code].tells(one, two)
        ]
        r2 = whole.r2(one, two) if estimable else 1.0
        found.append(LevelContrast(levels[one], levels[two], estimable, r2, tuple(through)))
    return tuple(found)


class _Told:
    """The design of some specimens, factored once with the batches and once without."""

    def __init__(self, design: Design, kept: Factor, rows: Flags) -> None:
        others = [other.design()[0] for other in design.kept if other.name != kept.name]
        base = np.hstack([np.ones((design.specimens, 1)), *others])
        levels = kept.indicators()
        self.alone = np.hstack([base, levels])[rows]
        self.first = base.shape[1] + len(design.batches.levels)
        full = np.hstack([base, design.batches.indicators(), levels])[rows]
        self.full, self.columns = factor(full), full.shape[1]

    def tells(self, one: int, two: int) -> bool:
        """Whether the difference of two levels is estimable."""
        return self.full.estimable(self._vector(one, two, self.first, self.columns))

    def r2(self, one: int, two: int) -> float:
        """How much of the information goes with the batches."""
        columns = self.alone.shape[1]
        start = columns - (self.columns - self.first)
        plain = factor(self.alone).contrast_variance(self._vector(one, two, start, columns))
        full = self.full.contrast_variance(self._vector(one, two, self.first, self.columns))
        r2 = 1.0 - plain / full
        return r2 if r2 > 1e-12 else 0.0

    @staticmethod
    def _vector(one: int, two: int, start: int, columns: int) -> Floats:
        """Write the difference as weights of the columns."""
        vector = np.zeros(columns)
        vector[[start + one, start + two]] = -1.0, 1.0
        return vector
