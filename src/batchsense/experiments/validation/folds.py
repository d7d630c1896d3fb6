"""The two ways to divide the rows, and a model for each fold that answers for the rows left out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Integers
from batchsense.errors import DataError
from batchsense.experiments.validation.answers import Answers

#: What a fitted model may be asked for.
RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")
#: Names under which an estimator may request the batch labels: its own, and that of splitters.
LABEL_NAMES = ("batch_labels", "groups")
#: Blocks are kept apart in so many parts: four fifths of them are left to learn from, and the fits
#: are five times as many.
PARTS = 5


@dataclass(frozen=True, slots=True)
class ShuffledFolds:
    """How the folds that mix all batches are drawn; there are as many as there are batches.

    Attributes
    ----------
    repeats : int
        How often they are drawn anew.
    seed : int
        Seed of the shuffle.
    """

    repeats: int = 5
    seed: int = 0


def shuffled_folds(answers: Answers, stratified: bool, seed: int) -> list[Integers]:
    """The rows of each fold: those of every batch spread over as many folds as there are batches.

    Stratified, every class is spread evenly over the folds, as far as it has rows.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    count = len(answers.batch_levels)
    if stratified:
        _, members = np.unique(answers.values, return_counts=True)
        stratified = bool(members.max() >= count)  # else scikit-learn refuses
    make = StratifiedKFold if stratified else KFold
    splitter = make(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Rare classes have a note of their own, once and by name.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        splits = splitter.split(answers.codes, answers.values)
        return [left_out for _, left_out in splits]


def batch_folds(answers: Answers) -> list[Integers]:
    """Leave out one batch at a time."""
    return [np.flatnonzero(answers.codes == code) for code in range(len(answers.sizes))]


def apart(
    folds: Sequence[Integers], answers: Answers, blocks: Integers, seed: int
) -> tuple[list[Integers], list[Integers], list[Integers]]:
    """Divide folds so that no block lies in training and in what is predicted.

    Blocks are dealt out to at most five parts, alike in what is predicted. Each fold meets each
    part: their common rows are predicted by a model that saw neither the fold nor the part.

    Gives three lists: rows that count; rows the model answers for, all of the fold, for a
    correction takes an unseen batch by its mean; rows that it does not learn from.
    """
    sizes = np.bincount(blocks)
    _, codes = np.unique(answers.values, return_inverse=True)
    means = np.bincount(blocks, codes) / sizes
    chance = np.random.default_rng(seed).permutation(len(sizes))
    parts = np.empty(len(sizes), dtype=np.int64)
    parts[np.lexsort((chance, means))] = np.arange(len(sizes)) % min(PARTS, len(sizes))
    part = parts[blocks]
    left_out, asked, unseen = [], [], []
    for fold in folds:
        inside = np.zeros(len(part), dtype=bool)
        inside[fold] = True
        for one in np.unique(part[fold]):
            left_out.append(np.flatnonzero(inside & (part == one)))
            asked.append(fold)
            unseen.append(np.flatnonzero(inside | (part == one)))
    return left_out, asked, unseen


def requested_labels(estimator: Any) -> dict[str, list[str]]:
    """The names under which ``fit`` and each response want the batch labels, where they want them.

    Asked by scikit-learn metadata routing; an estimator that cannot say wants nothing.
    """
    from sklearn.utils.metadata_routing import get_routing_for_object

    with _routed(True):
        try:
            routing = get_routing_for_object(estimator)
            names = {one: sorted(routing.consumes(one, LABEL_NAMES)) for one in ("fit", *RESPONSES)}
        except RuntimeError:  # a meta-estimator that has no routing
            return {}
    return {method: wanted for method, wanted in names.items() if wanted}


@dataclass(eq=False)
class OutOfFold:
    """One model for each fold, fitted on the other rows, and its answers for the rows left out."""

    X: Any  #: (specimens, features): as it was given
    answers: Answers  #: What is to be predicted, and the batches
    models: list[Any]  #: One for each fold, fitted
    left_out: list[Integers]  #: The rows of each fold; together all rows, each once
    #: The rows that each model is given at once, where these are more than those that count.
    asked: list[Integers] | None = None
    _known: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def classes(self) -> npt.NDArray[Any]:
        """All classes, sorted."""
        return np.unique(self.answers.values)

    def respond(self, method: str) -> npt.NDArray[Any]:
        """The response of every row, by the model that did not learn from it.

        Shapes: the result (specimens,).
        """
        if method not in self._known:
            parts = []
            asked = self.asked or self.left_out
            for model, rows, counting in zip(self.models, asked, self.left_out, strict=True):
                wanted = requested_labels(model)
                labels = self.answers.given_labels[rows]
                given = dict.fromkeys(wanted.get(method, ()), labels)
                with _routed(bool(wanted)), _blamed(f"{type(model).__name__} cannot {method}"):
                    part = getattr(model, method)(take_rows(self.X, rows), **given)
                part = self._aligned(np.asarray(part), model, method)
                parts.append(part if rows is counting else part[np.isin(rows, counting)])
            joined = np.concatenate(parts)
            placed = np.empty_like(joined)
            placed[np.concatenate(self.left_out)] = joined
            self._known[method] = placed
        return self._known[method]

    def _aligned(self, part: npt.NDArray[Any], model: Any, method: str) -> npt.NDArray[Any]:
        """Put the columns of the classes that a model knows where they are among all classes."""
        known = getattr(model, "classes_", None)
        if method == "predict" or known is None or np.array_equal(known, self.classes):
            return part
        if method == "decision_function":
            raise DataError(
                "a fold has not seen all classes, so its decision values cannot stand beside those "
                "of the others; choose a scoring that asks for predictions or probabilities"
            )
        absent = 0.0 if method == "predict_proba" else -np.inf
        wide = np.full((len(part), len(self.classes)), absent)
        wide[:, np.searchsorted(self.classes, known)] = part
        return wide


class RowsOutOfFold:
    """Some rows, answered out of fold: looks like a fitted estimator to a scorer.

    Scorers of scikit-learn hand no batch labels on to ``predict``; here the labels went to each
    model already.
    """

    def __init__(self, whole: OutOfFold, chosen: Integers) -> None:
        self._whole = whole
        self._chosen = chosen

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """All classes, sorted."""
        return self._whole.classes

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        return get_tags(self._whole.models[0])

    def __getattr__(self, name: str) -> Any:
        if name not in RESPONSES or not hasattr(self._whole.models[0], name):
            raise AttributeError(f"the model has no {name}")

        def respond(X: Any) -> npt.NDArray[Any]:
            return self._whole.respond(name)[self._chosen]

        respond.__name__ = name  # scorers of scikit-learn read it
        return respond


def fit_folds(
    estimator: Any, X: Any, answers: Answers, folds: Sequence[Integers], names: Sequence[str]
) -> Iterator[Any]:
    """Fit a clone of an estimator for each fold, on all rows that are not in it.

    Batch labels reach it where it requests them, those of its own rows only.
    """
    from sklearn.base import clone

    wanted = requested_labels(estimator)
    inside = np.ones(len(answers.values), dtype=bool)
    for rows, name in zip(folds, names, strict=True):
        inside[rows] = False
        train = np.flatnonzero(inside)
        inside[rows] = True
        given = dict.fromkeys(wanted.get("fit", ()), answers.given_labels[train])
        with _routed(bool(wanted)), _blamed(f"{type(estimator).__name__} with {name}"):
            model = clone(estimator).fit(take_rows(X, train), answers.values[train], **given)
        # A search predicts by what it found to be best, which takes the labels; itself it does not.
        yield getattr(model, "best_estimator_", model)


def row_count(X: Any) -> int:
    """Count the rows of an array, sparse matrix, data frame or list."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def indexable_rows(X: Any) -> Any:
    """Observations of which rows can be taken: data frames stay, lists become arrays."""
    if hasattr(X, "tocsr"):
        return X.tocsr()
    return X if hasattr(X, "shape") else np.asarray(X)


def take_rows(X: Any, rows: Integers) -> Any:
    """Take rows of an array, sparse matrix or data frame."""
    from sklearn.utils import _safe_indexing

    return _safe_indexing(X, rows)


@contextlib.contextmanager
def _routed(wanted: bool) -> Iterator[None]:
    """Turn metadata routing on where labels are wanted; else leave the user's setting alone."""
    from sklearn import config_context

    with config_context(enable_metadata_routing=True) if wanted else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _blamed(place: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, DataError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(reason, where=place) from error
