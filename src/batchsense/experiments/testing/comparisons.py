"""Which of the asked contrasts the design can answer, beside the batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import ConfoundedError, listed
from batchsense.experiments.design import Design
from batchsense.experiments.entanglement import entanglements
from batchsense.experiments.tables.columns import Factor
from batchsense.experiments.testing.contrasts import Asked, Difference, pair_of_levels
from batchsense.experiments.testing.false_positives import plain_inflation, plain_rate, plain_rate_f
from batchsense.experiments.testing.results import PlainTest, Refused
from batchsense.variation.linear import DesignFactor, factor

#: A contrast with a larger variance inflation is lost, as in the analysis of confounding, whose R²
#: of 1 - 1e-10 this is: beyond it the digits of a double no longer tell an effect from rounding.
MOST_INFLATION = 1e10


@dataclass(frozen=True, slots=True)
class Group:
    """Contrasts that are tested together.

    Attributes
    ----------
    factor : str
        Their factor.
    members : tuple of int
        Places among the contrasts.
    complete : bool
        Whether all levels of the factor are compared.
    """

    factor: str
    members: tuple[int, ...]
    complete: bool


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A design with and without its batches, factored.

    Attributes
    ----------
    columns : array of shape (specimens, terms)
        Constant, wanted terms and (where wanted) batch terms.
    names : tuple of str
        Names of the columns.
    full, plain : DesignFactor
        All columns; those without the batches.
    """

    columns: Floats
    names: tuple[str, ...]
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
    """What can be tested and what cannot.

    Attributes
    ----------
    differences : tuple of Difference
        The estimable contrasts.
    groups : tuple of Group
        What is tested together.
    refused : tuple of Refused
        The others.
    """

    differences: tuple[Difference, ...]
    groups: tuple[Group, ...]
    refused: tuple[Refused, ...]


def comparisons(design: Design, model: Model, asked: Iterable[Asked]) -> Comparisons:
    """Sort the asked contrasts into those that the design can answer and those it cannot.

    A factor that is asked for as a whole is compared level by level with its first level; levels
    that are only comparable among themselves are compared with the first of their own group, and
    the comparison of the groups is refused.

    Raises
    ------
    DataError
        A contrast does not name two levels.
    ConfoundedError
        None can be answered; names every relation.
    """
    found: list[Difference] = []
    groups: list[Group] = []
    refused: list[Refused] = []
    for one in asked:
        wanted = next(kept for kept in design.kept if kept.name == one.factor)
        if one.levels or wanted.values is not None:
            single = pair_of_levels(one, wanted) if one.levels else Difference(one.factor)
            told, lost = ([single], []) if np.isfinite(model.vif(single)) else ([], [single])
        else:
            told, lost = _level_by_level(model, wanted)
        found.extend(difference for difference in told if difference not in found)
        if lost:
            entangled = next(e for e in entanglements(design) if e.name == one.factor)
            aliased, explanation = entangled.confounding.aliased, entangled.explanation
            refused.extend(Refused(difference, aliased, explanation) for difference in lost)
        if not one.levels and len(wanted.levels) > 2 and told:
            places = tuple(found.index(difference) for difference in told)
            groups.append(Group(one.factor, places, complete=not lost))
    if not found:
        raise _confounded(design, refused)
    return Comparisons(tuple(found), tuple(groups), tuple(refused))


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
    parts = [f"{names} cannot be told from {design.batches.name}: {listed(relations)}."]
    parts.extend(dict.fromkeys(one.explanation for one in refused if one.explanation))
    parts.extend(design.assumed([one.name for one in design.kept]))
    parts.append("No test can answer; nothing was tested.")
    return ConfoundedError(" ".join(parts), relations)
