"""Batch labels reach the estimators that request them, row by row, and nothing else does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.utils._metadata_requests import _RoutingNotSupportedMixin

from batchsense.errors import DataError
from batchsense.experiments import BatchCorrector, ShuffledFolds, batch_gap

ONCE = ShuffledFolds(repeats=1)


def shifted(rows=20, count=6, seed=0, shift=2.5):
    """Two classes, and batches that shift all features by more than the classes differ."""
    rng = np.random.default_rng(seed)
    y = np.tile(["ill", "well"], rows * count // 2)
    labels = np.repeat([*"ABCDEFGHIJ"][:count], rows)
    X = (y == "ill")[:, None] * [1.0, 0.0, 0.0] + 0.3 * rng.normal(size=(len(y), 3))
    return X + shift * np.repeat(np.arange(count), rows)[:, None], y, labels


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers which rows and labels it was given; the first feature is the number of the row."""

    __metadata_request__fit = {"batch_labels": True}  # noqa: RUF012
    __metadata_request__predict = {"batch_labels": True}  # noqa: RUF012
    seen: list[tuple[str, np.ndarray, np.ndarray]]

    def fit(self, X, y, batch_labels=None):
        """Remember."""
        self.classes_ = np.unique(y)
        self.rows_ = X[:, 0].astype(int)
        type(self).seen.append(("fit", self.rows_, np.asarray(batch_labels)))
        return self

    def predict(self, X, batch_labels=None):
        """Remember, and check that nothing was seen before."""
        rows = X[:, 0].astype(int)
        assert not set(rows) & set(self.rows_)
        type(self).seen.append(("predict", rows, np.asarray(batch_labels)))
        return np.repeat(self.classes_[0], len(X))


def test_every_row_travels_with_its_own_label():
    """In fit and predict the labels are those of the rows; no row is predicted by its teacher."""
    _, y, labels = shifted()
    Spy.seen = []
    batch_gap(Spy(), np.arange(120.0)[:, None], y, labels, folds=ShuffledFolds(repeats=2))

    for _, rows, given in Spy.seen:
        np.testing.assert_array_equal(given, labels[rows])
    predicted = np.concatenate([rows for what, rows, _ in Spy.seen if what == "predict"])
    np.testing.assert_array_equal(np.bincount(predicted), np.full(120, 3))
    last = [rows for what, rows, _ in Spy.seen if what == "predict"][-6:]
    assert [len(set(labels[rows])) for rows in last] == [1] * 6


def test_a_pipeline_gets_them_without_any_setting():
    """The corrector works inside, equals a loop by hand, and the user's setting is as before."""
    X, y, labels = shifted()
    model = make_pipeline(BatchCorrector(unseen="estimate"), NearestCentroid())
    found = batch_gap(model, X, y, labels, folds=ONCE)
    errors = []
    for name in "ABCDEF":
        train = labels != name
        corrector = BatchCorrector(unseen="estimate").fit(X[train], batch_labels=labels[train])
        fitted = NearestCentroid().fit(
            corrector.transform(X[train], batch_labels=labels[train]), y[train]
        )
        corrected = corrector.transform(X[~train], batch_labels=labels[~train])
        errors.append((fitted.predict(corrected) != y[~train]).mean())

    np.testing.assert_allclose(found.by_batch[:, 1], errors)
    assert found.held_out.estimate < 0.1
    assert batch_gap(NearestCentroid(), X, y, labels, folds=ONCE).held_out.estimate > 0.3
    assert not sklearn.get_config()["enable_metadata_routing"]
    with sklearn.config_context(enable_metadata_routing=True):
        again = batch_gap(model, X, y, labels, folds=ONCE)
    np.testing.assert_array_equal(again.by_batch, found.by_batch)


def test_a_corrector_that_refuses_new_batches_is_refused_with_the_remedy():
    """Before anything is fitted, naming the step and what to say instead."""
    X, y, labels = shifted()
    model = make_pipeline(BatchCorrector(), NearestCentroid())

    with pytest.raises(DataError, match=r"batchcorrector: .*say BatchCorrector\(unseen='estimate'"):
        batch_gap(model, X, y, labels)


class NoRouting(_RoutingNotSupportedMixin, KNeighborsClassifier):
    """A meta-estimator of the kind that cannot say what it requests."""


