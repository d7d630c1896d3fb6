"""How much worse a model is on a batch that it has not seen: the gap that shuffled folds hide."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError
from batchsense.experiments.row_labels import in_one_order
from batchsense.experiments.shown import Shown
from batchsense.experiments.validation.answers import (
    Answers,
    batch_notes,
    check_classes,
    check_features,
    read_answers,
    refuse_single_classes,
)
from batchsense.experiments.validation.folds import (
    OutOfFold,
    ShuffledFolds,
    apart,
    batch_folds,
    fit_folds,
    indexable_rows,
    row_count,
    shuffled_folds,
)
from batchsense.experiments.validation.measures import ERROR_RATE, Measure, Scorer, choose_measure
from batchsense.experiments.validation.over_groups import Clusters
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.variation.interval import Interval

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BatchGap(Shown):
    """How wrong a model is under two ways of testing, on the same rows.

    Attributes
    ----------
    shuffled : Interval
        Error when the rows of every batch are spread over all folds, mean over batches and
        repetitions.
    held_out : Interval
        Error when each batch in turn is left out of training, mean over batches.
    difference : Interval
        ``held_out`` minus ``shuffled``, compared batch by batch.
    standard_error : float
        Standard error of ``difference`` over the batches.
    ratio : Interval or None
        ``held_out`` over ``shuffled``; unbounded above where shuffled folds show no error. None
        where neither shows any, and for a score, whose zero means nothing.
    batch_labels : tuple
        The batches, sorted.
    by_batch : array of shape (batches, 2)
        Error of each batch's rows: shuffled, held out.
    sizes : array of shape (batches,)
        Rows of each batch.
    measure : str
        What the numbers are: ``"error rate"``, ``"mean squared error"`` or the name of a scorer.
    greater_is_better : bool
        Whether they are scores instead of errors; then a gap is negative.
    notes : tuple of Note
        Few or unequal batches, rare classes, classes of one batch only.
    by_row : array of shape (specimens, 2) or None
        Loss of each row, shuffled and held out, where blocks were kept apart.
    """

    shuffled: Interval
    held_out: Interval
    difference: Interval
    standard_error: float
    ratio: Interval | None
    batch_labels: tuple[Hashable, ...]
    by_batch: Floats
    sizes: Integers
    measure: str
    greater_is_better: bool = False
    notes: tuple[Note, ...] = ()
    by_row: Floats | None = None

    @override
    def headline(self) -> str:
        apart = self.difference
        return (
            f"{self.measure} {self.shuffled.estimate:.3g} on shuffled folds, "
            f"{self.held_out.estimate:.3g} on batches left out; difference {apart.estimate:.3g} "
            f"({apart.low:.3g} to {apart.high:.3g}) over {len(self.sizes)} batches"
        )

    @override
    def to_frame(self) -> pd.DataFrame:
        """Both errors of each batch, a row for each."""
        import pandas as pd

        columns = {"rows": self.sizes, "shuffled": self.by_batch[:, 0]}
        columns["held_out"] = self.by_batch[:, 1]
        return pd.DataFrame(columns, index=list(self.batch_labels)).rename_axis("batch_label")

    @property
    def worse(self) -> int:
        """Number of batches on which the model is worse when they are held out."""
        return int((self.losses > 1e-12).sum())

    @property
    def better(self) -> int:
        """Number of batches on which it is better when they are held out."""
        return int((self.losses < -1e-12).sum())

    @property
    def losses(self) -> Floats:
        """How much worse each batch is when held out, shape (batches,); positive is worse."""
        change = self.by_batch[:, 1] - self.by_batch[:, 0]
        return -change if self.greater_is_better else change


def batch_gap(
    estimator: Any,
    X: Any,
    y: npt.ArrayLike,
    batch_labels: npt.ArrayLike,
    folds: ShuffledFolds = ShuffledFolds(),
    level: float = 0.95,
    scoring: str | Scorer | None = None,
    progress: Progress = silent,
) -> BatchGap:
    """Compare the error of a model on shuffled folds with that on batches left out.

    With k batches, both ways use k folds, and every row is judged by a model that did not learn
    from it. The rows of each batch are measured twice: once with other rows of their batch in
    training, once without. Rows of one batch are alike, so they are no independent evidence: all
    intervals are over *batches*, by Student's t with k − 1 degrees of freedom, and every batch
    counts the same. They speak of other batches like these, and leave out that the k models share
    training rows. In simulation they hold the truth 89 to 96 times of 100, from two batches on, but
    only 61 to 90 times where errors are so rare that most batches show none.

    An estimator that requests ``batch_labels`` by scikit-learn metadata routing, as
    :class:`~batchsense.experiments.BatchCorrector` does in a Pipeline, is given those of its own
    rows, in training and in prediction; routing need not be enabled. A search with a splitter for
    groups gets them as ``groups``. A batch left out is always unseen, so the corrector must be
    ``BatchCorrector(unseen="estimate")``.

    Parameters
    ----------
    estimator : scikit-learn classifier or regressor
        Cloned for every fold.
    X : array, sparse matrix or data frame of shape (specimens, features)
        Observations; handed to the estimator as they are.
    y : array of shape (specimens,)
        What is to be predicted: labels or numbers.
    batch_labels : array of shape (specimens,)
        The batch of each specimen. Of ``X``, ``y`` and these, what carries an index is matched by
        its labels.
    folds : ShuffledFolds
        How often the shuffled folds are drawn, and their seed.
    level : float
        Confidence level.
    scoring : str or callable, optional
        What is measured: a scorer of scikit-learn by name, or ``scorer(estimator, X, y)``. By
        default the error rate of a classifier, the mean squared error of a regressor. It is asked
        about the rows of one batch at a time, which models of several folds have answered; where it
        ranks rows, as ``"roc_auc"`` does, it ranks across these models.
    progress : Progress
        Told of each fold.

    Returns
    -------
    BatchGap
        Both errors, their paired difference and ratio, with intervals.

    Raises
    ------
    DataError
        Fewer than two batches, arrays of different length, labels of rows that differ, missing
        labels, a column of ``X`` that is ``y`` itself, a corrector that
        refuses unseen batches, rows that the estimator refuses (it says in which fold), or a
        scoring that is not defined on a batch.
    ConfoundedError
        Every class lies in one batch only.
    UnresolvedError
        Without one of the batches a single class is left to learn from.

    References
    ----------
    Soneson, Gerster and Delorenzi (2014), "Batch effect confounding leads to strong bias in
    performance estimates obtained by cross-validation", PLOS ONE 9(6).

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
    ordered = in_one_order({"X": X, "y": y, "batch_labels": batch_labels})
    y, batch_labels = ordered["y"], ordered["batch_labels"]
    answers = read_answers(row_count(X), y, batch_labels)
    remarks = check_features(X, {"y": y, "batch_labels": batch_labels})
    found = gap_of(estimator, X, answers, folds, level, scoring, progress)
    return replace(found, notes=(*found.notes, *remarks))


