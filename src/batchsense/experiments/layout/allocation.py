"""Divide specimens among batches so that nothing wanted goes with the batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats, Integers
from batchsense.errors import InfeasibleError, UnresolvedError
from batchsense.experiments.layout.constraints import FREE, Constraints
from batchsense.experiments.layout.feasibility import exact_search
from batchsense.experiments.layout.swapping import improve, kicked, scores
from batchsense.progress import Progress, silent
from batchsense.variation.factoring import centre_columns, column_norms, pivoted
from batchsense.variation.matrices import finite_matrix

#: So many random layouts are drawn; the result is compared with them and starts from the best.
#: Their number hardly matters to it (20 or 1,000 end as well); 200 show what luck alone would give.
RANDOM_LAYOUTS = 200
#: Rounds after the first descent; each disturbs a few pairs, or begins anew, and descends again.
#: Single specimens need none; with groups of 1 to 4 that are partly kept apart (96 specimens, 8
#: sheets) the median score is 0.0030 after 0 rounds, 0.0018 after 10 and 0.0017 after 30;
#: 100 without a stop reach 0.0015 in six times the time.
ROUNDS = 30
#: So many rounds in a row without a gain of one in a hundred end the search: on the same sheets 4
#: rounds left 0.0022, 8 left 0.0017, and 30 the same in twice the time.
PATIENCE = 8
#: Weighed swaps, all descents together, after which no further round is begun: some seconds, so
#: that thousands of specimens in many batches take no minutes.
WORK = 60_000_000
#: Below this score there is nothing left to gain: it is the rounding of a perfect balance.
BALANCED = 1e-12
#: The largest table of label counts that is held for all layouts together, in entries of one byte.
_MOST_COUNTS = 20_000_000
#: Relative tolerance of ranks, as in the analysis of confounding.
_RANK = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """A layout with what chance would have given."""

    codes: Integers  #: (units,): the batch of each unit
    #: Sum of the squared canonical correlations of the balanced columns with the batches.
    score: float
    #: (random layouts,): the same of random layouts that keep the same constraints.
    random_scores: Floats


def balance_basis(columns: ArrayLike) -> Floats:
    """An orthonormal basis of columns after centring, shape (specimens, rank).

    Columns are indicators of levels or numbers, of shape (specimens, columns); redundant ones do no
    harm.
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

    ``basis`` has shape (specimens, columns), from :func:`balance_basis`; ``units`` has shape
    (specimens,), and the specimens of a unit stay together. Check the constraints by
    :func:`~batchsense.experiments.layout.constraints.shortfalls` first.

    Source: Yan et al. (2012), for the aim; the score and the search are our own.
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


def random_layouts(constraints: Constraints, count: int, rng: np.random.Generator) -> Integers:
    """Draw layouts of nearly even size that keep every constraint.

    Locked units first, then those whose label is most frequent, then the largest, in random order
    among equals; each goes to the batch that lacks most of its even share, of those that may hold
    it. A draw in which a unit finds no place is dropped, so fewer than ``count`` may come back,
    and none does not prove that there is none: see
    :func:`~batchsense.experiments.layout.feasibility.exact_search`.

    The result has shape (layouts, units).
    """
    labels = max(1, constraints.apart.shape[1])
    at_once = max(1, min(count, _MOST_COUNTS // (labels * constraints.batch_count)))
    parts = [
        _draw(constraints, min(at_once, count - start), rng) for start in range(0, count, at_once)
    ]
    return np.concatenate(parts)


def _draw(constraints: Constraints, count: int, rng: np.random.Generator) -> Integers:
    order = _orders(constraints, count, rng)
    codes = np.full((count, len(constraints.sizes)), FREE, dtype=np.int64)
    held = np.zeros((count, constraints.batch_count))
    targets = constraints.targets()
    seen = np.zeros((count, constraints.batch_count, constraints.apart.shape[1]), dtype=bool)
    alive = np.ones(count, dtype=bool)
    rows = np.arange(count)
    own_labels = [np.flatnonzero(row) for row in constraints.apart]
    most = max(map(len, own_labels), default=0)
    padded = np.full((len(own_labels), most), -1)
    for row, own in zip(padded, own_labels, strict=True):
        row[: len(own)] = own
    noise = rng.random((order.shape[1], constraints.batch_count, count))
    for step in range(order.shape[1]):
        unit = order[:, step]
        size = constraints.sizes[unit][:, None]
        allowed = held + size <= constraints.capacities
        for place in range(most):
            label = padded[unit, place]
            has = label >= 0
            allowed[has] &= ~seen[rows[has], :, label[has]]
        locked = constraints.locked[unit]
        fixed = locked != FREE
        if fixed.any():
            allowed[fixed] &= np.arange(constraints.batch_count) == locked[fixed, None]
        # A fraction of a specimen of noise decides between batches that lack as much.
        lacking = targets - held + 0.49 * noise[step].T
        chosen = np.where(allowed, lacking, -np.inf).argmax(axis=1)
        alive &= allowed[rows, chosen]
        codes[rows, unit] = chosen
        held[rows, chosen] += size[:, 0]
        for place in range(most):
            label = padded[unit, place]
            has = label >= 0
            seen[rows[has], chosen[has], label[has]] = True
    return codes[alive]


def _orders(constraints: Constraints, count: int, rng: np.random.Generator) -> Integers:
    carriers = constraints.apart.sum(axis=0)
    crowding = np.where(constraints.apart, carriers, 0).max(axis=1, initial=0)
    units = len(constraints.sizes)
    keys = [
        rng.random((count, units)),
        np.broadcast_to(-constraints.sizes, (count, units)),
        np.broadcast_to(-crowding, (count, units)),
        np.broadcast_to(constraints.locked == FREE, (count, units)),
    ]
    # Hard labels first suits crowded labels, large units first suits tight capacities: half each.
    by_label = np.lexsort(keys, axis=1)
    by_size = np.lexsort([keys[0], keys[2], keys[1], keys[3]], axis=1)
    return np.where((np.arange(count) % 2 == 0)[:, None], by_label, by_size)
