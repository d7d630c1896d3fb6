"""Divide specimens among batches so that nothing wanted goes with the batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats, Integers
from batchsense.errors import InfeasibleError, UnresolvedError
from batchsense.experiments.layout.constraints import Constraints
from batchsense.experiments.layout.feasibility import exact_search
from batchsense.experiments.layout.random_layouts import random_layouts
from batchsense.experiments.layout.swapping import improve, kicked, scores
from batchsense.progress import Progress, silent
from batchsense.variation.factoring import centre_columns, column_norms, pivoted
from batchsense.variation.matrices import finite_matrix

#: So many random layouts are drawn; the result is compared with them and starts from the best.
RANDOM_LAYOUTS = 200
#: Rounds after the first descent; each disturbs a few pairs, or begins anew, and descends again.
ROUNDS = 30
#: So many rounds in a row without a gain of one in a hundred end the search.
PATIENCE = 8
#: Weighed swaps, all descents together, after which no further kick is begun.
WORK = 60_000_000
#: Below this score there is nothing left to gain.
BALANCED = 1e-12
_RANK = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """A layout with what chance would have given.

    Attributes
    ----------
    codes : array of shape (units,)
        The batch of each unit.
    score : float
        Sum of the squared canonical correlations of the balanced columns with the batches.
    random_scores : array of shape (random layouts,)
        The same of random layouts that keep the same constraints.
    """

    codes: Integers
    score: float
    random_scores: Floats


def balance_basis(columns: ArrayLike) -> Floats:
    """Give an orthonormal basis of columns after centring, shape (specimens, rank).

    Parameters
    ----------
    columns : array of shape (specimens, columns)
        What is to be balanced: indicators of levels, numbers; redundant columns do no harm.

    Raises
    ------
    DataError
        If a value is not finite.

    Examples
    --------
    >>> balance_basis(np.eye(2)[[0, 0, 1, 1]]).shape
    (4, 1)
    """
    matrix = finite_matrix(columns, "columns to balance", vector=True)
    if matrix.shape[1] == 0:
        return np.empty((len(matrix), 0))
    _, centred = centre_columns(matrix)
    return pivoted(centred / column_norms(centred), _RANK)[0]


def allocate(
    basis: Floats,
    units: Integers,
    constraints: Constraints,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
    progress: Progress = silent,
) -> Allocation:
    """Find a balanced layout that keeps the constraints.

    The score is Σ_b ‖S_b‖²/m_b, with S_b the sum of the basis rows of batch b and m_b its
    specimens: the sum of the squared canonical correlations between what is balanced and the
    batches. 200 random layouts are drawn, the best of them improved by swaps until none helps, then
    disturbed and improved again, or begun anew from another one. So the result is never worse than
    the best of the random layouts of its evenness.

    Parameters
    ----------
    basis : array of shape (specimens, columns)
        From :func:`balance_basis`.
    units : array of shape (specimens,)
        The unit of each specimen; the specimens of a unit stay together.
    constraints : Constraints
        Of the units; check :func:`~batchsense.experiments.layout.constraints.shortfalls` first.
    seed : int
        Seed of every draw.
    rounds : int
        Most disturbances.
    progress : Progress
        Told of the rounds.

    Returns
    -------
    Allocation
        The layout.

    Raises
    ------
    InfeasibleError
        If it is proved that there is no layout;
        :func:`~batchsense.experiments.layout.feasibility.remedies` says what would help.
    UnresolvedError
        If none was found in time, nor proved impossible.

    References
    ----------
    Yan et al. (2012), "OSAT: a tool for sample-to-batch allocations in genomics experiments", for
    the aim; the score and the search are our own.

    Examples
    --------
    >>> basis = balance_basis(np.eye(3)[np.arange(12) % 3])
    >>> constraints = Constraints.of(np.ones(12), np.array([6, 6]))
    >>> found = allocate(basis, np.arange(12), constraints)
    >>> round(found.score, 12), np.bincount(found.codes).tolist()
    (0.0, [6, 6])
    """
    draw, search = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    vectors = np.zeros((len(constraints.sizes), basis.shape[1]))
    np.add.at(vectors, units, basis)
    sizes, batch_count = constraints.sizes, constraints.batch_count
    progress("drawing random layouts", 0, 1)
    drawn = random_layouts(constraints, RANDOM_LAYOUTS, draw)
    starts = drawn if len(drawn) else _searched(constraints)
    by_chance = scores(vectors, sizes, starts, batch_count)
    best = starts[np.argsort(by_chance, kind="stable")[0]]
    random_scores = by_chance if len(drawn) else np.empty(0)
    codes = improve(vectors, constraints, best, search)
    score = float(scores(vectors, sizes, codes[None], batch_count)[0])
    evenness = _unevenness(constraints, codes)
    largest = int(np.bincount(codes, minlength=batch_count).max()) + 1
    pairs = batch_count * (batch_count - 1) // 2
    rounds = min(rounds, max(1, WORK // (4 * pairs * min(largest, 600) ** 2 + 1)))
    quiet = 0
    for done in range(rounds):
        if score <= BALANCED or len(sizes) < 4 or quiet == PATIENCE:
            break
        progress("improving the layout", done, rounds)
        # Every other round begins anew, so that one bad valley cannot hold all of them.
        fresh = done % 2 == 1 and len(starts) > 1
        begin = starts[search.integers(len(starts))] if fresh else codes
        kick = begin if fresh else kicked(constraints, codes, 1 + done % 5, search)
        tried = improve(vectors, constraints, kick, search)
        uneven = _unevenness(constraints, tried)
        reached = float(scores(vectors, sizes, tried[None], batch_count)[0])
        better = (uneven, reached) < (evenness, score)
        quiet = 0 if uneven < evenness or (better and reached < 0.99 * score) else quiet + 1
        if better:
            codes, evenness, score = tried, uneven, reached
    return Allocation(codes, max(score, 0.0), random_scores)


def _searched(constraints: Constraints) -> Integers:
    """Ask the exact search for a first layout, shape (1, units)."""
    found = exact_search(constraints)
    if found.codes is not None:
        return found.codes[None]
    if found.impossible:
        raise InfeasibleError("no layout keeps all constraints: an exact search proved it")
    raise UnresolvedError(
        "no layout was found that keeps all constraints, and none was proved impossible in time",
        needed="looser constraints, or fewer specimens or batches at a time",
    )


def _unevenness(constraints: Constraints, codes: Integers) -> float:
    held = np.bincount(codes, weights=constraints.sizes, minlength=constraints.batch_count)
    return round(float(((held - constraints.targets()) ** 2).sum()), 6)
