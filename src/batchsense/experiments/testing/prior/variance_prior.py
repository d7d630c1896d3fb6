"""What variances of many features tell about each other: the scaled F distribution behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats
from batchsense.variation.linear import factor

#: A variance below this part of the median counts as this part, for its logarithm would rule
#: the fit; with this value the numbers equal limma's.
FLOOR = 1e-5
#: So many features, at least, for each number of columns that the trend may have; with these the
#: numbers equal limma's.
_TREND_COLUMNS = ((30, 4), (6, 3), (3, 2))


@dataclass(frozen=True, slots=True, eq=False)
class VariancePrior:
    """The distribution that true variances follow: s0²·d0/χ²_{d0}."""

    #: (features,): d0, the degrees of freedom that the other features lend to one; infinite where
    #: all share one variance.
    df: Floats
    #: (features,): s0², in squared units of the observations; varies only along a trend.
    variance: Floats


def trigamma_inverse(x: ArrayLike) -> Floats:
    """Solve trigamma(y) = x for y > 0.

    Newton's method on 1/trigamma, which is convex and nearly linear, from y = 0.5 + 1/x: every
    step falls monotonically to the solution.

    Source: Smyth 2004, appendix.
    """
    target = np.atleast_1d(np.asarray(x, dtype=np.float64))
    found = 0.5 + 1.0 / target
    for _ in range(50):
        value = special.polygamma(1, found)
        step = value * (1.0 - value / target) / special.polygamma(2, found)
        found = found + step
        if np.max(np.abs(step) / found) < 1e-14:
            break
    found = np.where(target > 1e7, 1.0 / np.sqrt(target), found)
    found = np.where(target < 1e-6, 1.0 / target + 0.5, found)
    return np.asarray(found.reshape(np.shape(x)))


def floored(variances: Floats, share: float = FLOOR) -> Floats:
    """Raise variances near zero to a share of the median (of the positive ones if that is 0)."""
    middle = float(np.median(variances))
    if middle == 0.0:
        middle = float(np.median(variances[variances > 0]))
    return np.maximum(variances, share * middle)


def moment_prior(
    variances: Floats, df: Floats, covariate: Floats | None = None, at: Floats | None = None
) -> VariancePrior:
    """Estimate d0 and s0² from the first two moments of the log variances.

    With e = log s² - ψ(d/2) + log(d/2): the variance of e around its mean (or around a natural
    spline in the covariate) exceeds the mean of ψ′(d/2) by ψ′(d0/2), and
    s0² = exp(mean of e + ψ(d0/2) - log(d0/2)). Without an excess d0 is infinite, and s0² the mean
    variance (with a trend: exp of the curve).

    ``variances`` and ``df`` are positive, of shape (features,), as is a covariate; the prior is
    given for the features, or at other values of the covariate.

    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3, article 3, section 6.2; Law et al. 2014,
    Genome Biol. 15, R29 (the trend).
    """
    logs = np.log(variances) - special.digamma(df / 2.0) + np.log(df / 2.0)
    basis, evaluated = _trend_basis(covariate, at, len(logs))
    fitted = factor(basis).fit(logs)
    spread = float(fitted.residual_sum_of_squares[0]) / max(fitted.df, 1)
    curve = evaluated @ fitted.factor.solution @ fitted.effects[:, 0]
    count = len(curve)
    excess = spread - float(special.polygamma(1, df / 2.0).mean())
    if excess <= 0:
        level = np.exp(curve) if basis.shape[1] > 1 else np.full(count, variances.mean())
        return VariancePrior(np.full(count, np.inf), level)
    lent = 2.0 * float(trigamma_inverse(excess))
    scale = np.exp(curve + special.digamma(lent / 2.0) - np.log(lent / 2.0))
    return VariancePrior(np.full(count, lent), scale)


def _trend_basis(covariate: Floats | None, at: Floats | None, count: int) -> tuple[Floats, Floats]:
    if covariate is not None:
        columns = next((c for least, c in _TREND_COLUMNS if count >= least), 1)
        columns = min(columns, len(np.unique(covariate)))
        if columns >= 2:
            basis = natural_spline_basis(covariate, columns)
            return basis, basis if at is None else natural_spline_basis(covariate, columns, at)
    constant = np.ones((count, 1))
    return constant, constant if at is None else np.ones((len(at), 1))


def natural_spline_basis(x: ArrayLike, columns: int, at: ArrayLike | None = None) -> Floats:
    """Columns that span the natural cubic splines with knots at quantiles of x: a flexible curve.

    Cubic between the knots, straight outside; ``columns`` - 2 inner knots at equally spaced
    quantiles and the two ends of the range. With the scaled x in 0 to 1, knots κ_1 to κ_K and
    d_k(x) = ((x - κ_k)₊³ - (x - κ_K)₊³)/(κ_K - κ_k) the columns are 1, x and
    d_k - d_{K-1} for k = 1 to K - 2.

    x holds at least two distinct finite numbers; ``columns`` is at least 2 (a straight line).
    Evaluated at x or elsewhere: the knots stay those of x. The result has shape (observations,
    columns), with fewer columns where quantiles coincide.

    Source: Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, section
    5.2.1.

    Examples
    --------
    >>> natural_spline_basis([0.0, 1.0, 2.0, 4.0], 2)
    array([[1.  , 0.  ],
           [1.  , 0.25],
           [1.  , 0.5 ],
           [1.  , 1.  ]])
    """
    values = np.asarray(x, dtype=np.float64)
    low, high = values.min(), values.max()
    knots = np.unique(np.quantile((values - low) / (high - low), np.linspace(0.0, 1.0, columns)))
    places = values if at is None else np.asarray(at, dtype=np.float64)
    scaled = (places - low) / (high - low)
    tail = np.clip(scaled[:, None] - knots, 0.0, None) ** 3
    slopes = (tail[:, :-1] - tail[:, -1:]) / (knots[-1] - knots[:-1])
    return np.column_stack([np.ones(len(scaled)), scaled, slopes[:, :-1] - slopes[:, -1:]])
