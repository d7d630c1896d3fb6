"""The batch size at which a squared error of known first three moments keeps a promise."""

from __future__ import annotations

import math

import numpy as np
from scipy import special
from scipy.optimize import brentq

from batchsense.variation.sample_size import mean_square_need

#: Where the moments are those of no law there may be several answers: eight halvings choose the one
#: that halving to the end would, a quicker method finds its digits.
_HALVINGS = 8


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

    and κ₃(n), as in :class:`~batchsense.training.tolerance.moments.ErrorMoments`. With two moments
    only (Satterthwaite's χ²) a chance of 1 % was one of 1.2 to 1.6 % for the gradients of a small
    net, whose noise has a few strong directions. The second term of v dominates late in training.

    Source: Satterthwaite (1946), Biometrics Bulletin 2; Pearson (1959), Biometrika 46, for three
    moments.

    One normal feature: (1.96·15/3)², the textbook's 96.04.

    >>> round(calibrated_need(15.0**2, 3.0, 0.05, square_ratio=1.0, fourth_ratio=2.0), 2)
    96.04
    """
    base = mean_square_need(trace, epsilon)
    if base == 0:
        return 0.0

    def missing(log_n: float) -> float:
        """Say by how much n is too small."""
        n = math.exp(log_n)
        at = max(n, 1.0)
        variance = 2 * (1 - 1 / at) * square_ratio + fourth_ratio / at
        third = (
            8 * (1 - 1 / at) * (1 - 2 / at) * cube_ratio
            + (1 - 1 / at) * mixed_ratio / at
            + sixth_ratio / at**2
        )
        return base * _quantile(variance, third, delta) / n - 1

    low, high = math.log(base), math.log(base / delta)  # Markov: every quantile is at most 1/δ
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if missing(middle) > 0:
            low = middle
        else:
            high = middle
    if missing(low) <= 0 or missing(high) >= 0:  # the answer is an end of the first interval
        return math.exp(low if missing(low) <= 0 else high)
    return math.exp(brentq(missing, low, high, xtol=1e-13))


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
