"""Which of the asked contrasts the design can answer, beside the batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import ConfoundedError, DataError, listed
from batchsense.experiments.contrasts.combination import Combination, Difference, combination
from batchsense.experiments.design import Design
from batchsense.experiments.entanglement import batch_columns, entanglements
from batchsense.experiments.tables.columns import Factor
from batchsense.experiments.testing.contrasts import Asked
from batchsense.experiments.testing.false_positives import plain_inflation, plain_rate, plain_rate_f
from batchsense.experiments.testing.results import GroupOf, PlainTest, Refused
from batchsense.variation.linear import DesignFactor, factor

#: A contrast with a larger variance inflation is lost, as in the analysis of confounding, whose R²
#: of 1 - 1e-10 this is: beyond it the digits of a double no longer tell an effect from rounding.
MOST_INFLATION = 1e10
#: A contrast (of norm 1) with less than this beside others follows from them: rounding is 1e-15.
_FOLLOWS = 1e-9
#: Weights of a contrast against a relation, both of the order of 1, above which they conflict.
_VIOLATED = 1e-9


@dataclass(frozen=True, slots=True)
class Group:
    """Contrasts that are tested together."""

    factor: str  #: Their factor
    members: tuple[int, ...]  #: Places among the contrasts
    complete: bool  #: Whether all that was asked for is in it
    #: What they are: all levels of a factor, an interaction, or all contrasts that were asked for.
    of: GroupOf = "levels"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A design with and without its batches, factored."""

    columns: Floats  #: (specimens, terms): constant, wanted terms and (where wanted) batch terms
    names: tuple[str, ...]  #: Names of the columns
    #: All columns; those without the batches.
    full: DesignFactor
    plain: DesignFactor

    @classmethod
    def of(cls, design: Design, batch_terms: Floats | None = None) -> Model:
        """Put the batches beside the wanted terms."""
        wanted, names = design.wanted()
        terms = design.batch_terms() if batch_terms is None else batch_terms
        columns = np.hstack([wanted, terms])
        every = (*names, *(f"{design.batches.name}({k + 1})" for k in range(terms.shape[1])))
        return cls(columns, every, factor(columns, every), factor(wanted, names))

    def vif(self, difference: Difference) -> float:
        """The inflation of the variance of a contrast by the batches; infinite if lost."""
        if not self.full.estimable(difference.weights(self.full.names)):
            return np.inf
        with_batches = self.full.contrast_variance(difference.weights(self.full.names))
        without = self.plain.contrast_variance(difference.weights(self.plain.names))
        inflation = max(with_batches / without, 1.0)
        return inflation if inflation < MOST_INFLATION else np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """What can be tested and what cannot."""

    differences: tuple[Difference, ...]  #: The estimable contrasts
    groups: tuple[Group, ...]  #: What is tested together
    refused: tuple[Refused, ...]  #: The others


def comparisons(
    design: Design, model: Model, asked: Iterable[Asked], joint: bool = False
) -> Comparisons:
    """Sort the asked contrasts into those that the design can answer and those it cannot.

    A factor that is asked for as a whole is compared level by level with its first level; levels
    that are only comparable among themselves are compared with the first of their own group, and
    the comparison of the groups is refused. ``joint`` tests all together too.
    """
    found: list[Difference] = []
    groups: list[Group] = []
    refused: list[Refused] = []
    for one in asked:
        kept = [factor for factor in design.kept if factor.name in one.columns]
        whole = not one.levels and (len(kept) > 1 or kept[0].values is None)
        if whole and len(kept) == 1:
            combination(design, one.columns, _first_two(kept[0]), "")  # refused if it has no answer
            told, lost = _level_by_level(model, kept[0])
        else:
            slope = not one.levels and len(kept) == 1
            every = [_slope(design, kept[0])] if slope else one.contrasts(design)
            told = [single for single in every if np.isfinite(model.vif(single))]
            lost = [single for single in every if single not in told]
        found.extend(difference for difference in told if difference not in found)
        refused.extend(refusals(design, model, kept, lost))
        if whole and told and (len(kept) > 1 or len(kept[0].levels) > 2):
            of: GroupOf = "levels" if len(kept) == 1 else "interaction"
            places = [found.index(difference) for difference in told]
            groups.append(
                Group(
                    " * ".join(one.columns),
                    _independent(model, found, places),
                    complete=not lost,
                    of=of,
                )
            )
    if not found:
        raise _confounded(design, refused)
    if joint:
        groups.append(_together(model, found, refused))
    return Comparisons(tuple(found), tuple(groups), tuple(refused))


def _first_two(factor: Factor) -> dict[tuple[str, ...], float]:
    return {(factor.levels[1],): 1.0, (factor.levels[0],): -1.0}


def _slope(design: Design, number: Factor) -> Difference:
    combination(design, (number.name,), {(): 1.0}, "")  # refused if it differs with a factor
    return Difference(number.name)


