"""How many draws a mean needs where its squared error is spread like a χ² of three moments."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import special

from batchsense.training.tolerance.pilot_noise import PilotNoise
from batchsense.variation.sample_size import mean_square_need

#: Halvings of an interval that is at most log(1/δ) wide: to twelve digits.
_HALVINGS = 40
#: The order of the plausible spreads hardly depends on n: a second pass changes little.
_PASSES = 2


def calibrated_bound(noise: PilotNoise, epsilon: float, delta: float) -> float:
    """Give the n that suffices for most of the spreads that a pilot leaves plausible.

    Each plausible spread (:func:`~batchsense.training.tolerance.plausible.plausible_spreads`) has
    its own :func:`calibrated_need`; this is their quantile at
    :attr:`~batchsense.training.tolerance.pilot_noise.PilotNoise.shape_level`.
    Variance and shape are thus bounded together: where a few examples hold most of the variance,
    they also decide in how many directions it points. At least the need of the estimates.

    Parameters
    ----------
    noise : PilotNoise
        What the pilot says; without plausible spreads its estimates are taken as known.
    epsilon : float
        ε, in the unit of the observations.
    delta : float
        δ, the allowed chance of a larger error.

    Returns
    -------
    float
        Draws, not rounded.

    Examples
    --------
    >>> from batchsense.training.tolerance.pilot_noise import gram_of, pilot_noise
    >>> scores = np.random.default_rng(0).normal(100, 15, size=400)
    >>> noise = pilot_noise(gram_of(scores))
    >>> estimated = calibrated_need(noise.trace, 3.0, 0.05, *noise.shape)
    >>> round(estimated), round(calibrated_bound(noise, 3.0, 0.05))
    (95, 111)
    """
    need = least = calibrated_need(noise.trace, epsilon, delta, *noise.shape)
    if len(noise.plausible) == 0 or need == 0:
        return need
    rank = math.ceil(noise.shape_level * len(noise.plausible)) - 1
    chosen = None
    for _ in range(_PASSES):
        errors = [row[0] * _quantile(*_moments_at(need, row[1:]), delta) for row in noise.plausible]
        before, chosen = chosen, int(np.argsort(errors)[rank])
        if chosen == before:
            break
        trace, *shape = (float(value) for value in noise.plausible[chosen])
        need = calibrated_need(trace, epsilon, delta, *shape)
    return max(need, least)


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
    shape = (square_ratio, fourth_ratio, cube_ratio, mixed_ratio, sixth_ratio)
    low, high = base, base / delta  # Markov's inequality bounds every quantile by 1/δ
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        at = max(middle, 1.0)
        if base * _quantile(*_moments_at(at, shape), delta) > middle:
            low = middle
        else:
            high = middle
    return high


def _moments_at(n: float, shape: Iterable[float]) -> tuple[float, float]:
    """Give variance and third cumulant of the squared error of a mean of n, over its mean."""
    square, fourth, cube, mixed, sixth = shape
    variance = 2 * (1 - 1 / n) * square + fourth / n
    third = 8 * (1 - 1 / n) * (1 - 2 / n) * cube + (1 - 1 / n) * mixed / n + sixth / n**2
    return float(variance), float(third)


def _quantile(variance: float, third: float, delta: float) -> float:
    """Give the 1 − δ quantile of a shifted χ² of mean 1, or of a less extreme one if that is more.

    With ever more variance or skewness the quantile falls again, because most of the variance then
    sits in events rarer than δ; a moment estimate of such a law is not worth a smaller answer.
    """
    r = 2 / max(variance, 1e-12)  # degrees of freedom of the χ² that needs no shift
    if r > 1e9:
        return 1.0
    candidates = np.append(np.geomspace(r, 1.0, 32), r) if r < 1 else np.array([r])
    plain = float((special.chdtri(candidates, delta) / candidates).max())
    if third <= 2 * variance**2:
        return plain
    shifted = np.geomspace(max(8 * variance**3 / third**2, 1e-3), r, 32)
    return max(
        plain,
        1
        + float(
            ((special.chdtri(shifted, delta) - shifted) * np.sqrt(variance / (2 * shifted))).max()
        ),
    )
