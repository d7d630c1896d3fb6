"""Scene: the gradient of a minibatch is a mean, so its variance falls as 1/n.

Measured on a real net part of the way through its training, with real minibatches: the variances
come from backward passes, none from the law that they are to show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit
from torch import nn

from batchsense.arrays import Floats, Integers
from batchsense.progress import Progress, silent
from batchsense.questions.demo.result import (
    GradientResult,
    MeasuredVariance,
    Promise,
    ToleranceResult,
)
from batchsense.reports.envelope import Estimate
from batchsense.training import Workload
from batchsense.training.running import optimizer_step
from batchsense.training.tolerance.calibrated import calibrated_need
from batchsense.training.tolerance.moments import moments_of_rows
from batchsense.training.workload.gradients import flat_gradient, scalar_loss
from batchsense.variation import chebyshev_need, miss_rate, without_replacement
from batchsense.variation.interval import Interval

#: Batch sizes at which the variance is measured: doublings, evenly spaced on the logarithmic axis.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: Minibatches drawn at each size: the error of a variance falls as one over the root of this, and
#: all sizes together cost 204,400 gradients of an example.
DRAWS = 400
#: Training steps before the measurement, by judgement: past the steep start of the training.
STEPS = 100
#: Allowed error of the gradient, as a part of the length of the full one, and how often it may be
#: larger: with half the length a step still leads down, and 1 in 20 is the custom.
TOLERANCE, MISS_RATE = 0.5, 0.05
#: Fresh minibatches that check the promise: of a miss rate of 0.05 they tell 0.037 to 0.065.
CHECKS = 1000

# Where the workload names none; any common size brings the weights away from their start.
_DEFAULT_BATCH_SIZE = 32


class GradientScene:
    """A net trained for a few steps, held at its weights, and the gradients of its data.

    Parameters
    ----------
    workload : Workload
        What is trained; its model is not changed.
    seed : int
        Seed of all minibatches.
    """

    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload = workload
        self._examples = len(workload.examples)
        training, self._measuring, self._checking = np.random.SeedSequence(seed).spawn(3)
        self._model = _trained(workload, np.random.default_rng(training))
        self._full = self._gradient(np.arange(self._examples))
        self._gram = self._gram_of_deviations()
        self._trace = float(np.trace(self._gram)) / self._examples

    def variance(self, progress: Progress = silent) -> GradientResult:
        """Measure the mean squared distance of minibatch gradients from the full one, by size."""
        measured = []
        seeds = self._measuring.spawn(len(BATCH_SIZES))
        for done, (size, seed) in enumerate(zip(BATCH_SIZES, seeds, strict=True), start=1):
            rng = np.random.default_rng(seed)
            drawn = [rng.integers(self._examples, size=size) for _ in range(DRAWS)]
            measured.append(mean_interval(self._squared_distances(drawn)))
            progress("measuring gradients", done, len(BATCH_SIZES))
        everything = self._workload.minibatch(np.arange(self._examples))
        loss = scalar_loss(self._workload, self._model, everything)
        return GradientResult(
            examples=self._examples,
            steps=STEPS,
            loss=float(loss.detach()),
            draws=DRAWS,
            points=[
                MeasuredVariance(batch_size=size, variance=Estimate.of(interval))
                for size, interval in zip(BATCH_SIZES, measured, strict=True)
            ],
            slope=Estimate.of(log_slope(BATCH_SIZES, measured)),
            squared_gradient_norm=float(self._full @ self._full),
            trace_covariance=self._trace,
        )

    def tolerance(self, progress: Progress = silent) -> ToleranceResult:
        """Size a minibatch for a tolerance, and try the size on fresh minibatches."""
        allowed = TOLERANCE * float(np.linalg.norm(self._full))
        promises = self._promises(allowed)
        size = promises[0].batch_size
        rng = np.random.default_rng(self._checking)
        misses = 0
        for done in range(1, CHECKS + 1):
            rows = rng.choice(self._examples, size=size, replace=False)
            misses += int(self._squared_distances([rows])[0] > allowed**2)
            progress("checking the tolerance", done, CHECKS)
        return ToleranceResult(
            tolerance=TOLERANCE,
            miss_rate=MISS_RATE,
            promises=promises,
            checked_batch_size=size,
            checked_minibatches=CHECKS,
            misses=misses,
            observed_miss_rate=Estimate.of(rate_interval(misses, CHECKS)),
        )

    def _promises(self, allowed: float) -> list[Promise]:
        shape = moments_of_rows(self._gram).shape
        needs = (
            (
                "calibrated",
                calibrated_need(self._trace, allowed, MISS_RATE, *shape),
                "the error of a mean has the spread that its first three moments tell",
            ),
            (
                "chebyshev",
                chebyshev_need(self._trace, allowed, MISS_RATE),
                "nothing: any distribution of this variance",
            ),
        )
        return [
            Promise(
                name=name, assumption=text, batch_size=without_replacement(need, self._examples)
            )
            for name, need, text in needs
        ]

    def _gradient(self, rows: Integers) -> Floats:
        vector = flat_gradient(self._workload, self._model, self._workload.minibatch(rows))
        return np.asarray(vector.numpy(), dtype=np.float64)

    def _squared_distances(self, drawn: list[Integers]) -> Floats:
        apart = (self._gradient(rows) - self._full for rows in drawn)
        return np.array([vector @ vector for vector in apart])

    def _gram_of_deviations(self) -> Floats:
        deviations = np.empty((self._examples, len(self._full)), dtype=np.float32)
        for row in range(self._examples):
            deviations[row] = self._gradient(np.array([row])) - self._full
        return (deviations @ deviations.T).astype(np.float64)


def _trained(workload: Workload, rng: np.random.Generator) -> nn.Module:
    model = workload.fresh_model()
    optimizer = workload.fresh_optimizer(model)
    size = workload.batch_size or _DEFAULT_BATCH_SIZE
    for _ in range(STEPS):
        rows = rng.integers(len(workload.examples), size=size)
        optimizer_step(workload, model, optimizer, [workload.minibatch(rows)])
    return model


def mean_interval(values: Floats) -> Interval:
    """Give a mean with Student's 95 % interval.

    Examples
    --------
    >>> mean = mean_interval(np.array([1.0, 2.0, 3.0]))
    >>> round(mean.estimate, 3), round(mean.low, 3), round(mean.high, 3)
    (2.0, -0.484, 4.484)
    """
    mean = float(values.mean())
    half = float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def rate_interval(hits: int, trials: int) -> Interval:
    """Give a rate with the exact two-sided 95 % interval of Clopper and Pearson (1934).

    Examples
    --------
    >>> rate = rate_interval(0, 72)
    >>> rate.low, round(rate.high, 3)
    (0.0, 0.05)
    """
    each_side = miss_rate(hits, trials, 0.975)
    return Interval(each_side.estimate, each_side.low, each_side.high)


def log_slope(batch_sizes: Sequence[int], measured: Sequence[Interval]) -> Interval:
    r"""Fit log variance on log batch size by weighted least squares.

    With :math:`x` the logarithms of the sizes, :math:`y` those of the variances and weights
    :math:`w` the inverse squares of the relative errors, the slope is
    :math:`\sum w(x-\bar x)y / \sum w(x-\bar x)^2` and its variance
    :math:`1/\sum w(x-\bar x)^2`.

    Examples
    --------
    >>> exact = [Interval(8 / n, 7.2 / n, 8.8 / n) for n in (1, 2, 4)]
    >>> round(log_slope((1, 2, 4), exact).estimate, 9)
    -1.0
    """
    x = np.log(np.asarray(batch_sizes, dtype=np.float64))
    mean = np.array([interval.estimate for interval in measured])
    half = np.array([(interval.high - interval.low) / 2 for interval in measured])
    weights = (1.96 * mean / half) ** 2
    centred = x - (weights @ x) / weights.sum()
    information = float(weights @ centred**2)
    slope = float(weights @ (centred * np.log(mean)) / information)
    reach = 1.96 / float(np.sqrt(information))
    return Interval(slope, slope - reach, slope + reach)
