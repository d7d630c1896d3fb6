"""Unbiased estimates of how much gradients differ, from examples or from micro-batches.

Notation: gᵢ the gradient of example i, G their mean over the N examples there are, Σ their
covariance (divided by N). All functions estimate τ = tr Σ and γ = |G|², and never clamp: a negative
γ̂ says that too few examples were used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.variation.components import variance_component


@dataclass(frozen=True, slots=True)
class NoiseMoments:
    """The two numbers from which every statement about gradient noise is made."""

    #: τ̂: total variance of one example's gradient, in units of gradient squared.
    trace_covariance: float
    squared_gradient_norm: float  #: γ̂: squared length of the mean gradient; may be negative.


def moments_of_examples(
    mean_squared_norm: float, squared_mean_norm: float, count: int, population: int | None = None
) -> NoiseMoments:
    r"""Estimate τ and γ from the gradients of single examples.

    With Q = mean |gᵢ|² and A = |ḡ|² over n examples drawn with replacement

    .. math:: \hat γ = (nA - Q)/(n-1), \qquad \hat τ = n(Q - A)/(n-1);

    drawn without replacement from N, with U that γ̂: τ̂ = (N−1)/N·(Q−U), γ̂ = ((N−1)U + Q)/N.
    Source: McCandlish et al. (2018), arXiv:1812.06162, appendix A.

    Two examples, with gradients 1 and 3, that are all there are: mean 2, variance 1.

    >>> moments_of_examples(5.0, 4.0, 2, population=2)
    NoiseMoments(trace_covariance=1.0, squared_gradient_norm=4.0)
    """
    if count < 2:
        raise UnresolvedError("one example says nothing about differences", "2 or more examples")
    q, a, n = mean_squared_norm, squared_mean_norm, count
    gamma = (n * a - q) / (n - 1)
    if population is None:
        return NoiseMoments(n * (q - a) / (n - 1), gamma)
    total = population
    return NoiseMoments((total - 1) / total * (q - gamma), ((total - 1) * gamma + q) / total)


def noise_of_two_sizes(
    small_square: npt.ArrayLike,
    small_size: float,
    large_square: npt.ArrayLike,
    large_size: float,
    population: int | None = None,
) -> tuple[Floats, Floats]:
    r"""Estimate τ and γ from mean gradients over few and over many examples.

    A mean gradient over b examples has :math:`E|g_b|^2 = γ + τ/b`. With S the square at size b,
    averaged, and L that at size B, of one parameter or of each,

    .. math:: \hat τ = \frac{S - L}{1/b - 1/B}, \qquad \hat γ = L - \hat τ/B.

    Sizes need not be whole: a weighted mean :math:`\sum w_k g_k / \sum w_k` of parts of
    :math:`n_k` examples has :math:`1/B = \sum w_k^2/n_k / (\sum w_k)^2`. Nothing is clamped.
    Drawn without replacement from N: τ̂·(N−1)/N, and γ̂ + τ̂/N. Source: McCandlish et al. (2018),
    arXiv:1812.06162, appendix A.1.

    Raises UnresolvedError: both sizes are the same, so that there is one part only.

    Parts of 4 examples whose gradients have mean square 6, and 16 examples together 3: signal 2
    and noise 16, because 2 + 16/4 = 6 and 2 + 16/16 = 3.

    >>> tau, gamma = noise_of_two_sizes(6.0, 4, 3.0, 16)
    >>> float(tau), float(gamma)
    (16.0, 2.0)
    """
    if large_size <= small_size * (1 + 1e-9):
        raise UnresolvedError(
            "one part says nothing about differences",
            "two or more parts, or the norms of single examples",
        )
    small, large = (np.asarray(v, dtype=np.float64) for v in (small_square, large_square))
    tau = (small - large) / (1 / small_size - 1 / large_size)
    gamma = large - tau / large_size
    if population is None:
        return tau, gamma
    return tau * (population - 1) / population, gamma + tau / population


def moments_of_layers(
    grams: npt.ArrayLike,
    sizes: npt.ArrayLike,
    example_squares: npt.ArrayLike | None = None,
    population: int | None = None,
) -> Floats:
    r"""Estimate τ and γ of each layer from the mean gradients of K micro-batches.

    With ḡ the mean over all n examples, :math:`\hat γ = |\bar g|^2 - \hat τ/n`, and τ̂ from the
    spread of the means, :math:`\sum n_k|g_k - \bar g|^2/(K-1)`, or, where the mean square Q of
    single gradients is known, :math:`n(Q - |\bar g|^2)/(n-1)`. Both add up over layers. Drawn
    without replacement from N: τ̂·(N−1)/N and γ̂ + τ̂/N.

    Shapes: ``grams`` (layers, K, K); ``sizes`` (K,); ``example_squares`` (layers, K); the result
    (layers, 2).

    Two examples, with gradients 1 and 3, that are all there are: variance 1, squared mean 4.

    >>> gram = [[[1.0, 3.0], [3.0, 9.0]]]
    >>> moments_of_layers(gram, [1, 1], [[1.0, 9.0]], population=2)
    array([[1., 4.]])
    """
    products, counts, squares = _arrays(grams, sizes, example_squares)
    total = counts.sum()
    means = np.einsum("lij,i,j->l", products, counts, counts) / total**2
    tau = _tau(
        means, total, len(counts), _spread(products, counts).sum(axis=1), squares.sum(axis=1)
    )
    gamma = variance_component(total * means, 1, tau, total)
    if population is None:
        return np.stack([tau, gamma], axis=1)
    return np.stack([tau * (population - 1) / population, gamma + tau / population], axis=1)


def pseudo_values(
    grams: npt.ArrayLike, sizes: npt.ArrayLike, example_squares: npt.ArrayLike | None = None
) -> Floats:
    r"""Return K values of (τ̂, γ̂) of each layer whose covariance over K is that of the estimates.

    :math:`K\hat θ - (K-1)\hat θ_{-k}`, with θ̂₋ₖ the estimate without micro-batch k. It errs on the
    safe side where noise dominates.

    Arguments are as for :func:`moments_of_layers`, of at least three micro-batches (else an
    UnresolvedError). The result has shape (K, layers, 2).

    Source: Efron and Stein (1981), "The jackknife estimate of variance", Ann. Stat. 9.

    >>> pseudo_values(np.eye(3)[None], [4, 4, 4]).shape
    (3, 1, 2)
    """
    products, counts, squares = _arrays(grams, sizes, example_squares)
    groups = len(counts)
    if groups < 3:
        raise UnresolvedError("an interval needs three or more micro-batches", "more micro-batches")
    rest = counts.sum() - counts
    whole = moments_of_layers(grams, sizes, example_squares)
    own = np.einsum("lkk->lk", products)
    mean = np.einsum("lij,i,j->l", products, counts, counts)[:, None]
    crossed = np.einsum("lkj,j->lk", products, counts)
    means = (mean - 2 * counts * crossed + counts**2 * own) / rest**2
    spread, singles = _spread(products, counts), squares.sum(axis=1)[:, None] - squares
    left = spread.sum(axis=1)[:, None] - spread
    tau = _tau(means, rest, groups - 1, left, singles)
    without = np.stack([tau, variance_component(rest * means, 1, tau, rest)], axis=2)
    values = groups * whole[:, None, :] - (groups - 1) * without
    return np.asarray(np.swapaxes(values, 0, 1))


def _tau(means: Floats, total: Floats, groups: int, spread: Floats, singles: Floats) -> Floats:
    """τ̂ from single gradients where they are known, else from the spread of the means."""
    if groups < 2 and np.isnan(singles).any():
        raise UnresolvedError(
            "one micro-batch says nothing about differences",
            "two or more micro-batches, or the norms of single examples",
        )
    of_means = (spread - total * means) / max(groups - 1, 1)
    of_singles = (singles - total * means) / (total - 1)
    return np.where(np.isnan(singles), of_means, of_singles)


def _spread(products: Floats, counts: Floats) -> Floats:
    return np.asarray(np.einsum("lkk,k->lk", products, counts))


def _arrays(
    grams: npt.ArrayLike, sizes: npt.ArrayLike, example_squares: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    products = np.asarray(grams, dtype=np.float64)
    counts = np.asarray(sizes, dtype=np.float64)
    if products.ndim != 3 or products.shape[1:] != (len(counts), len(counts)):
        raise ValueError(f"grams have shape {products.shape} for {len(counts)} micro-batches")
    squares = np.full(products.shape[:2], np.nan)
    if example_squares is not None:
        squares = np.asarray(example_squares, dtype=np.float64)
    if squares.shape != products.shape[:2]:
        raise ValueError(f"example_squares have shape {squares.shape}, not {products.shape[:2]}")
    return products, counts, squares
