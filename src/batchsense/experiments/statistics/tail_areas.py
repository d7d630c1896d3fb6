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
    + log of the continued fraction of the incomplete beta function, and for infinite d₂ that of the
    incomplete gamma function.

    Source: DLMF, sections 8.9 and 8.17.
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
        found = np.asarray(np.log(area))
        small = (area < 1e-290) & np.isfinite(values) & np.isfinite(second)
        if small.any():
            found[small] = _log_beta_tail(a[small], b[small], share[small])
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


#: Beyond this noncentrality scipy's distribution function of the noncentral F is slow, then NaN.
_LARGEST_NONCENTRALITY = 1e9


def noncentral_f(
    statistic: ArrayLike, df_between: float, df_within: float, noncentrality: ArrayLike
) -> Floats:
    r"""Distribution function of the noncentral F, for any degrees of freedom and noncentrality λ.

    scipy's is NaN where the area is below about 1e-160, which thousands of degrees of freedom
    reach close to the centre, and where λ is far. There the numerator is taken for a multiple of χ²
    with its mean and variance (Patnaik), :math:`P(F ≤ f) ≈ P(F_{h,d_2} ≤ f d_1/(d_1 + λ))` with
    :math:`h = (d_1 + λ)^2/(d_1 + 2λ)`: right to 1e-5 beyond λ = 10⁹, and next to zero in that tail.

    Source: Patnaik 1949, Biometrika 36, 202.
    """
    values, far = np.broadcast_arrays(
        np.asarray(statistic, dtype=np.float64), np.asarray(noncentrality, dtype=np.float64)
    )
    near = far <= _LARGEST_NONCENTRALITY
    usual = special.ncfdtr(df_between, df_within, np.where(near, far, 0.0), values)
    of_numerator = (df_between + far) ** 2 / (df_between + 2.0 * far)
    like = special.fdtr(of_numerator, df_within, values * (df_between / (df_between + far)))
    return np.asarray(np.where(near & ~np.isnan(usual), usual, like))


#: Halvings that narrow a noncentrality to rounding: double precision has 53 binary digits.
_HALVINGS = 60


def noncentrality(
    probability: ArrayLike, statistic: ArrayLike, df_between: float, df_within: float
) -> Floats:
    """The noncentrality at which F has this distribution function there; 0 if nowhere.

    Examples
    --------
    >>> found = noncentrality([0.025, 0.9], [4.0, 1.0], 2.0, 30.0)
    >>> found.round(3), noncentral_f([4.0], 2.0, 30.0, found[:1]).round(6)
    (array([22.667,  0.   ]), array([0.025]))
    """
    wanted, values = np.broadcast_arrays(
        np.asarray(probability, dtype=np.float64), np.asarray(statistic, dtype=np.float64)
    )
    low = np.zeros(values.shape)
    high = np.maximum(10.0, values * df_between)
    while (short := noncentral_f(values, df_between, df_within, high) > wanted).any():
        high[short] *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = noncentral_f(values, df_between, df_within, middle) > wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    central = special.fdtr(df_between, df_within, values) <= wanted
    return np.asarray(np.where(central, 0.0, (low + high) / 2))


#: Steps of the continued fraction, of which the far tail takes 10 to 200.
_MOST_STEPS = 2000


def _log_beta_tail(a: Floats, b: Floats, share: Floats) -> Floats:
    """Logarithm of I_x(a, b) for x far below its mean, by the method of Lentz (DLMF 8.17.22)."""
    front = a * np.log(share) + b * np.log1p(-share) - np.log(a) - special.betaln(a, b)
    product = denominator = 1.0 / (1.0 - (a + b) * share / (a + 1.0))
    numerator = np.ones_like(share)
    for m in range(1, _MOST_STEPS + 1):
        even = m * (b - m) * share / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * share / ((a + 2 * m) * (a + 2 * m + 1.0))
        before = product
        for term in (even, odd):
            denominator = 1.0 / (1.0 + term * denominator)
            numerator = 1.0 + term / numerator
            product = product * denominator * numerator
        if (np.abs(product - before) <= 1e-15 * np.abs(product)).all():
            break
    return np.asarray(front + np.log(product))


def _log_gamma_tail(shape: Floats, values: Floats) -> Floats:
    fraction = np.zeros_like(values)
    for k in range(60, 0, -1):
        fraction = k * (shape - k) / (values + 2.0 * k + 1.0 - shape + fraction)
    scale = values + 1.0 - shape + fraction
    return np.asarray(shape * np.log(values) - values - special.gammaln(shape) - np.log(scale))
