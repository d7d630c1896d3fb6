"""In how many directions a vector varies: tr Σ² without bias, and (tr Σ)² / tr Σ².

Gradients and measured features alike vary together. What is averaged or added up over them then
behaves as if there were (tr Σ)² / tr Σ² independent ones (Satterthwaite 1946), and the plain
estimate of tr Σ² is too large because noise is squared with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def square_trace_of_rows(gram: ArrayLike) -> float:
    """Estimate tr Σ² of one row without bias, for any law, from products of different rows.

    May be negative where the variance is spread over very many directions.

    Parameters
    ----------
    gram : array of shape (rows, rows)
        Inner products of independent rows, at least four; their mean need not be zero.

    Returns
    -------
    float
        In the fourth power of the unit of a row.

    References
    ----------
    Chen, Zhang and Zhong (2010), "Tests for high-dimensional covariance matrices", JASA 105.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(500, 8))
    >>> round(square_trace_of_rows(rows @ rows.T))  # eight unit variances
    8
    """
    products = np.asarray(gram, dtype=np.float64)
    k = len(products)
    off = products - np.diag(np.diag(products))
    total, squares = float(off.sum()), float((off**2).sum())
    chains = float((off.sum(axis=1) ** 2).sum()) - squares
    disjoint = total**2 - 2 * squares - 4 * chains
    pairs = k * (k - 1)
    return squares / pairs - 2 * chains / (pairs * (k - 2)) + disjoint / (pairs * (k - 2) * (k - 3))


def square_trace_of_residuals(square: float, trace: float, degrees: int) -> float:
    r"""Estimate tr Σ² without bias under normality, from the residuals of a linear model.

    .. math:: \frac{d^2}{(d + 2)(d - 1)} \Big(\operatorname{tr} S^2
        - \frac{(\operatorname{tr} S)^2}{d}\Big)

    with S the covariance of the residuals, which are divided by their d degrees of freedom.

    Parameters
    ----------
    square, trace : float
        tr S² and tr S.
    degrees : int
        d, at least 1; with one degree of freedom tr S² is given as it is.

    Returns
    -------
    float
        In the unit of ``square``; may be negative.

    References
    ----------
    Bai and Saranadasa (1996), "Effect of high dimension", Statistica Sinica 6.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(500, 8))
    >>> covariance = np.cov(rows.T)
    >>> found = square_trace_of_residuals((covariance**2).sum(), np.trace(covariance), 499)
    >>> round(found)
    8
    """
    if degrees == 1:
        return square
    d = degrees
    return d**2 / ((d + 2) * (d - 1)) * (square - trace**2 / d)


def satterthwaite_directions(trace: float, square_trace: float, least: float) -> float:
    """(tr Σ)² / tr Σ², from estimates of both.

    Parameters
    ----------
    trace, square_trace : float
        Estimates of tr Σ, positive, and of tr Σ².
    least : float
        What tr Σ² cannot lie below: the square of ``trace`` over the most directions there can be.

    Returns
    -------
    float
        At least 1.

    Examples
    --------
    >>> satterthwaite_directions(8.0, 16.0, 1.0), satterthwaite_directions(8.0, -1.0, 8.0)
    (4.0, 8.0)
    """
    return trace**2 / min(max(square_trace, least), trace**2)
