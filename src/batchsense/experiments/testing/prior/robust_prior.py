"""The same prior where a few features vary wildly: they must not set the prior for the others.

The log variances are winsorised, the prior is fitted to the winsorised moments, and a feature
whose variance is too large for the prior is lent less, down to an amount at which the most extreme
one would be ordinary.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from batchsense.arrays import Floats
from batchsense.experiments.statistics.tail_areas import f_p_value, f_quantile, log_f_tail
from batchsense.experiments.testing.prior.lowess import lowess
from batchsense.experiments.testing.prior.variance_prior import (
    FLOOR,
    VariancePrior,
    floored,
    moment_prior,
)

#: Parts of the log variances that are winsorised below and above: those of Phipson et al. (2016),
#: for which our numbers equal limma's; wild variances are mostly too large, hence more above.
TAILS = (0.05, 0.1)
#: Window of the trend; with it the numbers equal limma's.
_SPAN = 0.4
#: The floor of a variance, as part of the median: only keeps logarithms finite, for winsorising
#: deals with small variances.
_ROBUST_FLOOR = 1e-12
# Of the variance of log F, from 1 to 1,000 and 1 to infinitely many degrees of freedom, 128 nodes
# err by 2e-14; 64 by 3e-9, 32 by 5e-5.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


def robust_prior(
    variances: Floats,
    df: Floats,
    covariate: Floats | None = None,
    tails: tuple[float, float] = TAILS,
) -> VariancePrior:
    """Estimate d0 and s0² from winsorised log variances, with d0 lowered for outliers.

    d0 solves: variance of the winsorised log s² (around a trimmed mean, or a lowess curve in the
    covariate) = variance of the equally winsorised log F_{d,d0}. A feature whose tail area p(F) is
    below its rank would have it, (n - rank + ½)/n, is an outlier with probability 1 - their ratio
    and gets d0 accordingly, never more than features that are less extreme.

    ``variances`` and ``df`` are positive, of shape (features,), as is the covariate; ``tails`` are
    the parts that are winsorised below and above, each above 0 and together below 1.

    Source: Phipson, Lee, Majewski, Alexander and Smyth 2016, Ann. Appl. Statist. 10, 946, section
    3.
    """
    ordinary = moment_prior(floored(variances, FLOOR), df, covariate)
    if len(variances) < 3:
        return ordinary
    values, freedom = _with_equal_df(floored(variances, _ROBUST_FLOOR), df, ordinary)
    logs = np.log(values)
    if covariate is None:
        curve = np.full(len(logs), _trimmed_mean(logs, tails[1]))
    else:
        curve = lowess(covariate, logs, span=_SPAN)
    residuals = logs - curve
    low, high = np.quantile(residuals, [tails[0], 1.0 - tails[1]])
    winsorised = np.clip(residuals, low, high)
    lent = _solve(float(winsorised.var(ddof=1)), freedom, float(ordinary.df[0]), tails)
    expected, _ = winsorised_log_f(freedom, lent, tails)
    centre = curve + winsorised.mean() - expected
    ratios = np.exp(logs - centre)
    return VariancePrior(_lowered(ratios, freedom, lent), np.exp(centre))


def winsorised_log_f(
    df_between: float, df_within: float, tails: tuple[float, float] = TAILS
) -> tuple[float, float]:
    """Mean and variance of log F after winsorising at its own quantiles.

    Examples
    --------
    Hardly winsorised, the variance is ψ′(d₁/2) + ψ′(d₂/2):

    >>> mean, variance = winsorised_log_f(10, 10, (1e-9, 1e-9))
    >>> abs(mean) < 1e-6, round(variance, 4), round(float(2 * special.polygamma(1, 5)), 4)
    (True, 0.4426, 0.4426)
    """
    ends = f_quantile(np.array([1.0 - tails[0], tails[1]]), df_between, df_within)
    # F/(1 + F) maps the half line to a bounded one, so that a fixed quadrature serves.
    low, high = ends / (1.0 + ends)
    places = low + (high - low) * (_NODES + 1.0) / 2.0
    values = places / (1.0 - places)
    weights = (high - low) / 2.0 * _WEIGHTS * np.exp(_log_f_density(values, df_between, df_within))
    weights /= (1.0 - places) ** 2
    logs, end_logs = np.log(values), np.log(ends)
    mean = float(weights @ logs + end_logs @ np.array(tails))
    spread = float(weights @ (logs - mean) ** 2 + (end_logs - mean) ** 2 @ np.array(tails))
    return mean, spread


def _log_f_density(values: Floats, df_between: float, df_within: float) -> Floats:
    """Log density of F; of χ²/d₁ for infinite d₂."""
    a = df_between / 2.0
    if np.isinf(df_within):
        return np.asarray(
            a * np.log(a) + (a - 1.0) * np.log(values) - a * values - special.gammaln(a)
        )
    ratio = df_between / df_within
    return np.asarray(
        a * np.log(ratio)
        + (a - 1.0) * np.log(values)
        - (a + df_within / 2.0) * np.log1p(ratio * values)
        - special.betaln(a, df_within / 2.0)
    )


def _solve(observed: float, df: float, least: float, tails: tuple[float, float]) -> float:
    """Find d0 at which winsorised log F varies as observed; at least that of the moments."""
    from scipy.optimize import brentq

    def excess(share: float) -> float:
        lent = share / (1.0 - share) if share < 1.0 else np.inf
        return float(np.log(observed / winsorised_log_f(df, lent, tails)[1]))

    if observed <= 0 or np.isinf(least) or excess(1.0) <= 0:
        return np.inf
    start = least / (1.0 + least)
    if excess(start) >= 0:
        return least
    # As exactly as double precision allows.
    root = float(brentq(excess, start, 1.0, xtol=1e-15, rtol=8.9e-16, maxiter=200))
    return root / (1.0 - root)


def _lowered(ratios: Floats, df: float, lent: float) -> Floats:
    count = len(ratios)
    tail = f_p_value(ratios, df, lent)
    _, which, alike = np.unique(ratios, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(alike) - (alike - 1) / 2)[which]  # equal ratios share their mean rank
    ordinary = np.minimum(tail / ((count - ranks + 0.5) / count), 1.0)
    found = np.full(count, lent)
    if (ordinary == 1.0).all():
        return found
    order = np.argsort(tail, kind="stable")
    if np.isinf(lent):
        pooled = count * df
        found = np.where(ordinary < 1.0, ordinary * pooled, np.inf)
        found[order] = np.maximum.accumulate(found[order])
        return found
    found = ordinary * lent + (1.0 - ordinary) * _of_the_most_extreme(float(ratios.max()), df, lent)
    ordered = found[order]
    # The smallest running mean pools the most extreme features, so that d0 starts level.
    means = np.cumsum(ordered) / np.arange(1, count + 1)
    pool = int(np.argmin(means))
    ordered[: pool + 1] = means[pool]
    found[order] = np.maximum.accumulate(ordered)
    return found


def _of_the_most_extreme(ratio: float, df: float, lent: float) -> float:
    """The d0 at which the largest ratio is about the median; two steps of the log tail."""
    half = np.log(0.5)
    found = lent
    for _ in range(2):
        tail = float(log_f_tail(ratio, df, found))
        if not np.isfinite(tail):
            return 0.0
        found *= half / tail
    return found


def _with_equal_df(variances: Floats, df: Floats, prior: VariancePrior) -> tuple[Floats, float]:
    """Move variances with fewer degrees of freedom to the same quantile of F with the most."""
    most = float(df.max())
    fewer = df < most - 1e-14
    if not fewer.any():
        return variances, most
    moved = variances.copy()
    scale, lent = prior.variance[fewer], float(prior.df[0])
    ratios = variances[fewer] / scale
    upper, halves = f_p_value(ratios, df[fewer], lent), df[fewer] / 2.0
    if np.isinf(lent):
        lower = special.gammainc(halves, halves * ratios)
        from_above = upper < lower
        from_below = special.gammaincinv(most / 2.0, lower) / (most / 2.0)
    else:
        lower = special.betainc(halves, lent / 2.0, halves * ratios / (halves * ratios + lent / 2))
        below = special.betaincinv(most / 2.0, lent / 2.0, lower)
        from_above = upper < lower  # there the other end may be 1, and its odds infinite
        below = np.where(from_above, 0.0, below)
        from_below = lent * below / (most * (1.0 - below))
    moved[fewer] = scale * np.where(from_above, f_quantile(upper, most, lent), from_below)
    return moved, most


def _trimmed_mean(values: Floats, part: float) -> float:
    cut = int(len(values) * part)
    return float(np.sort(values)[cut : len(values) - cut].mean())
