"""Energies of particles: how many they couple at once, and minibatches that are unbiased."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from batchsense.arrays import Places
from batchsense.errors import DataError
from batchsense.training.workload import described

#: ``energy(*particles)``: positions of some of the particles, and what else belongs to them.
Energy: TypeAlias = Callable[..., Any]
#: May minibatches of particles, or of pairs, stand for the whole?
Rescue: TypeAlias = Literal["particles", "pairs", "groups", "none"]

# Sums of up to 16 energies leave rounding of about 1e-15 of the largest; real terms are far above.
_ZERO = 1e-10
# The largest order looked for, in so many groups of particles; and random groupings, since a cutoff
# can hide an order in one of them.
_MAX_ORDER, _GROUPS, _GROUPINGS = 4, 5, 3


@dataclass(frozen=True, slots=True)
class InteractionOrder:
    """The largest number of particles that an energy couples.

    Attributes
    ----------
    order : int
        1 for an external field, 2 for pair forces, 3 for Axilrod–Teller; 4 if it is that or
        more.
    at_least : bool
        Whether the order may be larger: terms of order 4 were found and no larger sought.
    magnitudes : tuple of float
        For k = 1 … 4: the largest term that couples k groups, relative to the energies.
    rescue : str
        What may be minibatched without bias: ``"particles"`` (order 1), ``"pairs"`` (2),
        ``"groups"`` of as many particles as the order (3),
        or ``"none"``.
    naive_bias : float or None
        Relative bias of the pair energy if m of N particles are taken and the energy scaled by
        N/m: (m − 1)/(N − 1) − 1, for the m given; None unless the order is 2.
    message : str
        What follows for minibatches.
    """

    order: int
    at_least: bool
    magnitudes: tuple[float, ...]
    rescue: Rescue
    naive_bias: float | None
    message: str


def interaction_order(
    energy: Energy,
    particles: Any,
    *,
    minibatch: int | None = None,
    seed: int = 0,
) -> InteractionOrder:
    r"""Find out how many particles at once an energy couples.

    The particles are spread at random over five disjoint groups. For k of the groups

    .. math:: m_k = \sum_{T \subseteq \{1 \dots k\}} (-1)^{k - |T|} E(\cup_{t \in T})

    is the part of the energy that none of its proper subsets holds: it is zero, to rounding, for
    every k above the order.

    Parameters
    ----------
    energy : callable
        ``energy(positions)`` of any subset of the particles, a number; with several arrays in
        ``particles``, ``energy(positions, charges, …)``.
    particles : array of shape (particles, …), or a tuple of such
        Positions and what else belongs to each particle.
    minibatch : int, optional
        A number of particles m, for which the bias of naive scaling is stated.
    seed : int
        Seed of the groupings.

    Returns
    -------
    InteractionOrder
        Order, magnitudes and what may be minibatched.

    Raises
    ------
    DataError
        The energy fails or is not finite, or there are fewer particles than groups.

    References
    ----------
    Jin, Li and Liu (2020), the random batch method for pair forces.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(12, 3))
    >>> interaction_order(lambda r: float((r**2).sum()), x).order
    1
    >>> def springs(r):
    ...     return float(((r[:, None] - r[None]) ** 2).sum())
    >>> found = interaction_order(springs, x)
    >>> found.order, found.rescue
    (2, 'pairs')
    """
    arrays = particles if isinstance(particles, tuple) else (particles,)
    count = len(arrays[0])
    if count < _GROUPS or any(len(array) != count for array in arrays):
        raise DataError(
            f"{count} particles; give at least {_GROUPS}, the same number in every array",
            where="particles",
        )
    largest = np.zeros(_MAX_ORDER)
    size = 0.0
    empty = _energy(energy, arrays, np.zeros(0, dtype=np.intp), of_nothing=True)
    for generator in map(np.random.default_rng, np.random.SeedSequence(seed).spawn(_GROUPINGS)):
        shuffled = generator.permutation(count)
        parts = [shuffled[k::_GROUPS] for k in range(_GROUPS)]
        known: dict[frozenset[int], float] = {frozenset(): empty}
        for k in range(1, _MAX_ORDER + 1):
            for chosen in itertools.combinations(range(_GROUPS), k):
                known[frozenset(chosen)] = _energy(
                    energy, arrays, np.concatenate([parts[t] for t in chosen])
                )
                term = _coupling(known, chosen)
                largest[k - 1] = max(largest[k - 1], abs(term))
        size = max(size, *map(abs, known.values()))
    relative = largest / size if size > 0 else largest
    coupled = np.flatnonzero(relative > _ZERO)
    order = int(coupled[-1]) + 1 if len(coupled) else 1
    at_least = order == _MAX_ORDER
    naive = None
    if order == 2 and not at_least and minibatch is not None:
        naive = (minibatch - 1) / (count - 1) - 1
    wrong = (
        ""
        if naive is None
        else f" ({minibatch} of {count} scaled by N/m are wrong by {naive:+.0%})"
    )
    rescue, message = _consequence(order, at_least, wrong)
    found = tuple(float(value) for value in relative)
    return InteractionOrder(order, at_least, found, rescue, naive, message)


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


def _coupling(known: dict[frozenset[int], float], chosen: Sequence[int]) -> float:
    total = 0.0
    for size in range(len(chosen) + 1):
        for subset in itertools.combinations(chosen, size):
            total += (-1) ** (len(chosen) - size) * known[frozenset(subset)]
    return total


def _energy(
    energy: Energy, arrays: tuple[Any, ...], rows: Places, of_nothing: bool = False
) -> float:
    """Evaluate the energy of some particles; that of none is zero if the function refuses."""
    taken = [
        _float64(array[torch.as_tensor(rows) if isinstance(array, Tensor) else rows])
        for array in arrays
    ]
    try:
        value = float(energy(*taken))
    except Exception as error:
        if of_nothing:
            return 0.0
        raise DataError(
            f"it fails on {len(rows)} of the particles: {described(error)}", where="energy"
        ) from error
    if not np.isfinite(value):
        if of_nothing:
            return 0.0
        raise DataError(f"it is {value:g} for {len(rows)} of the particles", where="energy")
    return value


def _float64(array: Any) -> Any:
    if isinstance(array, Tensor):
        return array.double() if array.is_floating_point() else array
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array


def _consequence(order: int, at_least: bool, wrong: str) -> tuple[Rescue, str]:
    """What may be minibatched, and what follows in words."""
    if order == 1:
        return "particles", (
            "Each particle contributes alone: m of N particles, scaled by N/m, are unbiased."
        )
    if at_least:
        return "none", (
            f"Particles act in groups of {order} or more: no scaling of minibatches of particles "
            "or pairs makes the energy unbiased. Evaluate it whole (or with neighbour lists)."
        )
    if order == 2:
        return "pairs", (
            f"Particles act in pairs: a minibatch of particles is meaningless{wrong}; pairs are "
            "unbiased after scaling by N(N−1)/(m(m−1)) or, for forces, in random groups of p "
            "after scaling by (N−1)/(p−1): pair_minibatches."
        )
    return "groups", (
        f"Particles act in groups of up to {order}: minibatches of particles or pairs are "
        f"biased; the parts of order 1 … {order} scale by C(N,k)/C(m,k) and must be "
        "separated, which takes minibatches of as many sizes."
    )
