"""How much worse a model is on a batch that it has not seen: the gap that shuffled folds hide."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.variation.interval import Interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class BatchGap:
    """Error rates of a classifier under two ways of testing with equally large training sets.

    Attributes
    ----------
    shuffled : Interval
        Error rate when the rows of every batch are spread over all folds, mean over repetitions.
    held_out : Interval
        Error rate when each batch in turn is left out of training.
    difference : Interval
        ``held_out`` minus ``shuffled``, mean over the batches, compared batch by batch.
    standard_error : float
        Standard error of ``difference`` over the batches.
    ratio : Interval
        ``held_out`` over ``shuffled``; unbounded above where shuffled folds show no error.
    batch_labels : tuple
        The batches, sorted.
    by_batch : array of shape (batches, 2)
        Error rate of each batch's rows: shuffled, held out.
    """

    shuffled: Interval
    held_out: Interval
    difference: Interval
    standard_error: float
    ratio: Interval
    batch_labels: tuple[Hashable, ...]
    by_batch: Floats

    @property
    def worse(self) -> int:
        """Number of batches whose error rises when they are held out."""
        return int((self.by_batch[:, 1] > self.by_batch[:, 0] + 1e-12).sum())


def batch_gap(
    estimator: Any,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    batch_labels: npt.ArrayLike,
    seed: int = 0,
    repeats: int = 5,
    level: float = 0.95,
    progress: Progress = silent,
) -> BatchGap:
    """Compare the error of a classifier on shuffled folds with that on batches left out.

    With k batches, both ways use k folds. Rows of one batch are alike, so they are no independent
    evidence: all intervals are over *batches*, those of the two error rates and of their ratio by
    resampling whole batches, that of the difference by Student's t on the k paired differences.

    Parameters
    ----------
    estimator : scikit-learn classifier
        Cloned for every fold.
    X : array of shape (specimens, features)
        Observations.
    y : array of shape (specimens,)
        What is to be predicted.
    batch_labels : array of shape (specimens,)
        The batch of each specimen.
    seed : int
        Seed of the shuffled folds and of the resampling.
    repeats : int
        How often the shuffled folds are drawn anew.
    level : float
        Confidence level.
    progress : Progress
        Told of each pass over the folds.

    Returns
    -------
    BatchGap
        Both error rates, their paired difference and ratio, with intervals.

    Raises
    ------
    DataError
        Fewer than two batches, or arrays of different length.

    Examples
    --------
    Batches that shift the one feature by more than the classes differ:

    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> rng = np.random.default_rng(0)
    >>> y, batch_labels = np.tile([0, 1], 60), np.repeat(np.arange(6), 20)
    >>> X = (y + 2.5 * batch_labels + 0.1 * rng.normal(size=120))[:, None]
    >>> gap = batch_gap(KNeighborsClassifier(1), X, y, batch_labels)
    >>> gap.shuffled.estimate < 0.05 < 0.3 < gap.held_out.estimate
    True
    """
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict

    observations, answers, labels = np.asarray(X), np.asarray(y), np.asarray(batch_labels)
    if not len(observations) == len(answers) == len(labels):
        raise DataError(
            f"{len(observations)} observations, {len(answers)} answers and {len(labels)} batch "
            "labels; give one of each per specimen"
        )
    batches, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(batches) < 2:
        raise DataError("one batch only: leave-batch-out testing needs at least two")
    seeds = np.random.SeedSequence(seed).generate_state(repeats + 1)
    passes = repeats + 1

    def error_by_batch(predicted: npt.NDArray[Any]) -> Floats:
        """Give the error rate of the rows of each batch."""
        return np.bincount(codes, weights=predicted != answers) / sizes

    shuffled = np.zeros(len(batches))
    for done, state in enumerate(seeds[:-1], start=1):
        folds = StratifiedKFold(len(batches), shuffle=True, random_state=int(state))
        predicted = cross_val_predict(estimator, observations, answers, cv=folds)
        shuffled += error_by_batch(predicted) / repeats
        progress("testing on shuffled folds", done, passes)
    predicted = cross_val_predict(
        estimator, observations, answers, groups=codes, cv=LeaveOneGroupOut()
    )
    progress("testing on batches left out", passes, passes)
    by_batch = np.column_stack([shuffled, error_by_batch(predicted)])
    rng = np.random.default_rng(seeds[-1])
    return _summary(by_batch, sizes.astype(np.float64), tuple(batches.tolist()), level, rng)


#: Times that the batches are resampled for an interval.
_RESAMPLES = 2000


def _summary(
    by_batch: Floats,
    sizes: Floats,
    batches: tuple[Hashable, ...],
    level: float,
    rng: np.random.Generator,
) -> BatchGap:
    """Put intervals over batches around the error rates."""
    from scipy.special import stdtrit

    count = len(sizes)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES) * sizes
    rates = sizes @ by_batch / sizes.sum()
    resampled = drawn @ by_batch / drawn.sum(axis=1, keepdims=True)
    tails = ((1 - level) / 2, (1 + level) / 2)
    ends = np.quantile(resampled, tails, axis=0)
    differences = by_batch[:, 1] - by_batch[:, 0]
    mean = float(differences.mean())
    error = float(differences.std(ddof=1) / np.sqrt(count))
    half = float(stdtrit(count - 1, tails[1])) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(resampled[:, 0] > 0, resampled[:, 1] / resampled[:, 0], np.inf)
        ratio = float(rates[1] / rates[0]) if rates[0] > 0 else np.inf
    low, high = np.quantile(ratios, tails, method="nearest")
    return BatchGap(
        shuffled=Interval(float(rates[0]), float(ends[0, 0]), float(ends[1, 0]), level),
        held_out=Interval(float(rates[1]), float(ends[0, 1]), float(ends[1, 1]), level),
        difference=Interval(mean, mean - half, mean + half, level),
        standard_error=error,
        ratio=Interval(ratio, min(float(low), ratio), max(float(high), ratio), level),
        batch_labels=batches,
        by_batch=by_batch,
    )
