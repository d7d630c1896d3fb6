"""How many steps a run took to a loss, from noisy evaluations along the way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Integers

#: Evaluations that are averaged, so that one lucky step does not count as arrival.
SMOOTHED = 3


def steps_to_loss(steps: npt.ArrayLike, losses: npt.ArrayLike, target: float) -> float | None:
    """Give the steps after which the smoothed loss first reached the target.

    The loss is averaged over three neighbouring evaluations, the steps likewise, and both are
    joined by straight lines.

    Parameters
    ----------
    steps : array of shape (evaluations,)
        Steps done at each, ascending from 0.
    losses : array of shape (evaluations,)
        Loss at each.
    target : float
        The loss to reach.

    Returns
    -------
    float or None
        Steps, not rounded; None if the target was not reached.

    Examples
    --------
    >>> steps_to_loss([0, 8, 16, 24, 32], [4.0, 3.0, 2.0, 1.0, 0.0], target=1.5)
    20.0
    >>> steps_to_loss([0, 8, 16], [4.0, 3.0, 2.0], target=1.5) is None
    True
    """
    window = np.ones(SMOOTHED) / SMOOTHED
    if len(np.asarray(steps)) < SMOOTHED:
        return None
    at = np.convolve(np.asarray(steps, dtype=np.float64), window, mode="valid")
    smooth = np.convolve(np.asarray(losses, dtype=np.float64), window, mode="valid")
    arrived = np.flatnonzero(smooth <= target)
    if len(arrived) == 0:
        return None
    k = int(arrived[0])
    if k == 0:
        # Before the first smoothed point: as far along the first line as the loss had to fall.
        start = float(np.asarray(losses, dtype=np.float64)[0])
        part = 1.0 if start <= smooth[0] else (start - target) / (start - smooth[0])
        return float(min(max(part, 0.0), 1.0) * at[0])
    part = (smooth[k - 1] - target) / (smooth[k - 1] - smooth[k])
    return float(at[k - 1] + part * (at[k] - at[k - 1]))


def evaluation_steps(most: int, growth: float = 1.08) -> Integers:
    """Give the steps after which to evaluate: each at first, then ever more rarely.

    Parameters
    ----------
    most : int
        The last step of a run.
    growth : float
        Ratio of neighbours once they are far apart.

    Returns
    -------
    array of int
        Ascending, from 1 to ``most``.

    Examples
    --------
    >>> evaluation_steps(40)[-5:].tolist()
    [31, 33, 36, 39, 40]
    """
    found, step = [], 1
    while step < most:
        found.append(step)
        step = max(step + 1, round(step * growth))
    return np.array([*found, most], dtype=np.int64)
