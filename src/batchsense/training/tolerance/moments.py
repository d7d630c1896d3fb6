"""How the squared error of a mean is spread, from inner products of single observations.

Notation: e is the deviation of an observation from the mean, τ = E|e|² = tr Σ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats, Integers
from batchsense.variation.directions import satterthwaite_directions, square_trace_of_rows


@dataclass(frozen=True, slots=True)
class ErrorMoments:
    r"""What the first three cumulants of :math:`n|\bar e|^2` are made of, n being any number.

    .. math:: κ_2(n)/τ^2 = 2\left(1 - \tfrac1n\right) v + \tfrac{f}{n}, \qquad
        κ_3(n)/τ^3 = 8\left(1 - \tfrac1n\right)\left(1 - \tfrac2n\right) c
        + \left(1 - \tfrac1n\right)\frac{m}{n} + \frac{s}{n^2}

    Source: McCullagh (1987), "Tensor Methods in Statistics", chapter 3, for cumulants of quadratic
    forms.
    """

    trace: float  #: τ.
    #: v = tr Σ²/τ², between 0 and 1: one over the number of directions that share the variance.
    square_ratio: float
    fourth_ratio: float  #: f = Var|e|²/τ²: how unequal the observations are; large for heavy tails.
    cube_ratio: float  #: c = tr Σ³/τ³, what is left for a mean of very many.
    mixed_ratio: float  #: m = (4E(e₁·e₂)³ + 12 Cov(|e|², e'Σe) + 6|E|e|²e|²)/τ³.
    sixth_ratio: float  #: s = κ₃(|e|²)/τ³.

    @property
    def shape(self) -> tuple[float, float, float, float, float]:
        """All but the first, as :func:`calibrated_need` takes them after δ."""
        return (
            self.square_ratio,
            self.fourth_ratio,
            self.cube_ratio,
            self.mixed_ratio,
            self.sixth_ratio,
        )


def moments_of_rows(gram: ArrayLike, observations_per_row: int = 1) -> ErrorMoments:
    r"""Estimate the moments of single observations from a Gram matrix of rows.

    :math:`\hat τ = \sum_i |x_i - \bar x|^2/(n-1)` is unbiased; so is tr Σ², which is held above
    τ̂²/n. Rows that are means of several observations tell of single ones.

    Shapes: ``gram`` (rows, rows), at least four; the mean of the rows need not be zero.

    Source: Chen, Zhang and Zhong (2010), JASA 105, for tr Σ².
    """
    products = np.asarray(gram, dtype=np.float64)
    n, b = len(products), observations_per_row
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    own = np.maximum(np.diag(centred), 0.0) * n / (n - 1)
    trace = float(own.mean())
    if trace <= 0:
        return ErrorMoments(0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    square = square_trace_of_rows(products)
    square_ratio = 1.0 / satterthwaite_directions(trace, square, trace**2 / n)
    pairs = _Pairs.of(centred, np.ones(n))
    cube = float(np.clip(pairs.cube / trace**3, square_ratio**2, square_ratio**1.5))
    squares = pairs.off_squared.sum(axis=1) / (n - 1)
    mixed = 4 * pairs.third + 12 * float(np.cov(own, squares)[0, 1]) + 6 * pairs.between(own)
    fourth = float(own.var()) / trace**2
    sixth = float(((own - trace) ** 3).mean()) / trace**3
    mixed /= trace**3
    if b > 1:  # what the rows' own averaging adds is in the first term of each already
        fourth = max(b * (fourth - 2 * square_ratio * (1 - 1 / b)), 0.0)
        mixed = b * max(mixed - 24 * cube * (1 - 1 / b), 0.0)
        sixth = b**2 * max(sixth - 8 * cube * (1 - 1 / b**2), 0.0)
    return ErrorMoments(trace * b, square_ratio, fourth, cube, mixed, sixth)


def moments_of_survey(
    squared_distances: Floats, drawn: Integers, chances: Floats, products: Floats
) -> ErrorMoments:
    """Estimate the moments from many lengths, and products of a few drawn by their lengths.

    Every |e|² of the survey counts in τ, f and s. Sums over pairs and triples are estimated from
    the rows at the places ``drawn``, independently and with replacement, with these ``chances`` in
    one draw, and their e·e'. Each is weighted by one over its chance (Hansen and Hurwitz 1943),
    less the terms in which one observation meets itself, which the lengths tell.
    """
    n, trace = len(squared_distances), float(squared_distances.mean())
    if trace <= 0:
        return ErrorMoments(0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    pairs = _Pairs.of(products, 1 / (n * chances[drawn]))
    own = squared_distances[drawn]
    itself, thrice = float((squared_distances**2).mean()), float((squared_distances**3).mean())
    square = (pairs.second - itself / n) * n / (n - 1)
    square_ratio = 1.0 / satterthwaite_directions(trace, square, trace**2 / n)
    along = pairs.with_first(own) - thrice / n  # E |a|²(a·b)² over different ones
    cube = (pairs.cube - 3 * along / n - thrice / n**2) / trace**3
    mixed = (
        4 * (pairs.third - thrice / n)
        + 12 * (along - trace * square)
        + 6 * (pairs.between(own) - thrice / n)
    )
    return ErrorMoments(
        trace,
        square_ratio,
        float(squared_distances.var()) / trace**2,
        float(np.clip(cube, square_ratio**2, square_ratio**1.5)),
        mixed / trace**3,
        float(((squared_distances - trace) ** 3).mean()) / trace**3,
    )


def drawn_by_length(
    squared_distances: Floats, rows: int, rng: np.random.Generator
) -> tuple[Integers, Floats]:
    """Draw with replacement, half by squared length and half evenly; return places and chances.

    Weights are then at most two, so that nothing rare and long is missed and nothing short weighs
    much. Shapes: ``squared_distances`` (surveyed,), the results (rows,) and (surveyed,).

    >>> drawn, chances = drawn_by_length(np.array([0.0, 1.0, 3.0]), 4, np.random.default_rng(0))
    >>> len(drawn), chances.round(3)
    (4, array([0.167, 0.292, 0.542]))
    """
    total, n = float(squared_distances.sum()), len(squared_distances)
    even = np.full(n, 1 / n)
    chances = even if total <= 0 else (squared_distances / total + even) / 2
    return rng.choice(n, size=rows, p=chances), chances


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Weighted means over pairs and triples of different rows."""

    off: Floats
    off_squared: Floats
    weights: Floats
    count: int

    @classmethod
    def of(cls, products: Floats, weights: Floats) -> _Pairs:
        off = products - np.diag(np.diag(products))
        return cls(off, off * off, weights, len(off) * (len(off) - 1))

    @property
    def second(self) -> float:
        return float(self.weights @ self.off_squared @ self.weights) / self.count

    @property
    def third(self) -> float:
        return float(self.weights @ (self.off_squared * self.off) @ self.weights) / self.count

    @property
    def cube(self) -> float:
        root = np.sqrt(self.weights)
        scaled = self.off * np.outer(root, root)
        return float(np.einsum("ij,ij->", scaled @ scaled, scaled)) / (
            self.count * (len(self.off) - 2)
        )

    def with_first(self, own: Floats) -> float:
        return float((self.weights * own) @ self.off_squared @ self.weights) / self.count

    def between(self, own: Floats) -> float:
        ends = self.weights * own
        return float(ends @ self.off @ ends) / self.count