def test_estimators_without_routing_are_asked_for_nothing():
    """They get no labels and are tested as they are, and so is what has no request at all."""
    X, y, labels = shifted(rows=10, count=3)
    expected = batch_gap(KNeighborsClassifier(), X, y, labels, folds=ONCE)
    found = batch_gap(NoRouting(), X, y, labels, folds=ONCE)

    np.testing.assert_array_equal(found.by_batch, expected.by_batch)


def test_a_search_over_batches_left_out_gets_groups_and_labels():
    """A grid search with a splitter by groups inside a fold never sees the batch left out."""
    X, y, labels = shifted(rows=10, count=3)
    model = make_pipeline(BatchCorrector(unseen="estimate"), KNeighborsClassifier())
    search = GridSearchCV(
        model, {"kneighborsclassifier__n_neighbors": [1, 5]}, cv=LeaveOneGroupOut()
    )

    found = batch_gap(search, X, y, labels, folds=ONCE)
    assert found.held_out.estimate < 0.1
    scored = batch_gap(search, X, y, labels, folds=ONCE, scoring="accuracy")
    np.testing.assert_allclose(scored.by_batch, 1 - found.by_batch)


def pandas_frame(X):
    """Name the columns."""
    return pd.DataFrame(X, columns=["a", "b", "c"])


def polars_frame(X):
    """Name the columns, where polars is installed."""
    return pytest.importorskip("polars").DataFrame(X, schema=["a", "b", "c"])


@pytest.mark.parametrize("frame", [pandas_frame, polars_frame])
def test_data_frames_stay_data_frames(frame):
    """An estimator that picks columns by name works, with the numbers of the plain array."""
    X, y, labels = shifted()
    by_name = make_column_transformer(("passthrough", ["a", "c"]))
    model = make_pipeline(by_name, KNeighborsClassifier(1))
    found = batch_gap(
        model, frame(X), pd.Series(y, dtype="category"), pd.Series(labels), folds=ONCE
    )
    plain = batch_gap(KNeighborsClassifier(1), X[:, [0, 2]], y, labels, folds=ONCE)

    np.testing.assert_array_equal(found.by_batch, plain.by_batch)


def test_sparse_observations_and_lists():
    """A sparse matrix of any format and nested lists give the numbers of the array."""
    X, y, labels = shifted()
    model = KNeighborsClassifier(1)
    expected = batch_gap(model, X, y, labels, folds=ONCE).by_batch

    for given in (scipy.sparse.coo_array(X), scipy.sparse.csc_matrix(X), X.tolist()):
        found = batch_gap(model, given, y.tolist(), labels.tolist(), folds=ONCE)
        np.testing.assert_array_equal(found.by_batch, expected)


def test_missing_values_go_to_models_that_take_them_and_others_are_named():
    """NaN passes through to a model that takes it; else the error says which fold refused it."""
    X, y, labels = shifted()
    X[3, 1] = np.nan
    model = HistGradientBoostingClassifier(max_iter=2)

    assert np.isfinite(batch_gap(model, X, y, labels, folds=ONCE).by_batch).all()
    with pytest.raises(DataError, match=r"LogisticRegression with shuffled fold 1 left out: .*NaN"):
        batch_gap(LogisticRegression(), X, y, labels)


def test_what_a_correction_refuses_is_said_with_the_fold():
    """ComBat needs three features: its own words, and where it happened."""
    X, y, labels = shifted()
    model = make_pipeline(BatchCorrector("combat", unseen="estimate"), NearestCentroid())

    with pytest.raises(DataError, match=r"Pipeline with shuffled fold 1 left out: 2 features"):
        batch_gap(model, X[:, :2], y, labels)


def test_nothing_leaks_where_leaking_would_show():
    """Pure noise, corrected inside the folds: guessing; before them, answers kept: far less."""
    honest, leaked = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, labels = rng.normal(size=(80, 300)), np.repeat([*"ABCD"], 20)
        y = np.concatenate([rng.permutation([1] * m + [0] * (20 - m)) for m in (16, 4, 16, 4)])
        inside = make_pipeline(BatchCorrector(unseen="estimate"), NearestCentroid())
        before = BatchCorrector().fit_transform(X, batch_labels=labels, covariates=y)
        honest.append(
            batch_gap(inside, X, y, labels, folds=ShuffledFolds(repeats=2)).shuffled.estimate
        )
        leaked.append(
            batch_gap(
                NearestCentroid(), before, y, labels, folds=ShuffledFolds(repeats=2)
            ).shuffled.estimate
        )

    assert np.mean(leaked) < 0.3  # the test can see a leak
    assert np.mean(honest) > 0.42
