"""Confidence intervals of a one-way layout with groups of any sizes, from one falling pivot.

With group means ȳ_i of n_i observations, D(b, s) = min_c Σ (ȳ_i - c)² / (b + s/n_i) follows χ² with
groups - 1 degrees of freedom when b and s are the true variances between and within, and falls
in b. Groups of equal size are pooled first, so the cost grows with the number of *distinct* sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from batchsense.arrays import Floats, Places

#: Steps of a root search at most, and the relative change of the guess that ends it.
_STEPS = 60
_PRECISION = 1e-13
#: Gauss-Legendre nodes over the quantiles of the variance within.
_NODES = 24
#: Values per temporary array when many features are solved at once.
_BLOCK_VALUES = 1_000_000


@dataclass(frozen=True, slots=True)
class GroupMeans:
    """Group means pooled by group size; ``features`` is the last axis."""

    #: (distinct sizes,): observations per group, and how many groups have that size.
    sizes: Floats
    groups: Floats
    #: (distinct sizes, features): mean of these groups' means, and their sum of squares around it.
    means: Floats
    squares: Floats

    @classmethod
    def of(cls, sizes: Floats, means: Floats) -> GroupMeans:
        """Pool the means, shape (groups, features), of groups of equal size."""
        distinct = np.unique(sizes)
        parts = [means[sizes == size] for size in distinct]
        pooled = np.array([part.mean(axis=0) for part in parts])
        squares = [((p - m) ** 2).sum(axis=0) for p, m in zip(parts, pooled, strict=True)]
        return cls(distinct, np.array([float(len(p)) for p in parts]), pooled, np.array(squares))

    def features(self, part: Places) -> GroupMeans:
        """Take some features."""
        return GroupMeans(self.sizes, self.groups, self.means[:, part], self.squares[:, part])

    def squared_distance(self, weights: Floats) -> Floats:
        """Σ w_i (ȳ_i - ȳ_w)²; weights of shape (distinct sizes, features, ...)."""
        extra = (slice(None), slice(None)) + (None,) * (weights.ndim - 2)
        means, squares = self.means[extra], self.squares[extra]
        groups = self.groups.reshape((-1,) + (1,) * (weights.ndim - 1))
        total = (weights * groups).sum(axis=0)
        centre = (weights * groups * means).sum(axis=0) / total
        return np.asarray((weights * (squares + groups * (means - centre) ** 2)).sum(axis=0))


def icc_end(table: GroupMeans, ms_within: Floats, df: tuple[int, int], tail: float) -> Floats:
    """Solve for the intraclass correlation whose pivot is the F quantile of ``tail`` (Wald 1940).

    The result lies between -1/(largest group - 1), the least possible one, and 1.
    """
    target = special.fdtri(*df, tail) * df[0] * ms_within
    sizes = table.sizes[:, None]

    def excess(icc: Floats, part: Places) -> Floats:
        """Target minus pivot; (1 - icc) keeps the weights n/(1 + nθ) finite."""
        weights = sizes / (1.0 + (sizes - 1.0) * icc)
        distance = table.features(part).squared_distance(weights)
        return np.asarray(target[part] - (1.0 - icc) * distance)

    low = np.full(len(target), -(1.0 - 1e-12) / (table.sizes.max() - 1.0))
    return solve_rising(excess, low, np.ones(len(target)), block=_BLOCK_VALUES // len(sizes))


def between_end(
    table: GroupMeans, squares_within: Floats, df: tuple[int, int], probability: float
) -> Floats:
    """Quantile of the generalized pivotal quantity of the variance between groups.

    Given V ~ χ² for the variance within, s = squares_within/V, the variance between solves
    D(b, s) = U with U ~ χ²; so P(b' ≤ b) = E_V P(U ≥ D(b, s)), an integral over the quantiles of V
    (Weerahandi 1993; Hannig, Iyer and Patterson 2006).
    """
    nodes, shares = np.polynomial.legendre.leggauss(_NODES)
    within = squares_within[:, None] / special.chdtri(df[1], (1.0 - nodes) / 2.0)
    widest = table.sizes.max()
    sizes = table.sizes[:, None, None]

    def excess(between: Floats, part: Places) -> Floats:
        """Chance of a value up to ``between``, less the probability wanted."""
        allowed = between[:, None] + within[part] / widest > 0.0
        spread = np.where(allowed, between[:, None] + within[part] / sizes, 1.0)
        distance = table.features(part).squared_distance(1.0 / spread)
        chance = np.where(allowed, special.chdtrc(df[0], distance), 0.0)
        return np.asarray(chance @ shares / 2.0 - probability)

    low = -within.max(axis=1) / widest
    scatter = table.squared_distance(np.ones_like(table.means))
    high = scatter / special.chdtri(df[0], probability)
    return solve_rising(excess, low, high, block=_BLOCK_VALUES // (len(sizes) * _NODES))


def solve_rising(
    function: Callable[[Floats, Places], Floats],
    low: Floats,
    high: Floats,
    block: int = 10_000,
) -> Floats:
    """Find, element by element, the root of a rising function between ``low`` and ``high``.

    Ridders' method (1979), false position on the function times the exponential that makes three
    points linear: the bracket at least halves each step. An element without a root gets the end
    that is nearer to one.
    """
    roots = np.empty(len(low))
    width = max(1, block)
    for start in range(0, len(low), width):
        part = np.arange(start, min(start + width, len(low)))
        roots[part] = _ridders(function, low[part], high[part], part)
    return roots


def _ridders(
    function: Callable[[Floats, Places], Floats],
    low: Floats,
    high: Floats,
    part: Places,
) -> Floats:
    """Solve for the elements ``part``; those that have converged leave the iteration."""
    scale = np.abs(high)
    below, above = function(low, part), function(high, part)
    roots = np.where(below >= 0, low, high)
    active = np.flatnonzero((below < 0) & (above > 0))
    low, high, below, above = (a[active] for a in (low, high, below, above))
    previous = low
    for _ in range(_STEPS):
        if not len(active):
            break
        middle = (low + high) / 2.0
        central = function(middle, part[active])
        slope = np.sqrt(central**2 - below * above)
        guess = np.clip(middle - (middle - low) * central / slope, low, high)
        value = function(guess, part[active])
        for point, height in ((middle, central), (guess, value)):
            lower, upper = (height < 0) & (point > low), (height >= 0) & (point < high)
            low, below = np.where(lower, point, low), np.where(lower, height, below)
            high, above = np.where(upper, point, high), np.where(upper, height, above)
        roots[active] = guess
        change = np.minimum(np.abs(guess - previous), high - low)
        going = (change > _PRECISION * (np.abs(guess) + scale[active])) & (value != 0)
        active, previous = active[going], guess[going]
        low, high, below, above = (a[going] for a in (low, high, below, above))
    return roots
