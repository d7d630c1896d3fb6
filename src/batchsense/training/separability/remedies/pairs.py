"""Minibatches of particles whose pair energies and forces are unbiased."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Places
from batchsense.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class PairMinibatch:
    """Some particles, and the factors that make their pair sums stand for the whole.

    Attributes
    ----------
    indices : array of shape (size,)
        The particles.
    energy_scale : float
        N(N − 1) / (m(m − 1)): the pair energy of these particles times this has the whole energy
        as its mean.
    force_scale : float
        (N − 1) / (m − 1): the pair force *on these particles, from these particles*, times this
        has the whole force on them as its mean.
    """

    indices: Places
    energy_scale: float
    force_scale: float


def pair_minibatches(count: int, size: int, *, seed: int = 0) -> Iterator[PairMinibatch]:
    r"""Go once through all particles in random groups: the random batch method.

    For an energy of pairs, E = Σ_{i<j} u(i, j), and a random group S of m of the N particles

    .. math:: \frac{N (N - 1)}{m (m - 1)} \; E[E(S)] = E

    because a pair falls into S with probability m(m − 1)/(N(N − 1)).

    Parameters
    ----------
    count : int
        N, the number of particles.
    size : int
        m, particles per group, at least 2. If it does not divide ``count``, the rest sits this
        round out.
    seed : int
        Seed of the grouping; use another one for each round.

    Yields
    ------
    PairMinibatch
        Disjoint groups.

    Raises
    ------
    DataError
        A group has fewer than two particles or more than there are.

    References
    ----------
    Jin, Li and Liu (2020).

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=100)
    >>> def energy(x):
    ...     return ((x[:, None] - x[None]) ** 2).sum() / 2
    >>> draws = [
    ...     b.energy_scale * energy(x[b.indices])
    ...     for s in range(400)
    ...     for b in pair_minibatches(100, 10, seed=s)
    ... ]
    >>> float(round(np.mean(draws) / energy(x), 2))
    1.0
    """
    if not 2 <= size <= count:
        raise DataError(f"a group of {size} of {count} particles holds no pairs", where="size")
    order = np.random.default_rng(seed).permutation(count)
    energy_scale = count * (count - 1) / (size * (size - 1))
    force_scale = (count - 1) / (size - 1)
    for start in range(0, count - size + 1, size):
        yield PairMinibatch(order[start : start + size], energy_scale, force_scale)
