"""How many observations keep the error of a mean within a tolerance: one formula per promise.

Each gives n₀, the number of independent draws, not rounded;
:func:`batchsense.variation.without_replacement` turns it into draws from a finite population.
τ is the variance of one observation (for vectors the trace of the covariance), ε the tolerance, δ
the allowed chance of a miss.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

_HALVINGS = 60


def mean_square_need(trace: float, epsilon: float) -> float:
    """Give τ/ε²: the error is ε in the root mean square, and often larger.

    Examples
    --------
    >>> mean_square_need(100.0, 0.5)
    400.0
    """
    return trace / epsilon**2


def chebyshev_need(trace: float, epsilon: float, delta: float) -> float:
    """Give τ/(δε²): enough for any distribution whose variance is at most τ.

    Examples
    --------
    >>> round(chebyshev_need(100.0, 0.5, 0.05))
    8000
    """
    return trace / (delta * epsilon**2)


def pinelis_need(trace: float, epsilon: float, delta: float, radius: float) -> float:
    r"""Give :math:`2\ln(2/δ)(τ/ε^2 + R/(3ε))`: enough if no observation is further than R out.

    Holds for every number of draws and, in the Euclidean norm, for vectors of any length.

    Parameters
    ----------
    trace, epsilon, delta : float
        τ, ε and δ.
    radius : float
        R, the largest possible distance of an observation from the mean.

    References
    ----------
    Pinelis (1994), Ann. Probab. 22.

    Examples
    --------
    >>> round(pinelis_need(100.0, 0.5, 0.05, radius=40.0))
    3148
    """
    base = mean_square_need(trace, epsilon)
    return 2 * math.log(2 / delta) * (base + radius / (3 * epsilon))


def calibrated_need(
    trace: float, epsilon: float, delta: float, square_ratio: float, fourth_ratio: float = 0.0
) -> float:
    r"""Give the n that solves :math:`n = \frac{τ}{ε^2}\frac{χ^2_{r(n),1-δ}}{r(n)}`.

    The squared error of a mean of n is taken for a scaled χ² with its true first two moments:

    .. math:: \frac{2}{r(n)} = 2\left(1 - \frac1n\right)\frac{\operatorname{tr}Σ^2}{τ^2}
        + \frac{1}{n}\frac{\operatorname{Var}|e|^2}{τ^2}.

    The first term is Satterthwaite's; the second is what heavy-tailed observations add while n is
    small, and dominates late in training.

    Parameters
    ----------
    trace, epsilon, delta : float
        τ, ε and δ.
    square_ratio : float
        tr Σ²/τ², at most 1.
    fourth_ratio : float
        Var(|e|²)/τ²; 0 leaves Satterthwaite's formula for large n.

    Returns
    -------
    float
        n₀; nearly exact where the error is nearly Gaussian or its fourth moment is known.

    References
    ----------
    Satterthwaite (1946), Biometrics Bulletin 2.

    Examples
    --------
    One normal feature: (1.96·15/3)², the textbook's 96.04.

    >>> round(calibrated_need(15.0**2, 3.0, 0.05, square_ratio=1.0, fourth_ratio=2.0), 2)
    96.04
    """
    base = mean_square_need(trace, epsilon)
    if base == 0:
        return 0.0
    low, high = base, base / delta  # Markov's inequality bounds every χ² ratio by 1/δ
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        at = max(middle, 1.0)
        spread = (1 - 1 / at) * square_ratio + 0.5 * fourth_ratio / at
        if base * _chi_square_ratio(spread, delta) > middle:
            low = middle
        else:
            high = middle
    return high


def _chi_square_ratio(spread: float, delta: float) -> float:
    """Give the 1 − δ quantile of χ²_r / r for r = 1/spread, or of a larger r where that is more.

    For r → 0 the quantile falls again, because most of the variance then sits in events rarer than
    δ; a moment estimate of such a law is not worth a smaller answer.
    """
    r = 1 / max(spread, 1e-12)
    if r > 1e9:
        return 1.0
    candidates = np.append(np.geomspace(r, 1.0, 64), r) if r < 1 else np.array([r])
    return float((special.chdtri(candidates, delta) / candidates).max())
