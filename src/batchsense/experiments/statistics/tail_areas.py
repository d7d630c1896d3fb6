"""Tail areas of t and F where degrees of freedom differ by feature and may be infinite."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats


def t_p_value(t: ArrayLike, df: ArrayLike) -> Floats:
    r"""Two-sided p of Student's t: :math:`P(|T| ≥ |t|)`.

    The regularised incomplete beta function keeps its relative precision far out in the tail.

    Degrees of freedom are above 0 or infinite, and broadcast against t.

    Examples
    --------
    >>> t_p_value([0.0, 1.0, 12.706], [1.0, 1.0, 1.0]).round(4)
    array([1.  , 0.5 , 0.05])
    >>> print(t_p_value(1.959964, np.inf).round(6))
    0.05
    """
    values, freedom = np.broadcast_arrays(
        np.asarray(t, dtype=np.float64), np.asarray(df, dtype=np.float64)
    )
    square = values**2
    with np.errstate(invalid="ignore", over="ignore"):
        share = np.where(np.isinf(square), 0.0, freedom / (freedom + square))
        finite = special.betainc(freedom / 2.0, 0.5, share)
    return np.asarray(np.where(np.isinf(freedom), 2.0 * special.ndtr(-np.abs(values)), finite))


def f_p_value(statistic: ArrayLike, df_between: ArrayLike, df_within: ArrayLike) -> Floats:
    """Upper tail of F: P(F ≥ statistic); χ²/df where ``df_within`` is infinite.

    Examples
    --------
    >>> f_p_value([1.0, 4.0], 1, [1.0, np.inf]).round(4)
    array([0.5   , 0.0455])
    """
    return np.asarray(np.exp(log_f_tail(statistic, df_between, df_within)))


def log_f_tail(statistic: ArrayLike, df_between: ArrayLike, df_within: ArrayLike) -> Floats:
    """Logarithm of the upper tail of F, also where the tail itself is too small for a number.

    Beyond that, with x = d₂/(d₂ + d₁F): log I_x(a, b) = a·log x + b·log(1-x) - log(a·B(a, b))
    + log ₂F₁(a+b, 1; a+1; x), and for infinite d₂ the continued fraction of the incomplete gamma
    function.

    Examples
    --------
    >>> log_f_tail([1.0, 1e250], 2.0, [2.0, 4.0]).round(3).tolist()
    [-0.693, -1149.906]

    References
    ----------
    DLMF, sections 8.9 and 8.17.
    """
    values, first, second = np.broadcast_arrays(
        *(np.asarray(one, dtype=np.float64) for one in (statistic, df_between, df_within))
    )
    a, b = second / 2.0, first / 2.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        share = np.where(np.isinf(second), 0.0, second / (second + first * values))
        area = np.where(
            np.isinf(second), special.gammaincc(b, b * values), special.betainc(a, b, share)
        )
        found = np.log(area)
        small = (area < 1e-290) & np.isfinite(values) & np.isfinite(second)
        smooth = (
            a * np.log(share)
            + b * np.log1p(-share)
            - np.log(a)
            - special.betaln(a, b)
            + np.log(special.hyp2f1(a + b, 1.0, a + 1.0, share))
        )
        found = np.where(small, smooth, found)
        far = (area < 1e-290) & np.isfinite(values) & np.isinf(second)
        found = np.where(far, _log_gamma_tail(b, b * values), found)
    return np.asarray(found)


def t_quantile(level: float, df: ArrayLike) -> Floats:
    """Half width of an interval of this level in standard errors.

    Examples
    --------
    >>> t_quantile(0.95, [1.0, 10.0, np.inf]).round(3)
    array([12.706,  2.228,  1.96 ])
    """
    freedom = np.asarray(df, dtype=np.float64)
    upper = (1.0 + level) / 2.0
    finite = special.stdtrit(np.where(np.isinf(freedom), 1.0, freedom), upper)
    return np.asarray(np.where(np.isinf(freedom), special.ndtri(upper), finite))


def f_quantile(upper: ArrayLike, df_between: ArrayLike, df_within: ArrayLike) -> Floats:
    """Value that F exceeds with probability ``upper``.

    Examples
    --------
    >>> f_quantile(0.05, 1, [10.0, np.inf]).round(3)
    array([4.965, 3.841])
    """
    tail, first, second = np.broadcast_arrays(
        *(np.asarray(one, dtype=np.float64) for one in (upper, df_between, df_within))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        share = special.betaincinv(np.where(np.isinf(second), 1.0, second) / 2.0, first / 2.0, tail)
        finite = second * (1.0 - share) / (share * first)
        limit = 2.0 * special.gammainccinv(first / 2.0, tail) / first
    return np.asarray(np.where(np.isinf(second), limit, finite))


#: scipy's distribution function of the noncentral F is NaN from about here on.
_LARGEST_NONCENTRALITY = 1e9


def noncentral_f(
    statistic: ArrayLike, df_between: float, df_within: float, noncentrality: ArrayLike
) -> Floats:
    r"""Distribution function of the noncentral F, however large the noncentrality λ.

    Far out the numerator is as good as its mean, :math:`d_1 + λ`, and only the denominator varies:
    :math:`P(F ≤ f) = P(χ²_{d_2} ≥ d_2 (d_1 + λ)/(d_1 f))`, right to 1e-4 beyond λ = 10⁹.

    Examples
    --------
    >>> noncentral_f([2e9, 2e12, np.inf], 1.0, 9.0, [1e9, 1e12, 1.0]).round(4)
    array([0.8755, 0.8755, 1.    ])
    """
    values, far = np.broadcast_arrays(
        np.asarray(statistic, dtype=np.float64), np.asarray(noncentrality, dtype=np.float64)
    )
    near = far <= _LARGEST_NONCENTRALITY
    with np.errstate(divide="ignore"):
        limit = special.chdtrc(df_within, df_within * (df_between + far) / (df_between * values))
    usual = special.ncfdtr(df_between, df_within, np.where(near, far, 0.0), values)
    return np.asarray(np.where(near, usual, limit))


def _log_gamma_tail(shape: Floats, values: Floats) -> Floats:
    fraction = np.zeros_like(values)
    for k in range(60, 0, -1):
        fraction = k * (shape - k) / (values + 2.0 * k + 1.0 - shape + fraction)
    scale = values + 1.0 - shape + fraction
    return np.asarray(shape * np.log(values) - values - special.gammaln(shape) - np.log(scale))
