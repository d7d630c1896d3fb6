"""What a pilot says about the spread of single observations, with the bounds that promises need.

The pilot is known through its Gram matrix, the inner products of its observations: n×n numbers,
however long an observation is (a gradient has millions of entries, a measurement has one).
Notation: e = x − mean, τ = E|e|² = tr Σ, γ = |mean|².
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.variation.directions import satterthwaite_directions, square_trace_of_rows
from batchsense.variation.matrices import finite_matrix

#: Four rows give tr Σ² without bias; with eight its error is no longer many times its size.
LEAST_ROWS = 8
#: An observation this many times as far out as the average one (squared) marks a heavy tail: of
#: 256 normal values the largest is 9 times, and in one pilot of 800 more than 20 times.
HEAVY_TAIL = 20.0


class ThirdMoments(NamedTuple):
    """The parts of the third cumulant of the squared error of a mean, each over τ³.

    Attributes
    ----------
    cube_ratio : float
        tr Σ³, what is left for a mean of very many.
    mixed_ratio : float
        What is divided by n.
    sixth_ratio : float
        The third cumulant of |e|², which is divided by n².
    """

    cube_ratio: float
    mixed_ratio: float
    sixth_ratio: float


@dataclass(frozen=True, slots=True)
class PilotNoise:
    """The spread of single observations, as a pilot shows it.

    Attributes
    ----------
    trace : float
        τ̂, the unbiased estimate of the variance, summed over features.
    trace_bound : float
        What τ is not above, at ``level``; equal to ``trace`` where every observation was seen.
    square_ratio : float
        tr Σ² / τ², between 0 and 1: one over the number of directions that share the variance.
    fourth_ratio : float
        :math:`Var(|e|^2) / τ^2`: how unequal the observations are; large for heavy tails.
    squared_mean : float
        γ̂, unbiased; may be negative.
    squared_mean_bound : float
        What γ is not below, at ``level``; may be negative.
    outlier_ratio : float
        The largest :math:`|e|^2` of a row over their mean.
    observations : int
        How many were seen.
    level : float
        Confidence level of each bound.
    third : ThirdMoments
        How lopsided the squared error of a mean is.
    """

    trace: float
    trace_bound: float
    square_ratio: float
    fourth_ratio: float
    squared_mean: float
    squared_mean_bound: float
    outlier_ratio: float
    observations: int
    level: float
    third: ThirdMoments

    @property
    def shape(self) -> tuple[float, float, float, float, float]:
        """What :func:`~batchsense.training.tolerance.ladder.calibrated_need` asks for after δ."""
        return (self.square_ratio, self.fourth_ratio, *self.third)

    @property
    def heavy_tailed(self) -> bool:
        """Whether a few observations hold so much of the variance that bounds from it are weak."""
        return self.outlier_ratio > HEAVY_TAIL


def pilot_noise(
    gram: ArrayLike,
    *,
    observations_per_row: int = 1,
    population: int | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> PilotNoise:
    r"""Estimate τ, γ and the shape of the spread from the inner products of a pilot.

    - :math:`\hat τ = \sum_i |x_i - \bar x|^2/(n-1)`, bounded by the bootstrap;
    - :math:`\hat γ` the mean of the products of different rows, bounded by its normal limit, with
      4 Var(h)/n for its variance, h the mean product of a row with the others;
    - tr Σ² the unbiased U-statistic, held above τ̂²/n.

    Shapes: ``gram`` (rows, rows).

    Raises
    ------
    UnresolvedError
        Fewer than eight rows.
    DataError
        Not a Gram matrix, or more observations than the population has.

    References
    ----------
    Chen, Zhang and Zhong (2010), JASA 105, for tr Σ²; Efron (1979), Ann. Stat. 7.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(5.0, 3.0, size=(400, 1))
    >>> pilot = pilot_noise(values @ values.T)
    >>> round(pilot.trace, 1), round(pilot.trace_bound, 1), round(pilot.square_ratio, 2)
    (8.9, 10.0, 0.99)
    """
    products = _checked(gram)
    rows, per_row = len(products), observations_per_row
    seen = rows * per_row
    if population is not None and seen > population:
        raise DataError(f"{seen} observations were drawn from {population}, so some came twice")
    left = 0.0 if seen == population else math.sqrt(1 - seen / (population or math.inf))
    total = 1.0 if population is None else (population - 1) / population
    distances = _squared_distances(products) * rows / (rows - 1)
    tau = float(distances.mean())
    upper = _bootstrap_quantile(products, level, resamples, seed)
    bound = tau + left * max(upper - tau, 0.0)
    square_ratio = 1.0
    if tau > 0:
        square = square_trace_of_rows(products)
        square_ratio = 1.0 / satterthwaite_directions(tau, square, tau**2 / rows)
    fourth_ratio = 0.0 if tau <= 0 else float(distances.var()) / tau**2
    if per_row > 1:  # a mean of b: Var|ē|² = 2 tr Σ² (b − 1)/b³ + Var|e|²/b³
        fourth_ratio = max(per_row * (fourth_ratio - 2 * square_ratio * (1 - 1 / per_row)), 0.0)
    others = (products.sum(axis=1) - np.diag(products)) / (rows - 1)
    gamma = float(others.mean())
    if population is not None:  # rows drawn without replacement repel each other
        gamma += tau * per_row / population
    error = 2 * left * float(others.std(ddof=1)) / math.sqrt(rows)
    return PilotNoise(
        trace=tau * per_row * total,
        trace_bound=bound * per_row * total,
        square_ratio=square_ratio,
        fourth_ratio=fourth_ratio,
        squared_mean=gamma,
        squared_mean_bound=gamma - float(special.ndtri(level)) * error,
        outlier_ratio=float(distances.max()) / tau if tau > 0 else 1.0,
        observations=seen,
        level=level,
        third=third_moments(products, square_ratio, per_row),
    )


def third_moments(
    gram: ArrayLike, square_ratio: float, observations_per_row: int = 1
) -> ThirdMoments:
    r"""Estimate the third cumulant of :math:`n|\bar e|^2/τ` as a function of n.

    With e the deviations, which are independent,

    .. math:: κ_3(n) = 8\left(1 - \tfrac1n\right)\left(1 - \tfrac2n\right)
        \frac{\operatorname{tr}Σ^3}{τ^3} + \left(1 - \tfrac1n\right)\frac{m}{n} + \frac{s}{n^2},

    :math:`m = (4E(e_1 \cdot e_2)^3 + 12\operatorname{Cov}(|e|^2, e'Σe) + 6|E|e|^2e|^2)/τ^3` and
    :math:`s = κ_3(|e|^2)/τ^3`. The last two are what heavy tails add while n is small.

    Shapes: ``gram`` (rows, rows).

    References
    ----------
    McCullagh (1987), "Tensor Methods in Statistics", chapter 3, for cumulants of quadratic forms.

    Examples
    --------
    Eight independent normal features: tr Σ³/τ³ is 8/8³, and κ₃(|e|²)/τ³ eight times that.

    >>> rows = np.random.default_rng(0).normal(size=(2000, 8))
    >>> found = third_moments(rows @ rows.T, square_ratio=1 / 8)
    >>> round(found.cube_ratio, 3), round(found.sixth_ratio, 2)
    (0.016, 0.13)
    """
    products = np.asarray(gram, dtype=np.float64)
    n, per_row = len(products), observations_per_row
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    own = np.diag(centred) * n / (n - 1)
    off = centred - np.diag(np.diag(centred))
    trace, pairs = float(own.mean()), n * (n - 1)
    if trace <= 0:
        return ThirdMoments(0.0, 0.0, 0.0)
    off_squared = off * off
    squares = off_squared.sum(axis=1) / (n - 1)
    cube = float(np.einsum("ij,ij->", off @ off, off)) / (pairs * (n - 2)) / trace**3
    cube = float(np.clip(cube, square_ratio**2, square_ratio**1.5))
    mixed = (
        4 * float(np.einsum("ij,ij->", off_squared, off)) / pairs
        + 12 * float(np.cov(own, squares)[0, 1])
        + 6 * float(own @ off @ own) / pairs
    ) / trace**3
    sixth = float(((own - trace) ** 3).mean()) / trace**3
    if per_row > 1:  # what the rows' own averaging adds is in the first term already
        mixed = per_row * max(mixed - 24 * cube * (1 - 1 / per_row), 0.0)
        sixth = per_row**2 * max(sixth - 8 * cube * (1 - 1 / per_row**2), 0.0)
    return ThirdMoments(cube, mixed, sixth)


def gram_of(observations: ArrayLike) -> Floats:
    """Return the inner products of observations; numbers count as vectors of one entry.

    ``observations`` has shape (observations,) or (observations, features); the result has shape
    (observations, observations).

    Raises
    ------
    DataError
        A value is missing or not a number.

    Examples
    --------
    >>> gram_of([1.0, 2.0])
    array([[1., 2.],
           [2., 4.]])
    """
    table = finite_matrix(observations, "observations", vector=True)
    return np.asarray(table @ table.T)


def clipped_gram(gram: ArrayLike, norm: float) -> Floats:
    """Return the inner products after each row is shortened to at most ``norm``.

    No two of the clipped rows are further than 2·norm apart. ``gram`` and the result have shape
    (rows, rows).

    Raises
    ------
    DataError
        ``norm`` is not positive.

    Examples
    --------
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


def _squared_distances(products: Floats) -> Floats:
    distances: Floats = np.diag(products) - 2 * products.mean(axis=1) + products.mean()
    return np.maximum(distances, 0.0)


def _bootstrap_quantile(products: Floats, level: float, resamples: int, seed: int) -> float:
    rows = len(products)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(rows, np.full(rows, 1 / rows), size=resamples).astype(np.float64)
    squared_means = np.einsum("ri,ri->r", counts @ products, counts) / rows**2
    traces = (counts @ np.diag(products) / rows - squared_means) * rows / (rows - 1)
    return float(np.quantile(traces, level))


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
