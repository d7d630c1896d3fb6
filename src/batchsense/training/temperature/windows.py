"""What one window of a running training says about its heat, and whether it has settled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from batchsense.arrays import Floats


@dataclass(frozen=True, slots=True)
class HeatWindow:
    """Sums over one window of steps.

    Attributes
    ----------
    first_step, steps : int
        The first step of the window, counted from 0, and how many it has.
    mean_loss : float
        Mean over the window of the loss of the weights, on the evaluation set.
    loss_of_mean : float
        Loss of the mean weights of the window, on the same set.
    displacement : float
        Squared distance from the window's first to its last weights.
    path : float
        Sum of squared updates over all steps of the window.
    learning_rate : float
        Of the window; a window in which it changes is left out.
    momentum : float
        m of the optimizer (β₁ for Adam).
    """

    first_step: int
    steps: int
    mean_loss: float
    loss_of_mean: float
    displacement: float
    path: float
    learning_rate: float
    momentum: float

    @property
    def heat(self) -> float:
        """E = mean L(w) − L(mean w): what cooling would gain if the window had settled."""
        return self.mean_loss - self.loss_of_mean


def equilibration(windows: list[HeatWindow]) -> float:
    r"""Say how settled the weights are: 1 in equilibrium, 0 on a random walk, below 0 on a journey.

    .. math:: r = 1 - \frac{(1-m)\sum |w_W - w_0|^2}{(1+m)\sum\sum_t |u_t|^2}

    over the windows given; NaN never: a run that does not move has settled.

    A walk of 100 independent unit steps ends about 100 from its start, squared.

    >>> equilibration([HeatWindow(0, 100, 1.0, 1.0, 100.0, 100.0, 0.1, 0.0)])
    0.0
    """
    path = sum(window.path * (1 + window.momentum) for window in windows)
    moved = sum(window.displacement * (1 - window.momentum) for window in windows)
    if path == 0:
        return 1.0
    return 1.0 - moved / path


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Mean of windows and its standard error, with what neighbours share taken into account.

    Neighbouring windows are alike while a run still travels; the error is that of independent
    windows times √((1 + ρ)/(1 − ρ)), ρ their correlation at lag one where that is positive.

    >>> import numpy as np
    >>> mean, error = mean_and_error(np.array([1.0, 2.0, 1.0, 2.0]))
    >>> mean, round(error, 3)
    (1.5, 0.289)
    """
    count = len(values)
    away = values - values.mean()
    spread = float((away**2).sum()) / (count - 1)
    lagged = float((away[1:] * away[:-1]).sum()) / (count - 1)
    # The estimate from so few windows is biased down by about 1/count.
    shared = min(max(lagged / spread + 1 / count, 0.0), 0.9) if spread > 0 and count > 3 else 0.0
    return float(values.mean()), math.sqrt(spread / count * (1 + shared) / (1 - shared))
