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
from batchsense.variation.directions import satterthwaite_directions, square_trace_of_rows


@dataclass(frozen=True, slots=True)
class NoiseMoments:
    """The two numbers from which every statement about gradient noise is made.

    Attributes
    ----------
    trace_covariance : float
        τ̂: total variance of one example's gradient, in units of gradient squared.
    squared_gradient_norm : float
        γ̂: squared length of the mean gradient; may be negative.
    """

    trace_covariance: float
    squared_gradient_norm: float


def moments_of_examples(
    mean_squared_norm: float, squared_mean_norm: float, count: int, population: int | None = None
) -> NoiseMoments:
    r"""Estimate τ and γ from the gradients of single examples.

    With Q = mean |gᵢ|² and A = |ḡ|² over n examples drawn with replacement

    .. math:: \hat γ = (nA - Q)/(n-1), \qquad \hat τ = n(Q - A)/(n-1);

    drawn without replacement from N, with U that γ̂: τ̂ = (N−1)/N·(Q−U), γ̂ = ((N−1)U + Q)/N.

    Parameters
    ----------
    mean_squared_norm, squared_mean_norm : float
        Q and A.
    count, population : int
        n, at least 2; and N, if the examples were drawn without replacement (n = N is exact).

    Raises
    ------
    UnresolvedError
        One example only.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", appendix A.

    Examples
    --------
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


def moments_of_micro_batches(
    gram: npt.ArrayLike, sizes: npt.ArrayLike, population: int | None = None
) -> NoiseMoments:
    r"""Estimate τ and γ from the mean gradients of K micro-batches.

    With ḡ the mean over all n examples,

    .. math:: \hat τ = \sum_k n_k |g_k - \bar g|^2 / (K-1), \qquad \hat γ = |\bar g|^2 - \hat τ/n;

    without replacement from N: τ̂·(N−1)/N and γ̂ = |ḡ|² − τ̂(N−n)/(n(N−1)).

    Parameters
    ----------
    gram : array of shape (K, K)
        Inner products of the mean gradients.
    sizes : array of shape (K,)
        Examples in each micro-batch.
    population : int, optional
        N, if no example was drawn twice.

    Raises
    ------
    UnresolvedError
        One micro-batch only.

    Examples
    --------
    >>> moments_of_micro_batches([[1.0, 3.0], [3.0, 9.0]], [1, 1])
    NoiseMoments(trace_covariance=2.0, squared_gradient_norm=3.0)
    """
    products, counts = _checked(gram, sizes)
    n = float(counts.sum())
    mean = _squared_mean(products, counts)
    tau = float(counts @ np.diag(products) - n * mean) / (len(counts) - 1)
    if population is None:
        return NoiseMoments(tau, variance_component(n * mean, 1, tau, n))
    tau *= (population - 1) / population
    return NoiseMoments(tau, mean - tau * (population - n) / (n * (population - 1)))


def noise_of_two_sizes(
    small_square: npt.ArrayLike,
    small_size: float,
    large_square: npt.ArrayLike,
    large_size: float,
    population: int | None = None,
) -> tuple[Floats, Floats]:
    r"""Estimate τ and γ from mean gradients over few and over many examples.

    A mean gradient over b examples has :math:`E|g_b|^2 = γ + τ/b`. With S the square at size b,
    averaged, and L that at size B,

    .. math:: \hat τ = \frac{S - L}{1/b - 1/B}, \qquad \hat γ = L - \hat τ/B.

    Sizes need not be whole: a weighted mean :math:`\sum w_k g_k / \sum w_k` of parts of
    :math:`n_k` examples has :math:`1/B = \sum w_k^2/n_k / (\sum w_k)^2`. Nothing is clamped.

    Parameters
    ----------
    small_square, large_square : float or array of one shape
        S and L, for the whole gradient or for each parameter.
    small_size, large_size : float
        b and B, in examples.
    population : int, optional
        N, if the examples behind one whole were drawn without replacement from as many: then
        τ̂ is multiplied by (N−1)/N, and the unreduced τ̂ over N is added to γ̂.

    Returns
    -------
    array
        τ̂, of the shape of the squares.
    array
        γ̂, likewise.

    Raises
    ------
    UnresolvedError
        Both sizes are the same: there is one part only.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", appendix A.1.

    Examples
    --------
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