def gap_of(
    estimator: Any,
    X: Any,
    answers: Answers,
    folds: ShuffledFolds,
    level: float = 0.95,
    scoring: str | Scorer | None = None,
    progress: Progress = silent,
    blocks: Integers | None = None,
) -> BatchGap:
    """Do the work of :func:`batch_gap` on answers that were read already.

    With ``blocks``, of shape (specimens,), rows of one block are never in training and predicted at
    once, in either way of testing, and intervals are over batches and blocks; ``scoring`` is None.
    """
    from sklearn.base import is_classifier

    repeats = folds.repeats
    if repeats < 1 or not 0 < level < 1:
        raise DataError(f"repeats={repeats}, level={level}; give at least 1, and 0 < level < 1")
    measure = choose_measure(estimator, scoring)
    _refuse_refusing(estimator)
    classifying = is_classifier(estimator)
    notes = (*(check_classes(answers) if classifying else ()), *batch_notes(answers))
    count = len(answers.sizes)
    X, seeds = indexable_rows(X), np.random.SeedSequence(folds.seed).generate_state(repeats)

    def errors(rows: list[Integers], names: list[str], task: str, done: int, seed: int) -> Floats:
        asked = unseen = rows
        if blocks is not None:
            whole = dict(zip(map(id, rows), names, strict=True))
            rows, asked, unseen = apart(rows, answers, blocks, seed)
            names = [whole[id(fold)] for fold in asked]
            if classifying:
                refuse_single_classes(answers, unseen)
        models = []
        for model in fit_folds(estimator, X, answers, unseen, names):
            models.append(model)
            total = len(rows) * (repeats if done >= 0 else 1)
            progress(task, max(done, 0) * len(rows) + len(models), total)
        found = OutOfFold(X, answers, models, rows, asked)
        return measure.by_batch(found) if blocks is None else measure.by_row(found)

    names = [f"shuffled fold {fold + 1} left out" for fold in range(count)]
    shuffled = np.zeros(count if blocks is None else len(answers.codes))
    for done, state in enumerate(map(int, seeds)):
        rows, task = shuffled_folds(answers, classifying, state), "testing on shuffled folds"
        shuffled += errors(rows, names, task, done, state)
    names = [f"batch {named} left out" for named in answers.batch_levels]
    held_out = errors(batch_folds(answers), names, "testing on batches left out", -1, int(seeds[0]))
    found = np.column_stack([shuffled / repeats, held_out])
    return _summary(measure, found, answers, level, notes, blocks)


