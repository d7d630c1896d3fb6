"""How sure each layer's noise is: leave one micro-batch out at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError


def moments_of_layers(
    grams: npt.ArrayLike,
    sizes: npt.ArrayLike,
    example_squares: npt.ArrayLike | None = None,
    population: int | None = None,
) -> Floats:
    r"""Estimate τ and γ of each layer from the mean gradients of K micro-batches.

    With ḡ the mean over all n examples, :math:`\hat γ = |\bar g|^2 - \hat τ/n`, and τ̂ from the
    spread of the means, :math:`\sum n_k|g_k - \bar g|^2/(K-1)`, or, where the mean square Q of
    single gradients is known, :math:`n(Q - |\bar g|^2)/(n-1)`. Both add up over layers.

    Parameters
    ----------
    grams : array of shape (layers, K, K)
        Inner products of the means, for each layer.
    sizes : array of shape (K,)
        Examples in each micro-batch.
    example_squares : array of shape (layers, K), optional
        Σ |gᵢ|² over the examples of each micro-batch; NaN for a layer where it is unknown.
    population : int, optional
        N, if no example was drawn twice.

    Returns
    -------
    array of shape (layers, 2)
        τ̂ and γ̂.

    Raises
    ------
    UnresolvedError
        One micro-batch, and a layer without squares of single gradients.

    Examples
    --------
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
    gamma = means - tau / total
    if population is None:
        return np.stack([tau, gamma], axis=1)
    return np.stack([tau * (population - 1) / population, gamma + tau / population], axis=1)


def pseudo_values(
    grams: npt.ArrayLike, sizes: npt.ArrayLike, example_squares: npt.ArrayLike | None = None
) -> Floats:
    r"""Give K values of (τ̂, γ̂) for each layer whose covariance over K is that of the estimates.

    :math:`K\hat θ - (K-1)\hat θ_{-k}`, with θ̂₋ₖ the estimate without micro-batch k. It errs on the
    safe side where noise dominates.

    Parameters
    ----------
    grams, sizes, example_squares
        As for :func:`moments_of_layers`; at least three micro-batches.

    Returns
    -------
    array of shape (K, layers, 2)
        Pseudo-values of τ̂ and γ̂.

    Raises
    ------
    UnresolvedError
        Fewer than three micro-batches.

    References
    ----------
    Efron and Stein (1981), "The jackknife estimate of variance", Ann. Stat. 9.

    Examples
    --------
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
    without = np.stack([tau, means - tau / rest], axis=2)
    values = groups * whole[:, None, :] - (groups - 1) * without
    return np.asarray(np.swapaxes(values, 0, 1))


def _tau(means: Floats, total: Floats, groups: int, spread: Floats, singles: Floats) -> Floats:
    """Give τ̂ from single gradients where they are known, else from the spread of the means."""
    if groups < 2 and np.isnan(singles).any():
        raise UnresolvedError(
            "one micro-batch says nothing about differences",
            "two or more micro-batches, or the norms of single examples",
        )
    of_means = (spread - total * means) / max(groups - 1, 1)
    of_singles = (singles - total * means) / (total - 1)
    return np.where(np.isnan(singles), of_means, of_singles)


def _spread(products: Floats, counts: Floats) -> Floats:
    """Give n_k |g_k|² for each layer and micro-batch."""
    return np.asarray(np.einsum("lkk,k->lk", products, counts))


def _arrays(
    grams: npt.ArrayLike, sizes: npt.ArrayLike, example_squares: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """Give all three as float64 arrays of matching shapes."""
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
