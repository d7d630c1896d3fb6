"""Draws of a fixed size with chosen inclusion probabilities, and estimates that correct for them.

Points with large residuals may be drawn more often without changing what is minimised, if each
counts 1/pi times (Horvitz and Thompson 1952). ``choice(p=q, replace=False)`` with weights 1/q does
not do it: its inclusion probabilities are not proportional to q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, UnresolvedError

#: Grid of the random start. A multiple of 2**-32 plus a count below 2**20 is exact in float64, so
#: that the number of hits is never off by one.
_STARTS = 2**32


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """A mean over all points and its standard error, as :func:`estimate_mean` gives them."""

    mean: float
    standard_error: float


def inclusion_probabilities(magnitudes: npt.ArrayLike, count: int, mixing: float = 0.1) -> Floats:
    r"""Give each point a probability that grows with its magnitude, summing to ``count``.

    :math:`\pi_i = \min(1, c\,q_i)` with :math:`q_i = (1 - \alpha) |r_i| / \sum |r| + \alpha / M`
    and c such that the sum is the count. No point counts more than :math:`1/\alpha` times as much
    as in a uniform draw (Särndal, Swensson and Wretman 1992, section 3.6).

    Magnitudes have shape (points,) and any sign; all zero gives equal probabilities. ``mixing`` is
    :math:`\alpha`, above 0, else a point might never be drawn, and at most 1.

    Raises
    ------
    DataError
        A magnitude is not finite, or count or mixing is out of range.

    Examples
    --------
    >>> inclusion_probabilities([6.0, 1.0, 0.0, 1.0], count=2, mixing=0.2)
    array([1.        , 0.42857143, 0.14285714, 0.42857143])
    """
    sizes = np.abs(_finite(magnitudes, "magnitudes"))
    if not 0 < mixing <= 1:
        raise DataError(f"mixing is {mixing!r}; give a share above 0 and at most 1")
    if not 1 <= count <= len(sizes):
        raise DataError(f"{count} points cannot be drawn from {len(sizes)}; give 1 to {len(sizes)}")
    q = np.full(len(sizes), mixing / len(sizes))
    if (largest := sizes.max()) > 0:
        sizes = sizes / largest  # else the sum of the largest floats is infinite
        q += (1 - mixing) * sizes / sizes.sum()
    certain = np.zeros(len(q), dtype=bool)
    while True:  # cutting some at 1 raises the others, of which few then exceed 1 in turn
        left = count - int(certain.sum())
        rest = left * q / q[~certain].sum() if left else np.zeros(len(q))
        over = ~certain & (rest >= 1)
        if left == 0 or not over.any():
            return np.where(certain, 1.0, rest)
        certain |= over


def systematic_draw(probabilities: npt.ArrayLike, rng: np.random.Generator) -> Integers:
    r"""Draw as many points as the probabilities sum to, each with its own, none twice.

    In random order the probabilities are laid end to end, and the points taken that are hit by
    :math:`u, u+1, u+2, \dots` with one uniform u (Madow 1949; Hartley and Rao 1962). Gives
    ascending indices.

    Raises
    ------
    DataError
        A probability is outside 0 to 1, or the sum is no whole number.

    Examples
    --------
    >>> systematic_draw([1.0, 0.5, 0.25, 0.25], np.random.default_rng(1)).tolist()
    [0, 3]
    """
    pi = _finite(probabilities, "probabilities")
    total = float(pi.sum())
    if pi.min() < 0 or pi.max() > 1 or abs(total - round(total)) > 1e-6 * max(1.0, total):
        raise DataError(f"probabilities must lie in 0 to 1 and have a whole sum, not {total:.6g}")
    certain = np.flatnonzero(pi == 1)
    order = rng.permutation(np.flatnonzero((pi > 0) & (pi < 1)))
    left = round(total) - len(certain)
    if left <= 0:
        return np.asarray(certain, dtype=np.int64)
    ends = np.cumsum(pi[order])
    ends *= left / ends[-1]
    ends[-1] = left
    hit = np.diff(np.floor(ends + rng.integers(_STARTS) / _STARTS), prepend=0.0) > 0
    return np.sort(np.concatenate([certain, order[hit]])).astype(np.int64)


def estimate_mean(
    values: npt.ArrayLike, probabilities: npt.ArrayLike, population: int
) -> MeanEstimate:
    r"""Estimate the mean over M points from those that were drawn.

    :math:`\hat m = \frac1M \sum_{i \in s} y_i/\pi_i` is unbiased. One systematic draw does not show
    its variance: in a given order most pairs of points never meet. In random order they meet nearly
    as in a draw of largest entropy, for which (Hájek 1964; Deville 1999)

    .. math::
        v = \frac1{M^2} \sum_{i \in s} c_i \Big(\frac{y_i}{\pi_i} - A\Big)^2, \quad
        c_i = \frac{n (1-\pi_i)}{n-1}, \quad A = \sum c_i \frac{y_i}{\pi_i} \Big/ \sum c_i,

    n being the drawn points that are not certain. So it holds to a few per cent for draws of tens
    by :func:`systematic_draw`, and not at all for systematic draws from an order with a meaning.

    Raises
    ------
    DataError
        Lengths differ, or a probability is not in (0, 1].
    UnresolvedError
        Only one point was left to chance, which shows no spread.

    Examples
    --------
    >>> estimate_mean([3.0, 1.0, 1.2], [1.0, 0.25, 0.3], population=10)
    MeanEstimate(mean=1.1, standard_error=0.0)
    """
    y, pi = _finite(values, "values"), _finite(probabilities, "probabilities")
    if len(y) != len(pi) or population < len(y) or pi.min() <= 0 or pi.max() > 1:
        raise DataError(
            f"{len(y)} values, {len(pi)} probabilities in (0, 1] and a population of {population} "
            "do not belong together"
        )
    expanded, chance = y / pi, pi < 1
    mean, drawn = float(expanded.sum() / population), int(chance.sum())
    if drawn == 0:
        return MeanEstimate(mean, 0.0)
    if drawn == 1:
        raise UnresolvedError("one point alone shows no spread", needed="2 or more drawn points")
    factors = drawn / (drawn - 1) * (1 - pi[chance])
    centre = (factors * expanded[chance]).sum() / factors.sum()
    variance = (factors * (expanded[chance] - centre) ** 2).sum() / population**2
    return MeanEstimate(mean, math.sqrt(variance))


def _finite(values: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise DataError(f"{name} must have shape (points,), not {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name}[{int(np.argmin(np.isfinite(array)))}] is not finite")
    return array
