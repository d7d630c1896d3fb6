"""How each kept factor is entangled with the batches, and which of its differences remain."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import ConfoundedError, listed
from batchsense.experiments.sheets.nuisances import (
    Nuisances,
    NumericBatches,
    indicator_names,
    parts_of,
)
from batchsense.experiments.statistics.confounding import (
    Confounding,
    LinkedGroup,
    analyse,
    connected_components,
    cramers_v,
)
from batchsense.experiments.tables.columns import Factor
from batchsense.variation.linear import factor

if TYPE_CHECKING:
    from batchsense.experiments.design import Design

#: Levels named in one explanation, which lists several groups of them: fewer than in other texts.
_SHOWN_LEVELS = 6


@dataclass(frozen=True, slots=True)
class Entanglement:
    """One kept factor against the batches."""

    name: str  #: The kept factor
    kind: str  #: ``"categorical"`` or ``"numeric"``
    #: R² with the batches, variance inflation, effective n, attenuation, relations.
    confounding: Confounding
    #: Association of the two labels, chance not subtracted; None for numbers.
    cramers_v: float | None
    #: Levels that specimens link through shared batches, with those batches; levels of different
    #: groups cannot be compared. Empty for a numeric factor.
    linked: tuple[LinkedGroup, ...]

    @property
    def explanation(self) -> str:
        """Say which levels no specimen links, and what would link them; empty if none."""
        if len(self.linked) < 2:
            return ""
        groups = [
            f"{{{listed(group.conditions, _SHOWN_LEVELS)}}} only in "
            f"{{{listed(group.batch_labels, _SHOWN_LEVELS)}}}"
            for group in self.linked
        ]
        first, second = self.linked[0], self.linked[1]
        text = (
            f"Levels of {self.name!r} by batch: {listed(groups)}. No specimen links these groups, "
            f"so {second.conditions[0]} - {first.conditions[0]} cannot be told from batch "
            f"{listed(second.batch_labels, _SHOWN_LEVELS)}. To link them, run for example "
            f"{self.name} {first.conditions[0]} also in batch {second.batch_labels[0]}."
        )
        if all(len(group.batch_labels) > 1 for group in self.linked):
            text += (
                " With several batches per group a comparison between batches remains possible, "
                "with the batches, not the specimens, as the observations."
            )
        return text


def entanglements(design: Design) -> tuple[Entanglement, ...]:
    """Analyse every kept factor of a design, in order, against its batches."""
    names = indicator_names(design.batches)
    return tuple(_one(design, kept, names) for kept in design.kept)


def batch_columns(design: Design) -> tuple[Floats, tuple[str, ...]]:
    """The batches but the first as columns of a model with a constant, and their names."""
    if isinstance(design.batches, NumericBatches):
        return design.batches.indicators(), design.batches.levels
    parts = [one.design() for one in parts_of(design.batches)]
    columns = np.hstack([columns for columns, _ in parts])
    return columns, tuple(name for _, names in parts for name in names)


def refuse_confounded(design: Design, found: tuple[Entanglement, ...]) -> None:
    """Refuse a design in which a kept factor cannot be told from the batches."""
    lost = [one for one in found if not one.confounding.estimable]
    if not lost:
        return
    relations = list(dict.fromkeys(r for one in lost for r in one.confounding.aliased))
    batch = design.batches.name
    parts = [
        f"{listed([one.name for one in lost])} cannot be told from {batch}: {listed(relations)}."
    ]
    parts.extend(one.explanation for one in lost if one.explanation)
    parts.extend(design.assumed([one.name for one in lost]))
    kept = [one.name for one in found if one.confounding.estimable]
    if kept:
        parts.append(f"Estimable: {listed(kept)}.")
    parts.append(
        f"Removing {batch} would remove {listed([one.name for one in lost])} with it, so nothing "
        "was corrected."
    )
    raise ConfoundedError(" ".join(parts), relations)


def _one(design: Design, kept: Factor, batch_names: tuple[str, ...]) -> Entanglement:
    columns, names = _all_columns(kept)
    others = [_all_columns(other) for other in design.kept if other.name != kept.name]
    confounding = analyse(
        columns,
        design.batches.indicators(),
        np.hstack([part for part, _ in others]) if others else None,
        wanted_names=names,
        batch_names=batch_names,
        other_names=[name for _, terms in others for name in terms] if others else None,
    )
    if kept.kind == "numeric" or isinstance(design.batches, NumericBatches | Nuisances):
        return Entanglement(kept.name, kept.kind, confounding, None, ())
    association = cramers_v(kept.codes, design.batches.codes)
    # Codes, not labels, so that the groups list levels in the order of the factors.
    linked = tuple(
        LinkedGroup(
            tuple(kept.levels[code] for code in group.conditions),
            tuple(design.batches.levels[code] for code in group.batch_labels),
        )
        for group in connected_components(kept.codes, design.batches.codes)
    )
    return Entanglement(kept.name, kept.kind, confounding, association, linked)


def _all_columns(kept: Factor) -> tuple[Floats, tuple[str, ...]]:
    # All indicators of a factor, so that relations can be named most simply.
    if kept.values is not None:
        return kept.design()
    return kept.indicators(), tuple(f"{kept.name}[{level}]" for level in kept.levels)


#: The pairs of levels of a factor with more levels than this are not gone through: 66 pairs, and a
#: design factored anew for each level, are enough for a reader and for the time.
MOST_LEVELS = 12


@dataclass(frozen=True, slots=True)
class LevelContrast:
    """The difference between two levels of a kept factor."""

    #: The levels; the difference is second minus first.
    first: str
    second: str
    #: Whether the design can tell it, with the batches and the other kept factors in the model.
    estimable: bool
    #: Share of the information about it that goes with the batches: 1 - (variance without them) /
    #: (variance with them); 1 where it is not estimable.
    r2: float
    #: Levels without whose specimens it would not be estimable, such as the controls that alone
    #: link two batches.
    only_through: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write the difference."""
        return f"{self.second} - {self.first}"


def level_contrasts(design: Design, kept: Factor) -> tuple[LevelContrast, ...]:
    """Go through all pairs of levels of one kept factor of a design.

    A contrast is estimable iff it lies in the row space of the design (constant, other kept
    factors, batches, this factor). Leaving out the specimens of each third level in turn tells
    whether the link runs through that level alone.

    Empty for a numeric factor, and for more than 12 levels.

    Source: Searle (1971), Linear Models, section 5.4; Weeks and Williams (1964), Technometrics 6,
    319.
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
        batches = design.batches.indicators()
        self.first = base.shape[1] + batches.shape[1]
        full = np.hstack([base, batches, levels])[rows]
        self.full, self.columns = factor(full), full.shape[1]

    def tells(self, one: int, two: int) -> bool:
        return self.full.estimable(self._vector(one, two, self.first, self.columns))

    def r2(self, one: int, two: int) -> float:
        columns = self.alone.shape[1]
        start = columns - (self.columns - self.first)
        plain = factor(self.alone).contrast_variance(self._vector(one, two, start, columns))
        full = self.full.contrast_variance(self._vector(one, two, self.first, self.columns))
        r2 = 1.0 - plain / full
        return r2 if r2 > 1e-12 else 0.0

    @staticmethod
    def _vector(one: int, two: int, start: int, columns: int) -> Floats:
        vector = np.zeros(columns)
        vector[[start + one, start + two]] = -1.0, 1.0
        return vector