def _refuse_refusing(estimator: Any) -> None:
    from batchsense.experiments.correction.estimator import BatchCorrector

    parts = {"": estimator}
    if hasattr(estimator, "get_params"):
        parts |= estimator.get_params(deep=True)
    for name, part in parts.items():
        if isinstance(part, BatchCorrector) and part.unseen == "refuse":
            raise DataError(
                "BatchCorrector refuses batches that it was not fitted with, and a batch left out "
                "is always one: say BatchCorrector(unseen='estimate'), which takes the mean of the "
                "rows to be predicted to that of the others",
                where=name or None,
            )


def _summary(
    measure: Measure,
    found: Floats,
    answers: Answers,
    level: float,
    notes: tuple[Note, ...],
    blocks: Integers | None,
) -> BatchGap:
    """Put both errors side by side: of each batch, or, with blocks, of each row."""
    by_row = None if blocks is None else found
    by_batch = found
    if blocks is not None:
        sums = [np.bincount(answers.codes, losses) for losses in found.T]
        by_batch = np.column_stack(sums) / answers.sizes[:, None]
    over = Clusters(answers.codes, blocks, level)
    both = by_batch if blocks is None else found
    difference = both[:, 1] - both[:, 0]
    lowest = -np.inf if measure.greater_is_better else 0.0
    highest = 1.0 if measure.name == ERROR_RATE else np.inf
    if measure.name == ERROR_RATE:
        shuffled, held_out = over.rate(both[:, 0]), over.rate(both[:, 1])
        apart = over.change(difference, (shuffled.estimate, held_out.estimate))
        if same := over.alike(both):
            notes = (*notes, Note("batches_alike", same))
    else:
        shuffled, held_out = over.mean(both[:, 0]), over.mean(both[:, 1])
        apart = over.mean(difference, paired=True)
    return BatchGap(
        shuffled=_within(shuffled, lowest, highest),
        held_out=_within(held_out, lowest, highest),
        difference=_within(apart, -highest, highest),
        standard_error=over.error(difference),
        ratio=None if measure.greater_is_better else over.ratio(by_batch, both),
        batch_labels=answers.batch_levels,
        by_batch=by_batch,
        sizes=answers.sizes,
        measure=measure.name,
        greater_is_better=measure.greater_is_better,
        notes=notes,
        by_row=by_row,
    )


def _within(interval: Interval, lowest: float, highest: float) -> Interval:
    low, high = max(interval.low, lowest), min(interval.high, highest)
    return Interval(interval.estimate, low, high, interval.level)