def _independent(model: Model, found: list[Difference], places: Sequence[int]) -> tuple[int, ...]:
    """Leave out contrasts that follow from those before them."""
    chosen: list[int] = []
    rows = np.empty((0, model.full.rank))
    for place in places:
        row = found[place].weights(model.names) @ model.full.solution
        more = np.vstack([rows, row / np.linalg.norm(row)])
        if np.linalg.matrix_rank(more, tol=_FOLLOWS) > len(rows):
            rows = more
            chosen.append(place)
    return tuple(chosen)


def _together(model: Model, found: list[Difference], refused: list[Refused]) -> Group:
    members = _independent(model, found, range(len(found)))
    if len(members) < 2:
        raise DataError(
            f"a joint test needs two contrasts that do not follow from each other; there is "
            f"{listed(found)}"
        )
    return Group(f"joint: {listed(found, 4)}", members, complete=not refused, of="contrasts")


def refusals(
    design: Design, model: Model, kept: Sequence[Factor], lost: Sequence[Difference]
) -> list[Refused]:
    """Say of each contrast that is lost by which relations, and what would help."""
    if not lost:
        return []
    if len(kept) == 1 and not design.interactions:
        entangled = next(e for e in entanglements(design) if e.name == kept[0].name)
        if entangled.confounding.aliased:
            aliased, explanation = entangled.confounding.aliased, entangled.explanation
            return [Refused(one, aliased, explanation, design.batches.name) for one in lost]
    wanted, names = design.wanted()
    own = {
        name
        for one in lost
        for name, weight in zip(names, one.weights(names), strict=True)
        if weight
    }
    order = sorted(range(len(names)), key=lambda place: names[place] in own)
    batches, batch_names = batch_columns(design)
    columns = [wanted[:, :1], batches, wanted[:, order][:, 1:]]
    every = (names[0], *batch_names, *(names[place] for place in order[1:]))
    together = factor(np.hstack(columns), every)
    return [_refusal(design, model, kept, one, together) for one in lost]


def _refusal(
    design: Design, model: Model, kept: Sequence[Factor], one: Difference, together: DesignFactor
) -> Refused:
    violated = np.abs(together.null_vectors @ one.weights(together.names)) > _VIOLATED
    broken = zip(together.relations, violated, strict=True)
    aliased = tuple(str(relation) for relation, forbids in broken if forbids)
    empty = _empty_cells(one, [each for each in kept if each.values is None])
    explanation = f"No specimen has {listed(empty)}." if empty else ""
    inside = not model.plain.estimable(one.weights(model.plain.names))
    return Refused(one, aliased, explanation, "" if inside else design.batches.name)


def _empty_cells(one: Difference, kept: Sequence[Factor]) -> list[str]:
    if not isinstance(one, Combination):
        return []
    labels = [np.array(each.levels)[each.codes] for each in kept]
    occupied = set(zip(*labels, strict=True))
    return [
        " and ".join(f"{each.name} {level}" for each, level in zip(kept, cell, strict=True))
        for cell, weight in one.cells
        if weight and cell not in occupied
    ]


def plain_tests(model: Model, differences: Iterable[Difference], alpha: float = 0.05) -> PlainTest:
    """Say what a test without the batches would do on values corrected by linear removal."""
    chosen = list(differences)
    full = np.array([one.weights(model.full.names) for one in chosen]) @ model.full.solution
    plain = np.array([one.weights(model.plain.names) for one in chosen]) @ model.plain.solution
    honest, naive = full @ full.T, plain @ plain.T
    inflations = np.maximum(np.linalg.eigvals(np.linalg.solve(naive, honest)).real, 1.0)
    dfs = model.plain.df_residual, model.full.df_residual
    inflation = plain_inflation(float(inflations.mean()), *dfs)
    if len(chosen) == 1:
        return PlainTest(inflation, plain_rate(inflation, *dfs, alpha))
    return PlainTest(inflation, plain_rate_f(inflations, *dfs, alpha))


def _level_by_level(model: Model, wanted: Factor) -> tuple[list[Difference], list[Difference]]:
    """Compare each level with the first one that it can be compared with."""
    firsts: list[str] = []
    told = []
    for level in wanted.levels:
        for first in firsts:
            difference = Difference(wanted.name, level, first)
            if np.isfinite(model.vif(difference)):
                told.append(difference)
                break
        else:
            firsts.append(level)
    return told, [Difference(wanted.name, first, firsts[0]) for first in firsts[1:]]


def _confounded(design: Design, refused: list[Refused]) -> ConfoundedError:
    relations = list(dict.fromkeys(relation for one in refused for relation in one.aliased))
    names = listed([one.contrast for one in refused])
    beside = listed(dict.fromkeys(one.beside or "the rest of the model" for one in refused))
    parts = [f"{names} cannot be told from {beside}: {listed(relations)}."]
    parts.extend(dict.fromkeys(one.explanation for one in refused if one.explanation))
    parts.extend(design.assumed([one.name for one in design.kept]))
    parts.append("No test can answer; nothing was tested.")
    return ConfoundedError(" ".join(parts), relations)
