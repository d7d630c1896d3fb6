"""The law of steps against batch size, fitted to a sweep."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.variation.interval import Interval

#: Relative errors below this are not believed, however well five points fit.
LEAST_ERROR = 0.03
_GRID = 4001
_BEYOND = 1e4


@dataclass(frozen=True, slots=True)
class StepsLaw:
    """S(B) = S_min (1 + B_crit/B), fitted.

    Attributes
    ----------
    minimum_steps : Interval
        S_min: steps that no batch size avoids.
    critical_batch_size : Interval
        B_crit in examples; [low, ∞) where it lies above all sizes, [0, high] where below.
    misfit : float
        Root mean square of log S − log fit.
    """

    minimum_steps: Interval
    critical_batch_size: Interval
    misfit: float

    def steps(self, batch_size: npt.ArrayLike) -> Floats:
        """Give the fitted number of steps at a batch size."""
        sizes = np.asarray(batch_size, dtype=np.float64)
        critical = self.critical_batch_size.estimate
        return np.asarray(self.minimum_steps.estimate * (1 + critical / sizes))


def fit_steps_law(
    batch_sizes: npt.ArrayLike,
    steps: npt.ArrayLike,
    *,
    error: float = LEAST_ERROR,
    level: float = 0.95,
) -> StepsLaw:
    r"""Fit :math:`\log S = \log S_{min} + \log(1 + B_{crit}/B)` by least squares.

    The interval of B_crit is its profile: all values whose sum of squares exceeds the least by no
    more than t² s², with s² the residual variance (or the square of ``error``, where that is
    larger) and t Student's quantile with n − 2 degrees of freedom. It may be unbounded, and that
    is then the answer.

    Parameters
    ----------
    batch_sizes : array of shape (sizes,)
        At least three different ones.
    steps : array of shape (sizes,)
        Steps to the target at each.
    error : float
        Known relative error of a number of steps, for example from repeats.
    level : float
        Confidence level.

    Returns
    -------
    StepsLaw
        Both parameters with intervals.

    Raises
    ------
    UnresolvedError
        Fewer than three sizes.

    References
    ----------
    McCandlish et al. (2018), arXiv:1812.06162, equation 2.11.

    Examples
    --------
    >>> sizes = np.array([10, 30, 100, 300, 1000])
    >>> law = fit_steps_law(sizes, 50 * (1 + 100 / sizes))
    >>> round(law.minimum_steps.estimate), round(law.critical_batch_size.estimate)
    (50, 100)
    """
    sizes, log_steps = np.asarray(batch_sizes, float), np.log(np.asarray(steps, float))
    count = len(sizes)
    if len(np.unique(sizes)) < 3:
        raise UnresolvedError(
            f"{count} batch sizes reached the target, too few for a law", "three or more"
        )
    grid = np.geomspace(sizes.min() / _BEYOND, sizes.max() * _BEYOND, _GRID)
    residuals = log_steps - np.log1p(grid[:, None] / sizes)
    offsets = residuals.mean(axis=1)
    squares = ((residuals - offsets[:, None]) ** 2).sum(axis=1)
    best = int(squares.argmin())
    spread = max(math.sqrt(squares[best] / (count - 2)), error, LEAST_ERROR)
    t = float(stdtrit(count - 2, 0.5 + level / 2))
    accepted = np.flatnonzero(squares <= squares[best] + (t * spread) ** 2)
    first, last = int(accepted[0]), int(accepted[-1])
    low = 0.0 if first == 0 or grid[best] < sizes.min() else float(grid[first])
    high = math.inf if last == _GRID - 1 or grid[best] > sizes.max() else float(grid[last])
    slack = t * spread / math.sqrt(count)
    return StepsLaw(
        minimum_steps=Interval(
            math.exp(offsets[best]),
            0.0 if math.isinf(high) else math.exp(offsets[last] - slack),
            math.exp(offsets[first] + slack),
            level,
        ),
        critical_batch_size=Interval(float(grid[best]), low, high, level),
        misfit=math.sqrt(squares[best] / count),
    )