def covariance_of_moments(
    gram: npt.ArrayLike, sizes: npt.ArrayLike, population: int | None = None
) -> Floats:
    """Estimate the covariance of :func:`moments_of_micro_batches` by leaving one out at a time.

    The jackknife over micro-batches. It errs on the safe side where noise dominates. Without
    replacement, the part that the mean gradient contributes shrinks by 1 − n/N; what the random
    split into micro-batches adds to τ̂ does not.

    Arguments are as there, of at least three micro-batches (else an UnresolvedError). The result
    has shape (2, 2), for (τ̂, γ̂), and K − 1 degrees of freedom.

    References
    ----------
    Efron and Stein (1981), "The jackknife estimate of variance", Ann. Stat. 9.

    Examples
    --------
    >>> covariance_of_moments(np.diag([1.0, 2.0, 3.0]), [4, 4, 4]).shape
    (2, 2)
    """
    products, counts = _checked(gram, sizes)
    groups = len(counts)
    if groups < 3:
        raise UnresolvedError("an interval needs three or more micro-batches", "more micro-batches")
    n, own = counts.sum(), np.diag(products)
    mean = _squared_mean(products, counts)
    rest = n - counts
    without = (n**2 * mean - 2 * counts * (products @ counts) + counts**2 * own) / rest**2
    tau = (counts @ own - counts * own - rest * without) / (groups - 2)
    gamma = variance_component(rest * without, 1, tau, rest)
    covariance = (groups - 1) ** 2 / groups * np.cov(np.stack([tau, gamma]))
    if population is not None:
        left = max(0.0, 1 - n / population)
        covariance = covariance * np.array([[1.0, left], [left, left]])
    return np.asarray(covariance, dtype=np.float64)


def effective_directions(gram: npt.ArrayLike, sizes: npt.ArrayLike) -> float:
    r"""Estimate r = (tr Σ)² / tr Σ²: in how many directions the noise really points.

    tr Σ² is estimated without bias from the products of different micro-batches, and held above
    τ̂²/n, below which no sample of n can put it.

    Arguments are as for :func:`moments_of_micro_batches`, of equal sizes and at least four
    micro-batches (else an UnresolvedError). The result is at least 1.

    References
    ----------
    Chen, Zhang and Zhong (2010), "Tests for high-dimensional covariance matrices", JASA 105.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.standard_normal((64, 20))
    >>> 15 < effective_directions(noise @ noise.T, np.ones(64)) < 25
    True
    """
    products, counts = _checked(gram, sizes)
    k = len(counts)
    if k < 4:
        raise UnresolvedError("the shape of the noise needs four or more micro-batches", "more")
    tau = moments_of_micro_batches(products, counts).trace_covariance
    if tau <= 0:
        return 1.0
    in_one = tau / counts.mean()  # trace of the covariance of a micro-batch mean
    square = square_trace_of_rows(products)
    return float(satterthwaite_directions(in_one, square, in_one**2 / counts.sum()))


def _checked(gram: npt.ArrayLike, sizes: npt.ArrayLike) -> tuple[Floats, Floats]:
    products = np.asarray(gram, dtype=np.float64)
    counts = np.asarray(sizes, dtype=np.float64)
    if products.shape != (len(counts), len(counts)):
        raise ValueError(f"gram has shape {products.shape} for {len(counts)} micro-batches")
    if len(counts) < 2:
        raise UnresolvedError(
            "one micro-batch says nothing about differences",
            "two or more micro-batches, or the norms of single examples",
        )
    return products, counts


def _squared_mean(products: Floats, counts: Floats) -> float:
    weights = counts / counts.sum()
    return float(weights @ products @ weights)
