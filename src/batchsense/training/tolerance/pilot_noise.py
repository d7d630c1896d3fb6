"""What a pilot says about the spread of single observations, with the bounds that promises need.

The pilot is known through its Gram matrix, the inner products of its observations: n×n numbers,
however long an observation is (a gradient has millions of entries, a measurement has one).
Notation: e = x − mean, τ = E|e|² = tr Σ, γ = |mean|².
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, UnresolvedError
from batchsense.training.tolerance.moments import (
    ErrorMoments,
    moments_of_rows,
    moments_of_survey,
)
from batchsense.variation.matrices import finite_matrix

#: Four rows give tr Σ² without bias; with eight its error is no longer many times its size.
LEAST_ROWS = 8
#: An observation this many times as far out as the average one (squared) marks a heavy tail: of
#: 256 normal values the largest is 9 times, and in one pilot of 800 more than 20 times.
HEAVY_TAIL = 20.0


#: Groups left out in turn for standard errors: their quantile of t is 7 % above the normal one.
GROUPS = 16


@dataclass(frozen=True, slots=True, eq=False)
class PilotNoise:
    """The spread of single observations, as a pilot shows it."""

    moments: ErrorMoments  #: The variance and the shape of the spread.
    #: The same with one of ``groups`` groups of observations left out, for the jackknife; None
    #: where every observation was seen.
    without: Callable[[int], ErrorMoments] | None
    #: What τ is not above, at ``level``; equal to ``trace`` where every observation was seen.
    trace_bound: float
    squared_mean: float  #: γ̂, unbiased; may be negative.
    squared_mean_bound: float  #: What γ is not below, at ``level``; may be negative.
    outlier_ratio: float  #: The largest :math:`|e|^2` of an observation over their mean.
    observations: int  #: How many were seen.
    level: float  #: Confidence level of each bound.
    #: What a standard error is multiplied by because part of a finite population was seen.
    unseen: float = 1.0
    groups: int = GROUPS  #: Groups of the jackknife: :data:`GROUPS`, or as many as there are rows.

    @property
    def trace(self) -> float:
        """τ̂, the estimate of the variance, summed over features."""
        return self.moments.trace

    @property
    def heavy_tailed(self) -> bool:
        """Whether a few observations hold so much of the variance that bounds from it are weak."""
        return self.outlier_ratio > HEAVY_TAIL

    def factor(self, quantity: Callable[[ErrorMoments], float]) -> float:
        r"""Give what a positive quantity may lie above its estimate by, at ``level``.

        :math:`e^{t s}`, with s the jackknife's standard error of its logarithm and t the quantile
        of Student's law with one degree of freedom fewer than there are groups.

        Source: Tukey (1958), Ann. Math. Stat. 29; Efron and Stein (1981), Ann. Stat. 9.

        >>> values = np.random.default_rng(0).normal(size=400)
        >>> pilot = pilot_noise(np.outer(values, values))
        >>> round(pilot.factor(lambda moments: moments.trace), 2)
        1.18
        """
        if self.without is None:
            return 1.0
        values = np.array([quantity(self.without(group)) for group in range(self.groups)])
        if (values <= 0).any():
            return 1.0
        left = self.groups - 1
        error = math.sqrt(left * float(np.log(values).var()))
        return math.exp(self.unseen * error * float(special.stdtrit(left, self.level)))


def pilot_noise(
    gram: ArrayLike,
    *,
    observations_per_row: int = 1,
    population: int | None = None,
    level: float = 0.95,
) -> PilotNoise:
    r"""Estimate τ, γ and the shape of the spread from the inner products of a pilot.

    - τ and the shape by :func:`~batchsense.training.tolerance.moments.moments_of_rows`, with errors
      by the jackknife;
    - :math:`\hat γ` the mean of the products of different rows, bounded by its normal limit, with
      4 Var(h)/n for its variance, h the mean product of a row with the others.

    Shapes: ``gram`` (rows, rows).

    Source: Hoeffding (1948), Ann. Math. Stat. 19, for γ.

    Raises UnresolvedError: fewer than eight rows.
    Raises DataError: not a Gram matrix, or more observations than the population has.
    """
    products = _checked(gram)
    rows, per_row = len(products), observations_per_row
    seen = rows * per_row
    if population is not None and seen > population:
        raise DataError(f"{seen} observations were drawn from {population}, so some came twice")
    unseen, groups = _unseen(seen, population), min(GROUPS, rows)
    moments = moments_of_rows(products, per_row)

    @cache
    def without(group: int) -> ErrorMoments:
        kept = np.arange(rows) % groups != group
        return moments_of_rows(products[np.ix_(kept, kept)], per_row)

    others = (products.sum(axis=1) - np.diag(products)) / (rows - 1)
    gamma = float(others.mean())
    if population is not None:  # rows drawn without replacement repel each other
        gamma += moments.trace / population
        moments = replace(moments, trace=moments.trace * (population - 1) / population)
    error = 2 * unseen * float(others.std(ddof=1)) / math.sqrt(rows)
    own = np.diag(products) - 2 * products.mean(axis=1) + products.mean()
    return PilotNoise(
        moments=moments,
        without=without if unseen else None,
        trace_bound=moments.trace * _factor(own, level, unseen),
        squared_mean=gamma,
        squared_mean_bound=gamma - float(special.ndtri(level)) * error,
        outlier_ratio=float(own.max() / own.mean()) if moments.trace > 0 else 1.0,
        observations=seen,
        level=level,
        unseen=unseen,
        groups=groups,
    )


def surveyed_noise(
    squared_distances: Floats,
    drawn: Integers,
    chances: Floats,
    products: Floats,
    *,
    squared_mean: tuple[float, float],
    population: int | None = None,
    level: float = 0.95,
) -> PilotNoise:
    """Put a survey of lengths and the products of some of its members in the form of a pilot.

    Arguments are as for :func:`~batchsense.training.tolerance.moments.moments_of_survey`, with γ̂
    and its lower bound. Where ``population`` is the size of the survey, nothing is left to guess
    but the shape. The errors are those of the survey and of the draws together.

    >>> from batchsense.training.tolerance.moments import drawn_by_length
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(4000, 4))
    >>> lengths = (rows**2).sum(axis=1)
    >>> drawn, chances = drawn_by_length(lengths, 128, rng)
    >>> products = rows[drawn] @ rows[drawn].T
    >>> noise = surveyed_noise(lengths, drawn, chances, products, squared_mean=(0.0, 0.0))
    >>> noise.observations, round(noise.factor(lambda moments: moments.trace), 2)
    (4000, 1.02)
    """
    n = len(squared_distances)
    moments = moments_of_survey(squared_distances, drawn, chances, products)
    unseen = _unseen(n, population)

    @cache
    def without(group: int) -> ErrorMoments:
        kept = np.arange(n) % GROUPS != group
        rows = kept[drawn]
        return moments_of_survey(
            squared_distances[kept],
            np.cumsum(kept)[drawn[rows]] - 1,
            chances[kept] / chances[kept].sum(),
            products[np.ix_(rows, rows)],
        )

    return PilotNoise(
        moments=moments,
        without=without if unseen else None,
        trace_bound=moments.trace * _factor(squared_distances, level, unseen),
        squared_mean=squared_mean[0],
        squared_mean_bound=squared_mean[1],
        outlier_ratio=float(squared_distances.max()) / moments.trace if moments.trace > 0 else 1.0,
        observations=n,
        level=level,
        unseen=unseen,
    )


def _unseen(seen: int, population: int | None) -> float:
    return 0.0 if seen == population else math.sqrt(1 - seen / (population or math.inf))


def _factor(squared_distances: Floats, level: float, unseen: float) -> float:
    """What τ may lie above its estimate by, by the error of the logarithm of a mean."""
    mean = float(squared_distances.mean())
    if mean <= 0:
        return 1.0
    error = float(squared_distances.std(ddof=1)) / mean / math.sqrt(len(squared_distances))
    return math.exp(unseen * error * float(special.ndtri(level)))


def clipped_gram(gram: ArrayLike, norm: float) -> Floats:
    """Return the inner products after each row is shortened to at most ``norm``.

    No two of the clipped rows are further than 2·norm apart. ``gram`` and the result have shape
    (rows, rows).

    Raises DataError: ``norm`` is not positive.

    >>> clipped_gram([[4.0, 2.0], [2.0, 1.0]], norm=1.0)
    array([[1., 1.],
           [1., 1.]])
    """
    products = finite_matrix(gram, "the Gram matrix")
    if not norm > 0:
        raise DataError(f"the norm to clip to must be positive, not {norm}")
    lengths = np.sqrt(np.maximum(np.diag(products), 0.0))
    scale = norm / np.maximum(lengths, norm)
    return np.asarray(products * np.outer(scale, scale))


def _checked(gram: ArrayLike) -> Floats:
    products = finite_matrix(gram, "the Gram matrix")
    if products.shape[0] != products.shape[1]:
        raise DataError(f"a Gram matrix is square; this has shape {products.shape}")
    if len(products) < LEAST_ROWS:
        raise UnresolvedError(
            f"a pilot of {len(products)} does not show how observations differ",
            f"{LEAST_ROWS} or more, better 256",
        )
    slack = 1e-8 * float(np.abs(products).max())
    if (np.abs(products - products.T) > slack + 1e-6 * np.abs(products)).any():
        raise DataError("a Gram matrix is symmetric; this is not")
    return products
