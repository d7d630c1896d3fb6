"""How wrong a model is on the rows of a batch: an error rate, a squared error, or any scorer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.experiments.validation.folds import OutOfFold, RowsOutOfFold, take_rows
from batchsense.variation.grouped_moments import GroupedMoments

Scorer = Callable[[Any, Any, Any], float]

ERROR_RATE = "error rate"
SQUARED_ERROR = "mean squared error"


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured on the rows of a batch."""

    name: str  #: In words, such as ``"error rate"``
    greater_is_better: bool  #: Whether it is a score; else a loss, which is never negative
    #: ``scorer(estimator, X, y)``, greater is better; None for the two built-in losses.
    scorer: Scorer | None = None

    def by_batch(self, found: OutOfFold) -> Floats:
        """Measure the rows of each batch by the models that did not see them.

        Shapes: the result (batches,).
        """
        answers = found.answers
        if self.scorer is None:
            of_batches = GroupedMoments.of(self.by_row(found), answers.codes)
            return np.concatenate([of_batches[code].mean for code in of_batches])
        return np.array([self._score(found, code) for code in range(len(answers.sizes))])

    def by_row(self, found: OutOfFold) -> Floats:
        """The loss of each row, (specimens,), where there is no scorer."""
        values, predicted = found.answers.values, found.respond("predict")
        if self.name == ERROR_RATE:
            return np.asarray(predicted != values, dtype=np.float64)
        return np.asarray((predicted.reshape(len(values)) - values) ** 2)

    def _score(self, found: OutOfFold, code: int) -> float:
        from sklearn.exceptions import UndefinedMetricWarning

        assert self.scorer is not None
        rows = np.flatnonzero(found.answers.codes == code)
        named = found.answers.batch_levels[code]
        with warnings.catch_warnings():
            # What is undefined is refused below, by the name of the batch.
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            try:
                value = float(
                    self.scorer(
                        RowsOutOfFold(found, rows),
                        take_rows(found.X, rows),
                        found.answers.values[rows],
                    )
                )
            except ValueError as error:
                raise DataError(
                    str(error).split("\n")[0], where=f"{self.name}, batch {named}"
                ) from error
        if not np.isfinite(value):
            raise DataError(
                f"{self.name} is not defined on the {len(rows)} rows of batch {named} alone; "
                "choose a scoring that is defined on every batch, such as 'neg_log_loss' or "
                "'neg_mean_absolute_error'"
            )
        return value if self.greater_is_better else -value


def choose_measure(estimator: Any, scoring: str | Scorer | None) -> Measure:
    """Find the measure that suits an estimator, or the one that is asked for."""
    from sklearn.base import is_classifier, is_regressor
    from sklearn.metrics import get_scorer

    if callable(scoring):
        name = str(getattr(scoring, "__name__", "score"))
        return Measure("score" if name.startswith("<") else name, True, scoring)
    if scoring is not None:
        try:
            scorer = get_scorer(scoring)
        except (ValueError, TypeError):
            raise DataError(
                f"scoring={scoring!r} is no scorer of scikit-learn; "
                "sklearn.metrics.get_scorer_names() lists them"
            ) from None
        loss = scoring.startswith("neg_")
        return Measure(scoring.removeprefix("neg_").replace("_", " "), not loss, scorer)
    if is_classifier(estimator):
        return Measure(ERROR_RATE, False)
    if is_regressor(estimator):
        return Measure(SQUARED_ERROR, False)
    raise DataError(
        f"{type(estimator).__name__} is neither a classifier nor a regressor; say what counts by "
        "scoring="
    )
