"""The critical batch size, integrated along the path of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.training.gradient_noise.fieller import Branch, fieller_ratio
from batchsense.training.gradient_noise.report import LEAST_GROUPS, is_resolved, pool_moments
from batchsense.variation.interval import Interval

#: Records over which the share of signal in a gradient is averaged.
SMOOTHED_RECORDS = 25
#: Blocks of consecutive records that are treated as independent.
BLOCKS = 16


@dataclass(frozen=True, slots=True, eq=False)
class PathRecords:
    """What a short run recorded at each step.

    Attributes
    ----------
    batch_size : int or array of shape (steps,)
        Examples per step, or of each step.
    trace_covariance : array of shape (steps,)
        τ̂ at each step, unbiased.
    squared_gradient_norm : array of shape (steps,)
        γ̂ at each step, unbiased, often negative.
    loss : array of shape (steps,)
        Loss of the step's minibatch.
    """

    batch_size: int | Floats
    trace_covariance: Floats
    squared_gradient_norm: Floats
    loss: Floats


@dataclass(frozen=True, slots=True)
class PathNoise:
    """The critical batch size of a run, with its interval.

    Attributes
    ----------
    critical_batch_size : Interval
        B_crit in examples: training at it takes twice the fewest steps and twice the fewest
        examples. Holds down to ``final_loss`` only.
    branch : str
        Which ends the data set.
    batch_size : int
        The batch size of the run.
    steps : int
        Steps of the run.
    initial_loss, final_loss : float
        Mean loss over the first and the last tenth of the run.
    loss_fell : bool
        Whether the difference of the two is more than chance (three times its standard error).
    """

    critical_batch_size: Interval
    branch: Branch
    batch_size: int
    steps: int
    initial_loss: float
    final_loss: float
    loss_fell: bool

    @property
    def resolved(self) -> bool:
        """Whether the ends of the interval are within a factor of four."""
        return is_resolved(self.critical_batch_size)

    @property
    def run_too_large(self) -> bool:
        """Whether the run used a batch size so far above B_crit that it is overestimated."""
        return self.batch_size > 4 * self.critical_batch_size.estimate

    @property
    def steps_needed(self) -> int:
        """About how many more steps would resolve B_crit, for errors that fall as 1/√steps."""
        interval = self.critical_batch_size
        if self.resolved:
            return 0
        if not interval.bounded or interval.ratio > 1e3:
            return 7 * self.steps
        excess = np.log(interval.ratio) / np.log(4.0)
        return int(np.ceil(self.steps * (excess**2 - 1)))


def critical_batch_size_of_path(records: PathRecords, level: float = 0.95) -> PathNoise:
    r"""Integrate the critical batch size along a run.

    A step at batch size B makes the share :math:`w = 1/(1 + B_s/B)` of the progress that a step
    without noise would, so :math:`B_{crit} = \sum w B_s / \sum w`. One step's γ̂ is too noisy to
    divide by; with M = γ + τ/B the same sum is

    .. math:: B_{crit} = \sum_t \frac{\hat τ_t}{\hat M_t} \Big/ \sum_t \frac{\hat γ_t}{\hat M_t},
        \qquad \hat M_t = \hat Q_t \left[\tfrac1B + (1 - \tfrac1B) \hat φ_t\right],

    where Q = γ + τ and φ is the moving mean of γ̂/Q̂ over 25 steps, cut to 0…1. The interval is
    Fieller's, on means of consecutive blocks.

    Parameters
    ----------
    records : PathRecords
        One record per step, at least 16.
    level : float
        Confidence level.

    Returns
    -------
    PathNoise
        B_crit with its interval.

    Raises
    ------
    UnresolvedError
        Fewer than 16 steps.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", section 2.

    Examples
    --------
    A run whose noise is the same at every step, τ = 100 and γ = 2, has B_crit = 50:

    >>> same = np.ones(64)
    >>> records = PathRecords(16, 100 * same, 2 * same, same)
    >>> round(critical_batch_size_of_path(records).critical_batch_size.estimate, 6)
    50.0
    """
    steps = len(records.loss)
    if steps < 2 * LEAST_GROUPS:
        raise UnresolvedError(
            f"a run of {steps} steps is too short for an interval",
            f"{2 * LEAST_GROUPS} steps or more",
        )
    tau, gamma = records.trace_covariance, records.squared_gradient_norm
    scale = _smoothed_step_norm(tau, gamma, records.batch_size)
    blocks = max(LEAST_GROUPS, min(BLOCKS, steps // SMOOTHED_RECORDS))
    noise, signal = (_block_means(part / scale, blocks) for part in (tau, gamma))
    moments, covariance = pool_moments(noise, signal)
    ratio = fieller_ratio(
        moments.trace_covariance, moments.squared_gradient_norm, covariance, blocks - 1, level
    )
    tenth = max(1, steps // 10)
    first, last = float(records.loss[:tenth].mean()), float(records.loss[-tenth:].mean())
    # From differences of neighbours: the spread of one minibatch's loss without the trend.
    spread = float(np.diff(records.loss).std()) / math.sqrt(2)
    return PathNoise(
        critical_batch_size=ratio.interval,
        branch=ratio.branch,
        batch_size=round(float(np.mean(records.batch_size))),
        steps=steps,
        initial_loss=first,
        final_loss=last,
        loss_fell=first - last > 3 * spread * math.sqrt(2 / tenth),
    )


def _smoothed_step_norm(tau: Floats, gamma: Floats, batch_size: int | Floats) -> Floats:
    """Estimate E|g_B|² at each step: never zero, and calm where gradients spike."""
    square = tau + gamma
    # With few micro-batches one step's estimate of E|g_i|² may be tiny or negative.
    square = np.maximum(square, 0.05 * _moving_mean(np.maximum(square, 0.0)))
    if not (square > 0).all():
        raise UnresolvedError("the gradient is zero along the whole run", "a loss that can fall")
    share = np.clip(_moving_mean(gamma / square), 0.0, 1.0)
    return np.asarray(square * (1 / batch_size + (1 - 1 / batch_size) * share))


def _moving_mean(values: Floats, width: int = SMOOTHED_RECORDS) -> Floats:
    """Average each value with its neighbours on both sides; windows shrink at the ends."""
    window = np.ones(min(width, len(values)))
    total = np.convolve(values, window, mode="same")
    return np.asarray(total / np.convolve(np.ones(len(values)), window, mode="same"))


def _block_means(values: Floats, blocks: int) -> Floats:
    """Average consecutive blocks of nearly equal length."""
    return np.array([part.mean() for part in np.array_split(values, blocks)])
