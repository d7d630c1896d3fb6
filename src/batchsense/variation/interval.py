"""An estimate and what is known of its error: no number without its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with a confidence interval.

    Attributes
    ----------
    estimate : float
        The point estimate.
    low, high : float
        The ends of the interval; ``-inf`` or ``inf`` where the data set no bound.
    level : float
        The confidence level, between 0 and 1.

    Examples
    --------
    >>> Interval(10.0, 8.0, 13.0).ratio
    1.625
    >>> Interval(10.0, 8.0, float("inf")).bounded
    False
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def ratio(self) -> float:
        """High over low, for positive quantities; infinite where low is not positive."""
        return self.high / self.low if self.low > 0 else math.inf

    def __contains__(self, value: float) -> bool:
        """Whether ``value`` lies in the closed interval."""
        return self.low <= value <= self.high


def student_quantile(degrees: float, level: float) -> float:
    """How many standard errors reach to each side of an estimate: ``P(|T| ≤ t) = level``.

    Parameters
    ----------
    degrees : float
        Degrees of freedom of the standard error; infinite gives the normal law.
    level : float
        Confidence level of the two-sided interval.

    Returns
    -------
    float
        t, without unit.

    References
    ----------
    Student (1908), Biometrika 6.

    Examples
    --------
    >>> round(student_quantile(2, 0.95), 2), round(student_quantile(1000, 0.95), 2)
    (4.3, 1.96)
    """
    # Every command knows intervals, also those that only print help; scipy would slow them all.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))
