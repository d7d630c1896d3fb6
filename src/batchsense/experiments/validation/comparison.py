"""A column of the sheet predicted on batches that the model has not seen, corrected and not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from typing_extensions import override

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments.counts import own_log_count_table
from batchsense.experiments.dependence import (
    SharedRows,
    dependent_rows,
    shared_rows,
)
from batchsense.experiments.design import Design
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.readings import doubt
from batchsense.experiments.shown import Shown
from batchsense.experiments.statistics.confounding import cramers_v
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.columns import (
    Factor,
    batch_factor,
    column,
    kept_factors,
)
from batchsense.experiments.tables.table import Table
from batchsense.experiments.validation.answers import Answers, check_classes
from batchsense.experiments.validation.folds import ShuffledFolds
from batchsense.experiments.validation.gap import BatchGap, gap_of
from batchsense.experiments.validation.measures import ERROR_RATE
from batchsense.experiments.validation.models import PlainModel, guessing, make_model
from batchsense.experiments.validation.over_groups import Clusters, blocks_apart
from batchsense.experiments.value_kinds import refuse_raw
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.variation.interval import Interval, student_quantile
from batchsense.variation.sample_size import least_number

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

Verdict = Literal["gap", "no_gap_seen", "cannot_tell"]

#: More batches than any study has: where not even these would tell, no number is given.
_MOST_BATCHES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedGap:
    """The gap of a model behind one correction.

    Attributes
    ----------
    correction : str
        ``"none"``, ``"linear"`` or ``"combat"``.
    gap : BatchGap
        Both errors.
    change : Interval or None
        Error on batches left out minus that without correction, batch by batch; None for
        ``"none"``.
    """

    correction: str
    gap: BatchGap
    change: Interval | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GapComparison(Shown):
    """What shuffled folds promise and what a new batch gets, with and without correction.

    Attributes
    ----------
    batches, predicted : Factor
        The columns of the sheet.
    model : str
        Name of the model.
    ways : tuple of CorrectedGap
        Without correction first.
    guess : Interval
        Error on batches left out of a model that looks at no feature.
    association : float or None
        Cramér's V of classes and batches; None for numbers.
    filled : int
        Missing values that were filled inside the folds.
    notes : tuple of Note
        What the reader must know.
    shared : tuple of SharedRows
        Columns that show that rows are no independent specimens: then no gap is excluded.
    blocks : str or None
        The column whose entries were kept apart: none in training and predicted at once.
    """

    batches: Factor
    predicted: Factor
    model: str
    ways: tuple[CorrectedGap, ...]
    guess: Interval
    association: float | None
    filled: int
    notes: tuple[Note, ...]
    shared: tuple[SharedRows, ...] = ()
    blocks: str | None = None

    @override
    def headline(self) -> str:
        return (
            f"{self.verdict}; {self.predicted.name} by {self.model}: {self.ways[0].gap.headline()}"
        )

    @override
    def to_frame(self) -> pd.DataFrame:
        """Both errors of each batch under each correction, a row for each pair."""
        import pandas as pd

        frames = {way.correction: way.gap.to_frame() for way in self.ways}
        return pd.concat(frames, names=["correction"])

    @property
    def verdict(self) -> Verdict:
        """Whether a model errs more on a batch that it has not seen.

        ``"gap"``: the interval of the difference lies above zero. ``"no_gap_seen"``: it does not,
        and a gap as large as the shuffled error itself is excluded. ``"cannot_tell"``: not even
        that is excluded, or rows of one subject lie in training and in what is predicted, so that
        no error is that of new subjects.
        """
        if self.ways[0].gap.difference.low > 0:
            return "gap"
        return "no_gap_seen" if self.excluded and not self.shared else "cannot_tell"

    @property
    def excluded(self) -> bool:
        """Whether the interval of the difference excludes a gap as large as the shuffled error.

        Also where no error was seen at all: then there is no size to be excluded.
        """
        gap = self.ways[0].gap
        none = gap.shuffled.estimate == gap.held_out.estimate == 0
        return none or gap.difference.high <= gap.shuffled.estimate

    @property
    def batches_needed(self) -> int | None:
        """Number of batches like these that would tell.

        The least K with 2·t(K−1)·sd/√K at most the shuffled error: an interval as short as that
        either lies above zero or excludes a gap as large as the shuffled error. None where a
        thousand would not do.
        """
        gap = self.ways[0].gap
        level = gap.difference.level
        # Where batches do not differ, what the rows leave open.
        of_rows = (gap.difference.high - gap.difference.low) / 2
        of_rows /= student_quantile(int(gap.sizes.sum()) - 1, level)
        spread = (gap.standard_error or of_rows) * math.sqrt(len(gap.sizes))

        def tells(count: int) -> bool:
            half = student_quantile(count - 1, level) * spread / math.sqrt(count)
            return 2 * half <= gap.shuffled.estimate

        count = least_number(tells, 2, _MOST_BATCHES)
        return count if count <= _MOST_BATCHES else None


def compare_gaps(
    table: Table | AnnData,
    batch_labels: str,
    predict: str,
    model: PlainModel = PlainModel(),
    folds: ShuffledFolds = ShuffledFolds(repeats=3),
    kinds: ColumnKinds = ColumnKinds(),
    progress: Progress = silent,
    blocks: str | None = None,
) -> GapComparison:
    """Predict a column of the sheet on shuffled folds and on batches left out.

    Everything that learns, learns inside the folds: a correction from the training rows and their
    batch labels, never from the answers; the rows of a batch left out are taken to the others by
    their own mean. See :func:`batch_gap` for the two ways of testing.

    Parameters
    ----------
    table : Table or AnnData
        The observations and their sheet. Counts are learned from as log counts per million of each
        specimen's own library.
    batch_labels : str
        The column of the sheet with the batch labels.
    predict : str
        The column to be predicted: classes or numbers, told apart as in
        :func:`~batchsense.experiments.tables.columns.kept_factors`.
    model : PlainModel
        Name, corrections before it, and whether features are standardised.
    folds : ShuffledFolds
        How often the shuffled folds are drawn, and the seed, which is also that of a forest.
    kinds : ColumnKinds
        Holds ``predict``, where its kind is to be declared.
    progress : Progress
        Told of the folds.
    blocks : str, optional
        The column that says which rows come from one subject: no subject is in training and
        predicted at once, so that the errors are those of new subjects.

    Returns
    -------
    GapComparison
        Errors, differences and ratios with intervals over batches, and a verdict.

    Raises
    ------
    DataError
        Columns that do not exist, are the same or have missing labels; a model that cannot predict
        them; observations that do not vary.
    ConfoundedError, UnresolvedError
        As :func:`batch_gap`, or each batch is of one block only; the latter also for intensities,
        which no correction inside the folds and no distance between specimens suits.

    Examples
    --------
    >>> from batchsense.experiments import Table, compare_gaps
    >>> rng = np.random.default_rng(0)
    >>> kind, month = np.tile(["ill", "well"], 60), np.repeat([*"ABCDEF"], 20)
    >>> shift = 2.5 * np.repeat(np.arange(6), 20)
    >>> X = ((kind == "ill") + shift + 0.1 * rng.normal(size=120))[:, None]
    >>> found = compare_gaps(Table.from_arrays(X, {"month": month, "kind": kind}), "month", "kind")
    >>> found.verdict
    'gap'
    >>> [round(float(way.gap.held_out.estimate), 2) for way in found.ways]
    [0.83, 0.0]
    """
    if predict == batch_labels:
        raise DataError(f"column {predict!r} cannot be both the batch and predicted")
    table = as_table(table)
    batches = batch_factor(table, batch_labels)
    predicted, kind_notes = _predicted(table, predict, batch_labels, kinds)
    # fmax and fmin pass over missing values; NaN where all are missing fails the comparison.
    if not (np.fmax.reduce(table.values) > np.fmin.reduce(table.values)).any():
        raise DataError(
            "no feature varies: there is nothing to predict from", where=table.source.matrix
        )
    _refuse_doubtful(predicted, batches)
    table = own_log_count_table(table)
    refuse_raw(table.values_read(), "the comparison")
    apart = blocks_apart(table, blocks, batches, predicted)
    kind = predicted.kind
    answers = _answers(predicted, batches)
    name = model.name or ("nearest" if kind == "categorical" else "ridge")
    filled = int(np.isnan(table.values).sum())
    inside: dict[str, Any] = {
        "fill": filled > 0,
        "standardise": model.standardise,
        "seed": folds.seed,
    }
    # All pipelines are made before any is fitted: a wrong name costs no time.
    makers = {
        one: make_model(name, kind, one, **inside)
        for one in dict.fromkeys(["none", *model.corrections])
    }
    ways: list[CorrectedGap] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for one, estimator in makers.items():
            told = _told(progress, one)
            gap = gap_of(estimator, table.values, answers, folds, progress=told, blocks=apart)
            over = Clusters(batches.codes, apart, gap.difference.level)
            change = _change(gap, ways[0].gap, over) if ways else None
            ways.append(CorrectedGap(one, gap, change))
    shared = shared_rows(table, Design(batches, (predicted,)), apart)
    guess = gap_of(guessing(kind), table.values, answers, ShuffledFolds(1, folds.seed))
    return GapComparison(
        batches=batches,
        predicted=predicted,
        model=name,
        ways=tuple(ways),
        guess=guess.held_out,
        association=_association(predicted, batches),
        filled=filled,
        notes=(
            *table.notes,
            *kind_notes,
            *ways[0].gap.notes,
            *_remarks(ways, filled, predict, batch_labels),
            *_dependent(shared),
            *_unexpected(said),
        ),
        shared=shared,
        blocks=blocks,
    )


def _association(predicted: Factor, batches: Factor) -> float | None:
    return None if predicted.values is not None else cramers_v(predicted.codes, batches.codes)


def _answers(predicted: Factor, batches: Factor) -> Answers:
    values = predicted.values
    return Answers(
        np.array(predicted.levels)[predicted.codes] if values is None else values,
        np.array(batches.levels)[batches.codes],
        batches.levels,
        batches.codes,
        batches.counts,
        (predicted.name, batches.name),
    )


def _refuse_doubtful(predicted: Factor, batches: Factor) -> None:
    """Ask for the kind of numbers that batches left out could not test if they were classes."""
    if predicted.otherwise is None or predicted.kind == "categorical":
        return
    try:
        check_classes(_answers(predicted.otherwise, batches))
    except (ConfoundedError, UnresolvedError) as error:
        says = f"Read as classes: {error}. Read as a number: it can be predicted."
        relations = error.aliased if isinstance(error, ConfoundedError) else ()
        raise doubt([predicted], says, relations) from None


def _predicted(
    table: Table, predict: str, batch_labels: str, kinds: ColumnKinds
) -> tuple[Factor, tuple[Note, ...]]:
    labels = column(table.sheet, predict, table.source.sheet)
    if len(set(labels)) == 1:
        raise DataError(
            f"column {predict!r} has one value only ({labels[0]!r}); there is nothing to predict",
            where=table.source.sheet,
        )
    factors, notes = kept_factors(table, [predict], batch_labels, kinds)
    return factors[0], notes


def _change(gap: BatchGap, plain: BatchGap, over: Clusters) -> Interval:
    if gap.by_row is None or plain.by_row is None:
        change = gap.by_batch[:, 1] - plain.by_batch[:, 1]
    else:
        change = gap.by_row[:, 1] - plain.by_row[:, 1]
    if gap.measure == ERROR_RATE:
        return over.change(change, (plain.held_out.estimate, gap.held_out.estimate))
    return over.mean(change, paired=True)


def _told(progress: Progress, correction: str) -> Progress:
    if correction == "none":
        return progress
    return lambda task, done, total: progress(f"{task}, {correction}", done, total)


def _remarks(
    ways: Sequence[CorrectedGap], filled: int, predict: str, batch_labels: str
) -> list[Note]:
    notes = []
    if len(ways) > 1:
        message = (
            f"Corrected inside the folds, the rows of a {batch_labels} left out are taken to "
            "the others by their own mean, all at once and without their answers. That "
            f"supposes the same mixture of {predict} as elsewhere, and several rows to take a "
            "mean of: a single new row cannot be corrected."
        )
        notes.append(Note("left_out_by_its_own_mean", message))
    if filled:
        message = f"{filled:,} missing values were filled with the median of the training rows."
        notes.append(Note("missing_values_filled", message))
    return notes


def _dependent(shared: Sequence[SharedRows]) -> list[Note]:
    return [
        dependent_rows(
            one.column,
            "the folds",
            f"{one.counted}. A model that learned from other rows of the same {one.column} errs "
            f"less than it would on a new one: on shuffled folds, and on batches left out where "
            f"one {one.column} lies in several. {one.mended('keeps them apart')}",
        )
        for one in shared
    ]


def _unexpected(said: Sequence[warnings.WarningMessage]) -> list[Note]:
    first_lines = [str(one.message).strip().split("\n")[0] for one in said]
    return [
        Note("model_warned", f"The model warned {first_lines.count(line)} times: {line}")
        for line in dict.fromkeys(first_lines)
    ]
