"""How often a plain test calls noise on corrected data: exactly, from the design alone.

Removing batch effects uses up degrees of freedom and ties specimens together. A test that treats
the corrected values as if they were raw knows of neither.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from batchsense.experiments.statistics.tail_areas import f_quantile, t_p_value, t_quantile


def plain_inflation(vif: float, df_plain: int, df_full: int) -> float:
    """Factor by which t of a plain test on corrected values exceeds the honest one.

    Batches removed with the wanted terms in the model, then tested without them: the estimate is
    the same, the plain standard error √(VIF·df_plain/df_full) times too small.

    Examples
    --------
    >>> round(plain_inflation(vif=4.0, df_plain=38, df_full=37), 3)
    2.027
    """
    return math.sqrt(vif * df_plain / df_full)


def plain_rate(inflation: float, df_plain: int, df_full: int, alpha: float = 0.05) -> float:
    """Share of pure noise that a plain t test calls at ``alpha`` on corrected values.

    2·P(T_{df_full} > t_{α/2, df_plain}/inflation).

    Examples
    --------
    40 specimens, two batches, R² = .64:

    >>> round(plain_rate(plain_inflation(1 / 0.36, 38, 37), 38, 37), 3)
    0.238
    """
    limit = float(t_quantile(1.0 - alpha, df_plain))
    return float(t_p_value(limit / inflation, df_full))


def plain_rate_f(inflations: ArrayLike, df_plain: int, df_full: int, alpha: float = 0.05) -> float:
    r"""Share of pure noise that a plain F test calls at ``alpha`` on corrected values.

    With λ the eigenvalues of (plain covariance)⁻¹(honest covariance) of the q contrasts, F exceeds
    its limit f iff Σλ_i z_i² - (q·f/df_plain)·χ²_{df_full} > 0; the probability is Imhof's

    .. math:: \tfrac12 + \tfrac1\pi \int_0^\infty \frac{\sin\theta(u)}{u\,\rho(u)}\,du .

    Shapes: ``inflations`` (contrasts,).

    Source: Imhof 1961, Biometrika 48, 419.

    Examples
    --------
    For one contrast it is the rate of t:

    >>> round(plain_rate_f([1 / 0.36], 38, 37), 3)
    0.238
    """
    from scipy.integrate import quad

    weights = np.atleast_1d(np.asarray(inflations, dtype=np.float64))
    count = len(weights)
    limit = count * float(f_quantile(alpha, count, df_plain)) / df_plain
    scale = max(float(weights.max()), limit)
    parts = np.append(weights, -limit) / scale
    freedom = np.append(np.ones(count), df_full)

    def integrand(angle: float) -> float:
        # u = tan(angle) maps the half line to a bounded one.
        u = math.tan(angle)
        theta = 0.5 * float(freedom @ np.arctan(parts * u))
        log_rho = 0.25 * float(freedom @ np.log1p((parts * u) ** 2))
        return math.sin(theta) * math.exp(-log_rho) * (1.0 + u * u) / u

    found, _ = quad(integrand, 0.0, math.pi / 2.0, limit=400, epsabs=1e-9)
    return float(min(max(0.5 + found / math.pi, 0.0), 1.0))
