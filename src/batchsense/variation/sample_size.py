"""How many observations make a mean precise enough, and what each answer takes for granted.

The needs are one formula each: n₀ independent draws, not rounded. The same questions are asked of
examples in a minibatch and of batches of specimens.

A mean of n independent observations with variance σ² (for vectors τ, the trace of the covariance)
is within ``epsilon`` of the truth with probability at least 1 - ``delta`` if n is as large as the
chosen rung says. Rungs that assume less ask for more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.errors import DataError
from batchsense.variation.matrices import finite_matrix

#: Results this close (relative) to an integer from above are that integer: rounding, not need.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Rung:
    """One answer with what it assumes.

    Attributes
    ----------
    name : str
        ``chebyshev``, ``normal`` or ``bernstein``.
    observations : int
        The smallest sufficient number of observations under the assumptions.
    unlimited : float
        The number before rounding and before any finite population, in observations.
    assumes : str
        What must hold.
    """

    name: str
    observations: int
    unlimited: float
    assumes: str


def sample_size(
    variance: ArrayLike,
    epsilon: float,
    delta: float,
    *,
    population: int | None = None,
    bound: float | None = None,
) -> tuple[Rung, ...]:
    """Size a sample so that P(‖mean - truth‖ > epsilon) ≤ delta, under several assumptions.

    - ``chebyshev``: n = τ/(δε²). Any law with this variance.
    - ``normal``: n = τ/ε² · χ²_{r,1-δ}/r with r = τ²/tr Σ² (Satterthwaite 1946); for one feature
      r = 1, the familiar (z σ/ε)². The mean must be nearly normal.
    - ``bernstein``: n = 2 ln(2/δ)·(τ/ε² + R/(3ε)). Every observation lies within R of the mean;
      holds for vectors with the Euclidean norm too (Pinelis 1994).

    Drawing without replacement from N, ``chebyshev`` and ``normal`` need ⌈n·N/(N - 1 + n)⌉ ≤ N,
    since the variance of the mean is then σ²/n·(N - n)/(N - 1) with σ² the variance of the
    population (divisor N). ``bernstein`` is only capped at N: its promise carries over to draws
    without replacement (Hoeffding 1963, section 6), but the factor is proved for variances alone.

    Parameters
    ----------
    variance : float or array of shape (features, features)
        Variance of one observation, or covariance matrix of a vector; in squared units of epsilon.
        A trace alone may be given as a number: ``normal`` then asks for at least what the full
        matrix would, for delta up to 0.18.
    epsilon : float
        Largest error that is allowed, in the unit of the observations.
    delta : float
        Chance of a larger error that is allowed, between 0 and 1.
    population : int, optional
        Size of the finite population from which is drawn without replacement.
    bound : float, optional
        R, the largest distance of an observation from the mean; adds the ``bernstein`` rung.

    Returns
    -------
    tuple of Rung
        ``chebyshev``, ``normal`` and, with a bound, ``bernstein``.

    Raises
    ------
    DataError
        If an argument is out of its range, or the bound contradicts the variance.

    References
    ----------
    Cochran 1977, Sampling Techniques, chapter 4; Satterthwaite 1946; Pinelis 1994, Ann. Probab.
    22, 1679; Hoeffding 1963, J. Am. Stat. Assoc. 58, 13.

    Examples
    --------
    Scores have a standard deviation of 15. How many give their mean to within 3 points, 19 times
    out of 20? The textbook says (1.96·15/3)² = 96.04, so 97:

    >>> for rung in sample_size(15.0**2, epsilon=3.0, delta=0.05, bound=60.0):
    ...     print(rung.name, rung.observations)
    chebyshev 500
    normal 97
    bernstein 234

    From a school of 200, fewer are enough:

    >>> [rung.observations for rung in sample_size(15.0**2, 3.0, 0.05, population=200)]
    [144, 66]
    """
    trace, dimension = _trace_and_dimension(variance)
    for name, value in (("epsilon", epsilon), ("bound", bound)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise DataError(f"{name} is {value}; it must be positive and finite")
    if not 0.0 < delta < 1.0:
        raise DataError(f"delta is {delta}; it must lie between 0 and 1, for example 0.05")
    if population is not None and population < 1:
        raise DataError(f"population is {population}; it must be at least 1")
    base = mean_square_need(trace, epsilon)
    quantile = float(special.chdtri(dimension, delta)) / dimension
    source = "independent draws" if population is None else "draws without replacement"
    rungs = [
        _rung(
            "chebyshev",
            chebyshev_need(trace, epsilon, delta),
            population,
            f"{source}; any law of this variance",
        ),
        _rung("normal", base * quantile, population, f"{source}; a nearly normal mean"),
    ]
    if bound is not None:
        if bound**2 < trace * (1.0 - 1e-9):
            raise DataError(
                f"no observation may lie further than {bound:g} from the mean, yet the variance is"
                f" {trace:g}, more than {bound:g} squared; correct one of the two"
            )
        need = pinelis_need(trace, epsilon, delta, bound)
        capped = min(_ceiling(need), population or math.inf)
        assumes = f"{source}; every observation within {bound:g} of the mean"
        rungs.append(Rung("bernstein", int(capped), need, assumes))
    return tuple(rungs)


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


def _rung(name: str, need: float, population: int | None, assumes: str) -> Rung:
    """Round up, with the correction for a finite population."""
    if population is None:
        return Rung(name, _ceiling(need), need, assumes)
    return Rung(name, without_replacement(need, population), need, assumes)


def _ceiling(need: float) -> int:
    """Smallest integer not below ``need``, at least 1; rounding errors do not add one."""
    if math.isinf(need):
        raise DataError("the number of observations is too large to compute; allow a larger error")
    return max(1, math.ceil(need - _ROUNDING * need))


def _trace_and_dimension(variance: ArrayLike) -> tuple[float, float]:
    """Trace and effective dimension τ²/tr Σ² of a variance or covariance matrix."""
    shape = np.shape(variance)
    if shape not in ((), (1, 1)) and (len(shape) != 2 or shape[0] != shape[1]):
        raise DataError(f"variance has shape {shape}; give a number or a covariance matrix")
    matrix = finite_matrix(np.reshape(np.asarray(variance), shape or (1, 1)), "variance")
    trace = float(np.trace(matrix))
    if (np.diagonal(matrix) < 0).any():
        raise DataError("variance is negative; give variances, not differences")
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-12 * max(trace, 0.0)):
        raise DataError("the covariance matrix is not symmetric")
    if trace == 0.0:
        return 0.0, 1.0
    return trace, 1.0 / float(((matrix / trace) ** 2).sum())
