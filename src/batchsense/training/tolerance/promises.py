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

from batchsense.variation.sample_size import mean_square_need

_HALVINGS = 60


def calibrated_need(
    trace: float,
    epsilon: float,
    delta: float,
    square_ratio: float,
    fourth_ratio: float = 0.0,
    cube_ratio: float = 0.0,
    mixed_ratio: float = 0.0,
    sixth_ratio: float = 0.0,
) -> float:
    r"""Give the n that solves :math:`n = τ/ε^2\; q_{1-δ}(n)`.

    q is a quantile of the squared error of a mean of n over its expectation, taken for a shifted
    and scaled χ² (Pearson's type III) with its true first three moments: 1,

    .. math:: v(n) = 2\left(1 - \frac1n\right)\frac{\operatorname{tr}Σ^2}{τ^2}
        + \frac{1}{n}\frac{\operatorname{Var}|e|^2}{τ^2}

    and κ₃(n) of :func:`~batchsense.training.tolerance.pilot_noise.third_moments`. With two moments
    only (Satterthwaite's χ²) a chance of 1 % was one of 1.2 to 1.6 % for the gradients of a small
    net, whose noise has a few strong directions. The second term of v dominates late in training.

    Parameters
    ----------
    trace, epsilon, delta : float
        τ, ε and δ.
    square_ratio : float
        tr Σ²/τ², at most 1.
    fourth_ratio : float
        Var(|e|²)/τ²; 0 leaves Satterthwaite's formula for large n.
    cube_ratio, mixed_ratio, sixth_ratio : float
        The parts of κ₃; where they give less than the χ² of the first two moments has, that is
        used.

    Returns
    -------
    float
        n₀; nearly exact where the error is nearly Gaussian or its moments are known.

    References
    ----------
    Satterthwaite (1946), Biometrics Bulletin 2; Pearson (1959), Biometrika 46, for three moments.

    Examples
    --------
    One normal feature: (1.96·15/3)², the textbook's 96.04.

    >>> round(calibrated_need(15.0**2, 3.0, 0.05, square_ratio=1.0, fourth_ratio=2.0), 2)
    96.04
    """
    base = mean_square_need(trace, epsilon)
    if base == 0:
        return 0.0
    low, high = base, base / delta  # Markov's inequality bounds every quantile by 1/δ
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        at = max(middle, 1.0)
        variance = 2 * (1 - 1 / at) * square_ratio + fourth_ratio / at
        third = (
            8 * (1 - 1 / at) * (1 - 2 / at) * cube_ratio
            + (1 - 1 / at) * mixed_ratio / at
            + sixth_ratio / at**2
        )
        if base * _quantile(variance, third, delta) > middle:
            low = middle
        else:
            high = middle
    return high


def _quantile(variance: float, third: float, delta: float) -> float:
    """Give the 1 − δ quantile of a shifted χ² of mean 1, or of a less extreme one if that is more.

    With ever more variance or skewness the quantile falls again, because most of the variance then
    sits in events rarer than δ; a moment estimate of such a law is not worth a smaller answer.
    """
    r = 2 / max(variance, 1e-12)  # degrees of freedom of the χ² that needs no shift
    if r > 1e9:
        return 1.0
    candidates = np.append(np.geomspace(r, 1.0, 64), r) if r < 1 else np.array([r])
    plain = float((special.chdtri(candidates, delta) / candidates).max())
    if third <= 2 * variance**2:
        return plain
    shifted = np.geomspace(max(8 * variance**3 / third**2, 1e-3), r, 64)
    return max(
        plain,
        1
        + float(
            ((special.chdtri(shifted, delta) - shifted) * np.sqrt(variance / (2 * shifted))).max()
        ),
    )
