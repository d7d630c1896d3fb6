"""How many observations make a mean precise enough, and what each answer takes for granted.

The needs are one formula each: n₀ independent draws, not rounded, so that the mean of observations
with variance τ (for vectors the trace of the covariance) is within ``epsilon`` of the truth with
probability at least 1 - ``delta``. The same questions are asked of examples in a minibatch and of
batches of specimens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from batchsense.errors import DataError

#: Results this close (relative) to an integer from above are that integer: rounding, not need.
_ROUNDING = 1e-12


def mean_square_need(trace: float, epsilon: float) -> float:
    """τ/ε²: the error is ε in the root mean square, and often larger.

    Examples
    --------
    >>> mean_square_need(100.0, 0.5)
    400.0
    """
    return trace / epsilon**2


def chebyshev_need(trace: float, epsilon: float, delta: float) -> float:
    """τ/(δε²): enough for any distribution whose variance is at most τ.

    Examples
    --------
    >>> round(chebyshev_need(100.0, 0.5, 0.05))
    8000
    """
    return trace / (delta * epsilon**2)


def pinelis_need(trace: float, epsilon: float, delta: float, radius: float) -> float:
    r""":math:`2\ln(2/δ)(τ/ε^2 + R/(3ε))`: enough if no observation is further than R out.

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


def least_number(enough: Callable[[int], bool], least: int = 1, most: int | None = None) -> int:
    """The least number of observations that is enough, by doubling and halving.

    Parameters
    ----------
    enough : callable
        Whether a number is enough; once it is, every larger number must be.
    least : int
        The first number to try.
    most : int, optional
        The last number to try.

    Returns
    -------
    int
        The number; ``most + 1`` where even that is not enough.

    Examples
    --------
    >>> least_number(lambda n: 3.0 / n**0.5 <= 0.5), least_number(lambda n: n > 9, most=5)
    (36, 6)
    """
    if enough(least):
        return least
    low, high = least, 2 * least
    while (most is None or high <= most) and not enough(high):
        low, high = high, 2 * high
    if most is not None and high > most:
        high = most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def without_replacement(unlimited: float, population: int) -> int:
    """Draws without replacement that are worth ``unlimited`` independent ones: ⌈nN/(N - 1 + n)⌉.

    Examples
    --------
    >>> without_replacement(500.0, 200), without_replacement(1e9, 200), without_replacement(0.0, 9)
    (144, 200, 1)
    """
    if math.isinf(unlimited):
        return population
    need = _ceiling(unlimited * population / (population - 1 + unlimited)) if unlimited else 1
    return min(need, population)


def _ceiling(need: float) -> int:
    """Smallest integer not below ``need``, at least 1; rounding errors do not add one."""
    if math.isinf(need):
        raise DataError("the number of observations is too large to compute; allow a larger error")
    return max(1, math.ceil(need - _ROUNDING * need))
