"""Fieller's interval for a ratio of two means, in all its branches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from batchsense.variation.interval import Interval

#: How the interval of a non-negative ratio can end:
#: ``bounded`` on both sides; ``upper`` bound only (low is 0); ``lower`` bound only (high is
#: infinite); ``none``: the data say nothing; ``negative``: they say that the ratio is below 0,
#: which chance can do.
Branch = Literal["bounded", "upper", "lower", "none", "negative"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two means and what the data say about it.

    Attributes
    ----------
    interval : Interval
        The estimate (infinite where the denominator is not positive) and its ends.
    branch : str
        Which ends the data set: see :data:`Branch`.
    """

    interval: Interval
    branch: Branch


def fieller_ratio(
    numerator: float,
    denominator: float,
    covariance: npt.ArrayLike,
    degrees: float,
    level: float = 0.95,
) -> Ratio:
    r"""Give the interval of a non-negative ratio ρ = E[numerator] / E[denominator].

    The interval is the set of ρ for which T − ρΓ is not significantly different from zero,

    .. math:: (T - ρΓ)^2 ≤ t^2 (v_{ττ} - 2ρ v_{τγ} + ρ^2 v_{γγ}),

    cut to ρ ≥ 0. It may be unbounded: that is what the data say, and not an error.

    Parameters
    ----------
    numerator, denominator : float
        The two means, T and Γ, in any unit.
    covariance : array of shape (2, 2)
        Covariance of the two means.
    degrees : float
        Degrees of freedom of the covariance.
    level : float
        Confidence level.

    Returns
    -------
    Ratio
        Interval and branch.

    Raises
    ------
    ValueError
        A number is not finite, or ``degrees`` is below 1.

    References
    ----------
    Fieller (1954), "Some problems in interval estimation", J. R. Stat. Soc. B 16.

    Examples
    --------
    >>> fieller_ratio(10.0, 2.0, [[0.01, 0.0], [0.0, 0.01]], degrees=30).interval.ratio < 1.3
    True
    >>> fieller_ratio(10.0, 0.1, [[0.01, 0.0], [0.0, 0.01]], degrees=30).branch
    'lower'
    """
    v = np.asarray(covariance, dtype=np.float64)
    if not (np.isfinite(v).all() and math.isfinite(numerator) and math.isfinite(denominator)):
        raise ValueError("numerator, denominator and covariance must be finite")
    if degrees < 1:
        raise ValueError(f"degrees must be at least 1, not {degrees}")
    t = float(stdtrit(degrees, 0.5 + level / 2))
    a = float(denominator**2 - t**2 * v[1, 1])
    b = float(numerator * denominator - t**2 * v[0, 1])
    c = float(numerator**2 - t**2 * v[0, 0])
    low, high, branch = _branch(a, b, c, denominator)
    estimate = numerator / denominator if denominator > 0 else math.inf
    return Ratio(Interval(estimate, low, high, level), branch)


def _branch(a: float, b: float, c: float, denominator: float) -> tuple[float, float, Branch]:
    """Solve aρ² − 2bρ + c ≤ 0 for ρ ≥ 0."""
    discriminant = b * b - a * c
    if a > 0 and denominator < 0:
        return 0.0, math.inf, "negative"
    if discriminant < 0 or (a <= 0 and c <= 0):
        return 0.0, math.inf, "none"
    # The stable form: subtracting nearly equal numbers would lose the small root.
    q = b + math.copysign(math.sqrt(discriminant), b)
    roots = sorted([q / a if a != 0 else math.inf, c / q if q != 0 else 0.0])
    if a > 0 and roots[1] < 0:
        return 0.0, math.inf, "negative"
    if a > 0:
        return (roots[0], roots[1], "bounded") if roots[0] > 0 else (0.0, roots[1], "upper")
    positive = [root for root in roots if root > 0]
    return min(positive), math.inf, "lower"
