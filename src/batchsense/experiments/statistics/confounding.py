"""How much of a wanted difference is at the same time a difference between batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats, Places
from batchsense.errors import DataError
from batchsense.variation.aliasing import Relation, relation, sparsest
from batchsense.variation.factoring import centre_columns, column_norms, pivoted
from batchsense.variation.labels import levels_of, table_of_counts
from batchsense.variation.linear import column_names, factor
from batchsense.variation.matrices import finite_matrix

#: A canonical correlation (squared) this close to 1 is 1: nothing of the direction is left. What a
#: double can resolve of 1 - r² after a factorisation is about 1e-15 times some hundred rows.
LOST = 1e-10
#: Relative tolerance of ranks: between rounding (1e-15) and any difference that a sheet means.
RANK = 1e-10
INTERCEPT = "Intercept"


@dataclass(frozen=True, slots=True)
class Confounding:
    """How a wanted term is entangled with the batch columns, given the other terms."""

    #: Largest squared canonical correlation of the wanted columns with the batch columns, both
    #: residualised on the others: for one column, the share of its variation that is also between
    #: batches. 0 to 1.
    r2: float
    vif: float  #: Variance inflation 1 / (1 - r2); infinite at r2 = 1
    #: Observations times (1 - r2): what the data are worth for the worst wanted direction.
    effective_n: float
    #: Sum of the squared canonical correlations, 0 to the number of independent wanted columns.
    pillai: float
    #: Independent wanted directions that cannot be told from the batch or the other terms: exactly,
    #: or so nearly that r2 exceeds 1 - 1e-10.
    rank_lost: int
    estimable: bool  #: Whether none is lost
    #: One equation per lost direction, as sparse as we find it, such as ``drug[yes] =
    #: month[July]``.
    relations: tuple[Relation, ...]
    #: Fraction of the effect that centring each batch, without the wanted term in the model,
    #: destroys, in the worst wanted direction; equals ``r2`` where there are no other terms.
    attenuation: float

    @property
    def aliased(self) -> tuple[str, ...]:
        """The relations as text."""
        return tuple(str(r) for r in self.relations)


@dataclass(frozen=True, slots=True)
class LinkedGroup:
    """Conditions that can be compared with one another, and the batches they occur in."""

    #: Levels, sorted.
    conditions: tuple[Any, ...]
    batch_labels: tuple[Any, ...]


def analyse(
    wanted: ArrayLike,
    batch_columns: ArrayLike,
    others: ArrayLike | None = None,
    *,
    wanted_names: Sequence[str] | None = None,
    batch_names: Sequence[str] | None = None,
    other_names: Sequence[str] | None = None,
) -> Confounding:
    """Measure how far batch columns explain a wanted term.

    With X̃ and B̃ the wanted and the batch columns residualised on a constant and the others, and
    ρ_i the singular values of Q_XᵀQ_B (orthonormal bases): r2 = max ρ_i², vif = 1/(1 - r2),
    effective_n = n(1 - r2), pillai = Σρ_i². Centring the batches without the wanted term in the
    model leaves the fraction g̃ᵀ(I - P_B)g / g̃ᵀg̃ of the effect of a column g, which is 1 - r2
    without other terms.

    A constant is always among the other terms. Columns may be redundant (all dummies of a factor
    beside the constant): the numbers depend on the spanned space only. Give *all* dummies of each
    factor, then the relations can be written most simply.

    Shapes: ``wanted`` (observations, wanted columns); ``batch_columns`` (observations, columns);
    ``others`` (observations, columns).

    Source: Hotelling 1936 (canonical correlations); Pillai 1955; Frisch and Waugh 1933.
    """
    tables = [finite_matrix(wanted, "wanted columns", vector=True)]
    rows = len(tables[0])
    tables.append(finite_matrix(batch_columns, "batch columns", vector=True))
    rest = np.empty((rows, 0)) if others is None else others
    tables.append(finite_matrix(rest, "other columns", vector=True))
    if any(len(table) != rows for table in tables):
        raise DataError(
            f"the wanted, batch and other columns have {', '.join(str(len(t)) for t in tables)}"
            " rows; give one row per observation"
        )
    target, batches, remaining = tables
    named = (
        column_names(wanted_names, target.shape[1], "wanted"),
        column_names(batch_names, batches.shape[1], "batch"),
        column_names(other_names, remaining.shape[1], "other"),
    )
    constant = np.ones((rows, 1))
    base = np.hstack([constant, remaining])
    wanted_rank = _basis(target, constant).shape[1]
    if wanted_rank == 0:
        raise DataError(
            "the wanted columns do not vary: one level only; there is no difference to estimate"
        )
    wanted_basis = _basis(target, base)
    squares = _squared_cosines(wanted_basis, _basis(batches, base))
    relations = _lost(target, batches, remaining, named, RANK)
    rank_lost = max(len(relations), int((squares == 1.0).sum()))
    if rank_lost > len(relations):  # so nearly in the span that only a coarser look names it
        relations = _lost(target, batches, remaining, named, math.sqrt(LOST))
    nothing_left = wanted_basis.shape[1] == 0
    r2 = 1.0 if nothing_left else float(squares.max(initial=0.0))
    return Confounding(
        r2=r2,
        vif=1.0 / (1.0 - r2) if r2 < 1.0 else np.inf,
        effective_n=rows * (1.0 - r2),
        pillai=float(squares.sum()),
        rank_lost=rank_lost,
        estimable=rank_lost == 0,
        relations=relations,
        attenuation=1.0 if nothing_left else _attenuation(target, batches, wanted_basis),
    )


def _basis(columns: Floats, given: Floats) -> Floats:
    _, centred = centre_columns(columns)
    scaled = centred / column_norms(centred)
    residuals = factor(given).residuals(scaled)
    residuals[:, np.linalg.norm(residuals, axis=0) <= RANK] = 0.0
    return pivoted(residuals, RANK)[0]


def _squared_cosines(first: Floats, second: Floats) -> Floats:
    squares = np.linalg.svd(first.T @ second, compute_uv=False) ** 2
    return np.where(squares > 1.0 - LOST, 1.0, squares)


def _attenuation(wanted: Floats, batch: Floats, basis: Floats) -> float:
    """1 - smallest eigenvalue of the symmetric part of Q̃ᵀ M_B W T, where W̃T = Q̃."""
    centring = factor(np.hstack([np.ones((len(wanted), 1)), batch]))
    _, centred = centre_columns(wanted)
    combination = np.linalg.pinv(basis.T @ centred, rcond=RANK)
    kept = basis.T @ centring.residuals(centred @ combination)
    destroyed = 1.0 - float(np.linalg.eigvalsh((kept + kept.T) / 2).min())
    nearest = round(destroyed)
    return float(nearest) if abs(destroyed - nearest) <= LOST else destroyed


def _lost(
    wanted: Floats,
    batch: Floats,
    others: Floats,
    named: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    tolerance: float,
) -> tuple[Relation, ...]:
    """Relations that entangle the wanted columns, without those that are mere redundant coding."""
    names = (INTERCEPT, *named[2], *named[1], *named[0])
    design = np.hstack([np.ones((len(wanted), 1)), others, batch, wanted])
    base = np.arange(1 + others.shape[1] + batch.shape[1])
    own = np.arange(len(base), design.shape[1])
    kept_base, base_coding = _independent(design, base)
    kept_own, own_coding = _independent(design, np.append(0, own))
    coding = base_coding + own_coding
    kept = np.append(kept_base, kept_own[kept_own > 0])
    lost = _embedded(
        factor(design[:, kept], tolerance=tolerance).null_vectors, kept, design.shape[1]
    )
    for i, vector in enumerate(lost):
        simpler = sparsest(vector, coding, depth=2)
        lost[i] = sparsest(simpler, lost[:i] + lost[i + 1 :], depth=1)
    return tuple(relation(vector, names) for vector in lost)


def _independent(design: Floats, columns: Places) -> tuple[Places, list[Floats]]:
    """Keep independent columns, the first levels of a factor going first; and what relates them."""
    order = np.append(columns[:1], columns[:0:-1])
    null = factor(design[:, order]).null_vectors
    last = order[len(order) - 1 - np.argmax(null[:, ::-1] != 0, axis=1)]
    return np.setdiff1d(columns, last), _embedded(null, order, design.shape[1])


def _embedded(null: Floats, columns: Places, total: int) -> list[Floats]:
    vectors = np.zeros((len(null), total))
    vectors[:, columns] = null
    return list(vectors)


def cramers_v(first: ArrayLike, second: ArrayLike) -> float:
    """Measure the association of two labels, 0 (independent) to 1 (one determines the other).

    V = sqrt(χ² / (n·(min(rows, columns) - 1))), with Pearson's χ² of the table of counts. Even
    independent labels give V > 0 by chance. V describes the *design*, not the size of a batch
    effect, and no threshold on it says what is estimable: ask :func:`analyse`.

    Source: Cramér 1946, section 21.9.
    """
    rows, columns = levels_of(first, "first"), levels_of(second, "second")
    counts = table_of_counts(rows, columns)
    total = counts.sum()
    for name, size in zip(("first", "second"), counts.shape, strict=True):
        if size < 2:
            raise DataError(f"the {name} labels have one level only; association needs two")
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total
    phi2 = float(((counts - expected) ** 2 / expected).sum()) / total
    return min(1.0, math.sqrt(phi2 / (min(counts.shape) - 1)))


def connected_components(conditions: ArrayLike, batch_labels: ArrayLike) -> tuple[LinkedGroup, ...]:
    """Group the conditions and batches that are linked by specimens.

    In the additive model condition + batch, two conditions can be compared iff a chain of
    occupied cells leads from one to the other, that is iff they are in one group.

    Shapes: ``conditions``, ``batch_labels`` (observations,).

    Source: Weeks and Williams 1964, Technometrics 6, 319.
    """
    from scipy import sparse
    from scipy.sparse import csgraph

    rows, columns = levels_of(conditions, "conditions"), levels_of(batch_labels, "batch_labels")
    occupied = np.nonzero(table_of_counts(rows, columns))
    height, nodes = len(rows.levels), len(rows.levels) + len(columns.levels)
    edges = (np.ones(len(occupied[0])), (occupied[0], height + occupied[1]))
    graph = sparse.coo_array(edges, shape=(nodes, nodes))
    count, found = csgraph.connected_components(graph, directed=False)
    members = [np.flatnonzero(found == group).tolist() for group in range(count)]
    return tuple(
        LinkedGroup(
            tuple(rows.levels[node] for node in own if node < height),
            tuple(columns.levels[node - height] for node in own if node >= height),
        )
        for own in members
    )
