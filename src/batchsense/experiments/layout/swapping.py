"""Better layouts by swaps: the best swap between two batches, until no pair of batches has one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from batchsense.arrays import Flags, Floats, Integers
from batchsense.experiments.layout.constraints import FREE, Constraints

#: A swap must lower the score by more than this: below is rounding.
LEAST_GAIN = 1e-13
#: Units of a batch that are looked at in one step; more are taken in random portions. The tables of
#: swaps then have 360,000 entries, some megabytes that fit the cache.
PORTION = 600


def scores(vectors: Floats, sizes: Integers, codes: Integers, batch_count: int) -> Floats:
    """Sum of the squared canonical correlations of layouts with what is to be balanced.

    Σ_b ‖S_b‖² / m_b with S_b the sum of the vectors, m_b the specimens of batch b: 0 for a balanced
    layout, at most min(columns, batches - 1). It does not depend on how the columns are coded.

    ``vectors`` of shape (units, columns) are the rows of an orthonormal basis of the centred
    columns, summed over the specimens of each unit, of which ``sizes`` tells the number; ``codes``
    has shape (layouts, units), the result (layouts,).
    """
    total = np.zeros(len(codes))
    for one in range(batch_count):
        here = codes == one
        held = here @ sizes.astype(float)
        sums = here @ vectors
        total += (sums**2).sum(axis=1) / np.maximum(held, 1.0)
    return total


@dataclass(slots=True)
class Layouts:
    """A layout on its way, with the sums that a swap changes."""

    vectors: Floats
    constraints: Constraints
    targets: Floats
    codes: Integers
    sums: Floats
    held: Floats
    meeting: Integers
    slack: float


def improve(
    vectors: Floats, constraints: Constraints, codes: Integers, rng: np.random.Generator
) -> Integers:
    """Swap units between batches, or move them, until nothing lowers the score.

    First the sizes are made as even as swaps can make them; then only swaps count that keep them
    so. For units u in p and v in q, d = U_v - U_u and e = size_v - size_u, a swap changes the score
    by ‖S_p + d‖²/(m_p + e) + ‖S_q - d‖²/(m_q - e) - ‖S_p‖²/m_p - ‖S_q‖²/m_q. All swaps between two
    batches are weighed at once and the best is done.

    ``vectors`` as for :func:`scores`; ``codes`` of shape (units,) keeps the constraints, as every
    step does. The result is no worse in evenness, and no worse in score among those as even.
    """
    state = _state(vectors, constraints, codes)
    if not np.isfinite(vectors).all():
        raise ValueError("the vectors must be finite")
    _descend(state, rng, evening=True)
    state.slack = 1e-9
    _descend(state, rng, evening=False)
    return state.codes


def kicked(
    constraints: Constraints, codes: Integers, kicks: int, rng: np.random.Generator
) -> Integers:
    """Swap a few random pairs of free units of equal size, where no label forbids it."""
    found = codes.copy()
    free = np.flatnonzero(constraints.locked == FREE)
    for _ in range(kicks if len(free) > 1 else 0):
        u, v = rng.choice(free, 2, replace=False)
        if found[u] == found[v] or constraints.sizes[u] != constraints.sizes[v]:
            continue
        found[u], found[v] = found[v], found[u]
        if constraints.apart.shape[1] and (constraints.meetings(found) > 1).any():
            found[u], found[v] = found[v], found[u]
    return found


def _state(vectors: Floats, constraints: Constraints, codes: Integers) -> Layouts:
    indicators = (np.arange(constraints.batch_count)[:, None] == codes).astype(float)
    return Layouts(
        vectors=vectors,
        constraints=constraints,
        targets=constraints.targets(),
        codes=codes.copy(),
        sums=indicators @ vectors,
        held=indicators @ constraints.sizes.astype(float),
        meeting=constraints.meetings(codes),
        slack=0.0,
    )


def _descend(state: Layouts, rng: np.random.Generator, evening: bool) -> None:
    if evening and np.abs(state.held - state.targets).max() < 1.0:
        return
    pairs = np.array(list(combinations(range(state.constraints.batch_count), 2)))
    quiet = 0
    while quiet < len(pairs):
        for p, q in rng.permutation(pairs):
            quiet += 1
            while _swap(state, int(p), int(q), rng, evening):
                quiet = 0
            if quiet >= len(pairs):
                return


def _swap(state: Layouts, p: int, q: int, rng: np.random.Generator, evening: bool) -> bool:
    """Do the best allowed swap between two batches; say whether there was one."""
    constraints = state.constraints
    free = constraints.locked == FREE
    sides = [_portion(np.flatnonzero((state.codes == b) & free), rng) for b in (p, q)]
    # One unit of no specimens on each side turns a swap into a move.
    vectors = [np.vstack([state.vectors[side], np.zeros(state.vectors.shape[1])]) for side in sides]
    sizes = [np.append(constraints.sizes[side], 0).astype(float) for side in sides]
    extra = sizes[1][None, :] - sizes[0][:, None]
    m_p, m_q = state.held[p] + extra, state.held[q] - extra
    allowed = (m_p <= constraints.capacities[p]) & (m_q <= constraints.capacities[q])
    allowed &= _may_meet(state, sides, p, q)
    before = (state.held[p] - state.targets[p]) ** 2 + (state.held[q] - state.targets[q]) ** 2
    uneven = (m_p - state.targets[p]) ** 2 + (m_q - state.targets[q]) ** 2 - before
    if evening:
        change = uneven
    else:
        allowed &= uneven <= state.slack
        change = _change(state, vectors, m_p, m_q, p, q)
    change = np.where(allowed, change, np.inf)
    u, v = np.unravel_index(int(change.argmin()), change.shape)
    if not change[u, v] < (-1e-9 if evening else -LEAST_GAIN):
        return False
    shift = vectors[1][v] - vectors[0][u]
    state.sums[p] += shift
    state.sums[q] -= shift
    state.held[p] += extra[u, v]
    state.held[q] -= extra[u, v]
    for side, place, source, target in ((sides[0], u, p, q), (sides[1], v, q, p)):
        if place < len(side):
            unit = side[place]
            state.codes[unit] = target
            state.meeting[source] -= constraints.apart[unit]
            state.meeting[target] += constraints.apart[unit]
    return True


def _change(
    state: Layouts, vectors: list[Floats], m_p: Floats, m_q: Floats, p: int, q: int
) -> Floats:
    first, second = vectors
    s_p, s_q = state.sums[p], state.sums[q]
    lengths = (second**2).sum(axis=1)[None, :] + (first**2).sum(axis=1)[:, None]
    lengths = lengths - 2 * first @ second.T
    along_p = 2 * ((second @ s_p)[None, :] - (first @ s_p)[:, None])
    along_q = 2 * ((second @ s_q)[None, :] - (first @ s_q)[:, None])
    after = (s_p @ s_p + along_p + lengths) / np.maximum(m_p, 1.0)
    after += (s_q @ s_q - along_q + lengths) / np.maximum(m_q, 1.0)
    before = s_p @ s_p / max(state.held[p], 1.0) + s_q @ s_q / max(state.held[q], 1.0)
    return np.asarray(after - before)


def _may_meet(state: Layouts, sides: list[Integers], p: int, q: int) -> Flags:
    apart = state.constraints.apart
    if apart.shape[1] == 0:
        return np.ones((len(sides[0]) + 1, len(sides[1]) + 1), dtype=bool)
    rows = [np.vstack([apart[side], np.zeros(apart.shape[1], dtype=bool)]) for side in sides]
    counted = [row.astype(np.int64) for row in rows]
    # A label that u and v share is not in the way: one of the two always leaves.
    shared = counted[0] @ counted[1].T
    in_p = counted[1] @ state.meeting[p].astype(np.int64)
    in_q = counted[0] @ state.meeting[q].astype(np.int64)
    return np.asarray((in_p[None, :] - shared == 0) & (in_q[:, None] - shared == 0))


def _portion(units: Integers, rng: np.random.Generator) -> Integers:
    return units if len(units) <= PORTION else rng.choice(units, PORTION, replace=False)
