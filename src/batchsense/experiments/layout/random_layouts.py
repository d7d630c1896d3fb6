"""Random layouts that keep the constraints: many at once, each unit to where most room is left."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Integers
from batchsense.experiments.layout.constraints import FREE, Constraints

#: The largest table of label counts that is held for all layouts together, in entries.
_MOST_COUNTS = 20_000_000


def random_layouts(constraints: Constraints, count: int, rng: np.random.Generator) -> Integers:
    """Draw layouts of nearly even size that keep every constraint.

    Locked units first, then those whose label is most frequent, then the largest, in random order
    among equals; each goes to the batch that lacks most of its even share, of those that may hold
    it. A draw in which a unit finds no place is dropped, so fewer than ``count`` may come back,
    and none does not prove that there is none: see
    :func:`~batchsense.experiments.layout.feasibility.exact_search`.

    Parameters
    ----------
    constraints : Constraints
        The constraints.
    count : int
        How many to draw.
    rng : numpy.random.Generator
        Draws the orders.

    Returns
    -------
    array of shape (layouts, units)
        The batch of each unit.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> constraints = Constraints.of(np.array([2, 1, 1]), np.array([2, 2]))
    >>> drawn = random_layouts(constraints, 5, rng)
    >>> bool((drawn[:, 1] == drawn[:, 2]).all() and (drawn[:, 0] != drawn[:, 1]).all())
    True
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
