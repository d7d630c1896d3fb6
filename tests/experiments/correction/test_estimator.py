"""The correction inside scikit-learn: a clean estimator that hands labels on and leaks nothing."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, StratifiedKFold, cross_validate
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import BatchCorrector, CombatCorrection, LinearCorrection, Table

#: What fit says where no labels are given; scikit-learn's own checks give none.
UNLABELLED = "ignore:no batch_labels were given"
METHODS = ["linear", "combat"]


@pytest.fixture
def routing():
    """Turn metadata routing on for one test."""
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def simulated(n=60, features=8, seed=0, drug_effect=1.0):
    """Three batches with large shifts, a drug in unequal shares."""
    rng = np.random.default_rng(seed)
    month = np.repeat(["May", "June", "July"], n // 3)
    drug = (rng.random(n) < np.select([month == "May", month == "June"], [0.7, 0.5], 0.3)).astype(
        int
    )
    shifts = {"May": 0.0, "June": 3.0, "July": -3.0}
    X = rng.normal(size=(n, features)) + np.array([shifts[m] for m in month])[:, None]
    X[:, 0] += drug_effect * drug
    return X, drug, month


@pytest.mark.filterwarnings(UNLABELLED)
@pytest.mark.filterwarnings("ignore:.*SCIPY_ARRAY_API")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unseen", ["refuse", "estimate"])
def test_check_estimator_has_no_failures(method, unseen):
    """All of scikit-learn's own checks pass; the one for array libraries may be skipped."""
    corrector = BatchCorrector(method, unseen=unseen)
    results = check_estimator(corrector, on_skip=None, on_fail=None)

    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")] == []
    assert sum(r["status"] == "skipped" for r in results) <= 1


class SelfLabelled(BatchCorrector):
    """Reads the batch of a row off its first feature, so that the common checks correct too."""

    __metadata_request__fit = {"batch_labels": True, "covariates": True}  # noqa: RUF012
    __metadata_request__transform = {"batch_labels": True}  # noqa: RUF012

    def __init__(self, method="linear", *, unseen="refuse"):
        super().__init__(method, unseen=unseen)

    @staticmethod
    def labels(X):
        """Give the sign of the first feature; nothing for what the corrector must refuse itself."""
        try:
            values = None if np.iscomplexobj(X) else np.asarray(X, dtype=float)
        except (TypeError, ValueError):
            return None
        return (values[:, 0] > 0).astype(int) if np.ndim(values) == 2 and values.size else None

    def fit(self, X, y=None, *, batch_labels=None, covariates=None):
        """Fit with labels."""
        return super().fit(X, y, batch_labels=self.labels(X))

    def transform(self, X, *, batch_labels=None):
        """Transform with labels."""
        return super().transform(X, batch_labels=self.labels(X))

    def fit_transform(self, X, y=None, *, batch_labels=None, covariates=None):
        """Fit and transform with labels."""
        return self.fit(X, y).transform(X)


@pytest.mark.filterwarnings(UNLABELLED)
@pytest.mark.filterwarnings("ignore:.*SCIPY_ARRAY_API")
@pytest.mark.parametrize("method", METHODS)
def test_the_common_checks_hold_where_something_is_corrected(method):
    """With labels too there is no failure; ComBat refuses only the checks with two features."""
    results = check_estimator(SelfLabelled(method), on_skip=None, on_fail=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}

    assert len(results) > 40
    if method == "linear":
        assert failed == {}
    assert all("ComBat learns from at least 3" in said for said in failed.values())


def test_equals_the_correction_of_tables():
    """The numbers are those of LinearCorrection, kept covariates included."""
    X, drug, month = simulated()
    arms = np.where(drug == 1, "yes", "no")
    table = Table.from_arrays(X, {"month": month, "drug": arms})
    expected = LinearCorrection(keep=("drug",)).fit(table, "month").transform(table).values

    given = {"batch_labels": month, "covariates": pd.DataFrame({"drug": arms})}
    at_once = BatchCorrector().fit_transform(X, **given)
    later = BatchCorrector().fit(X, **given).transform(X, batch_labels=month)

    np.testing.assert_allclose(at_once, expected, atol=1e-12)
    np.testing.assert_array_equal(at_once, later)


def test_subset_of_batches_and_single_rows():
    """Rows of one batch only, and one row alone, get the same numbers as among all others."""
    X, _, month = simulated()
    corrector = BatchCorrector().fit(X, batch_labels=month)
    everything = corrector.transform(X, batch_labels=month)
    july = month == "July"

    np.testing.assert_array_equal(
        corrector.transform(X[july], batch_labels=month[july]), everything[july]
    )
    for row in (0, 59):
        one = corrector.transform(X[[row]], batch_labels=month[[row]])
        np.testing.assert_array_equal(one, everything[[row]])


def test_unseen_batch_is_refused_by_name_or_estimated():
    """A batch that was not fitted: an error that names it, or its own mean, as asked."""
    X, _, month = simulated()
    seen = month != "July"
    refusing = BatchCorrector().fit(X[seen], batch_labels=month[seen])
    estimating = BatchCorrector(unseen="estimate").fit(X[seen], batch_labels=month[seen])

    with pytest.raises(DataError, match=r"not fitted: July; known are June, May"):
        refusing.transform(X, batch_labels=month)
    corrected = estimating.transform(X, batch_labels=month)
    np.testing.assert_allclose(corrected[~seen].mean(axis=0), estimating.centre_, atol=1e-12)
    np.testing.assert_array_equal(
        corrected[seen], refusing.transform(X[seen], batch_labels=month[seen])
    )


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"batch_labels": ["a", "b"]}, DataError, "2 batch labels for 60 rows"),
        ({"batch_labels": ["a"] * 30 + [None] * 30}, DataError, "no label for 'specimen 31'"),
        ({"batch_labels": range(60)}, DataError, "a batch of its own for each specimen"),
        (
            {"batch_labels": [0, 1] * 30, "covariates": np.array(["x", "y"] * 30)},
            ConfoundedError,
            r"covariate 1\[y\] = batch_labels\[1\]",
        ),
        (
            {"batch_labels": [0, 1] * 30, "covariates": np.zeros((59, 1))},
            DataError,
            "59 entries for 60 rows",
        ),
    ],
)
def test_bad_labels_are_refused(given, error, says):
    """Labels and covariates that cannot be used are refused, and it is said which."""
    with pytest.raises(error, match=says):
        BatchCorrector().fit(simulated()[0], **given)


def test_unknown_parameters_are_refused_at_fit():
    """Parameters are only stored at construction, and refused at fit with the known ones."""
    with pytest.raises(DataError, match=r"method is 'magic'; known are 'linear'"):
        BatchCorrector("magic").fit(simulated()[0], batch_labels=simulated()[2])


def test_missing_values_stay_missing_and_make_no_new_ones():
    """NaN comes out exactly where it went in; the others are corrected from observed values."""
    X, _, month = simulated()
    X[3, 1] = X[50, 2] = np.nan
    X[month == "May", 4] = np.nan
    corrected = BatchCorrector().fit_transform(X, batch_labels=month)

    np.testing.assert_array_equal(np.isnan(corrected), np.isnan(X))


def test_precision_and_names_of_the_input_stay():
    """float32 stays float32 and a data frame keeps its columns and rows where that is wished."""
    X, _, month = simulated()
    narrow = BatchCorrector().fit_transform(X.astype(np.float32), batch_labels=month)
    frame = pd.DataFrame(X, columns=[f"g{j}" for j in range(8)], index=[f"s{i}" for i in range(60)])
    named = BatchCorrector().set_output(transform="pandas").fit_transform(frame, batch_labels=month)

    assert narrow.dtype == np.float32
    assert list(named.columns) == list(frame.columns)
    assert list(named.index) == list(frame.index)


def test_labels_travel_through_a_pipeline(routing):
    """With metadata routing the labels reach fit and transform, row by row."""
    X, drug, month = simulated(seed=3, drug_effect=8.0)
    model = Pipeline([("correct", BatchCorrector()), ("classify", LogisticRegression())])
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    labels = {"batch_labels": month}
    corrected = cross_validate(model, X, drug, cv=folds, params=labels)["test_score"].mean()

    fitted = clone(model).fit(X, drug, batch_labels=month)
    assert fitted.predict(X, batch_labels=month).shape == drug.shape
    assert corrected > 0.9


def test_without_routing_a_pipeline_says_what_to_do():
    """Labels that reach fit alone are no silent half: predict raises and names the remedy."""
    X, drug, month = simulated()
    model = Pipeline([("correct", BatchCorrector()), ("classify", LogisticRegression())])
    model.fit(X, drug, correct__batch_labels=month)

    with pytest.raises(DataError, match="enable_metadata_routing"):
        model.predict(X)
    with pytest.warns(UserWarning, match="nothing is corrected"):
        BatchCorrector().fit(X)


def test_answers_do_not_enter_the_correction():
    """Fitting with other answers gives the same transformer, number by number."""
    X, drug, month = simulated()
    one = BatchCorrector().fit(X, drug, batch_labels=month)
    other = BatchCorrector().fit(X, 1 - drug, batch_labels=month)

    np.testing.assert_array_equal(
        one.transform(X, batch_labels=month), other.transform(X, batch_labels=month)
    )


def test_folds_learn_from_their_training_rows_only(routing):
    """Each fold's transformer is the one fitted on its training rows; test rows change nothing."""
    X, drug, month = simulated(seed=5)
    model = Pipeline([("correct", BatchCorrector()), ("classify", NearestCentroid())])
    folds = StratifiedKFold(3, shuffle=True, random_state=1)
    found = cross_validate(
        model,
        X,
        drug,
        cv=folds,
        params={"batch_labels": month},
        return_estimator=True,
        return_indices=True,
    )

    for fitted, train, test in zip(
        found["estimator"], found["indices"]["train"], found["indices"]["test"], strict=True
    ):
        disturbed = X.copy()
        disturbed[test] = 1e6
        alone = BatchCorrector().fit(disturbed[train], batch_labels=month[train])
        np.testing.assert_array_equal(
            fitted["correct"].transform(X, batch_labels=month),
            alone.transform(X, batch_labels=month),
        )


def accuracy(X, y, labels=None):
    """Cross-validate on five stratified folds, with the correction inside them or without."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    steps = [("classify", NearestCentroid())]
    if labels is None:
        return cross_validate(Pipeline(steps), X, y, cv=folds)["test_score"].mean()
    model = Pipeline([("correct", BatchCorrector()), *steps])
    params = {"batch_labels": labels}
    return cross_validate(model, X, y, cv=folds, params=params)["test_score"].mean()


def test_nothing_leaks_where_leaking_would_show(routing):
    """Pure noise cannot be predicted; corrected before the split with the answers kept, it can."""
    leaked, honest = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(60, 300))
        labels = np.repeat(["a", "b"], 30)
        y = np.concatenate(
            [rng.permutation([1] * 24 + [0] * 6), rng.permutation([0] * 24 + [1] * 6)]
        )
        before = BatchCorrector().fit_transform(X, batch_labels=labels, covariates=y)
        leaked.append(accuracy(before, y))
        honest.append(accuracy(X, y, labels))

    assert np.mean(leaked) > 0.7  # the test can see a leak
    assert 0.4 < np.mean(honest) < 0.6


def test_left_out_batches_can_be_estimated(routing):
    """Leave-batch-out: the new batch's own mean brings it to the others, without any answer."""
    X, drug, month = simulated(n=90, seed=7, drug_effect=4.0)

    def score(**parameters):
        model = Pipeline(
            [("correct", BatchCorrector(**parameters)), ("classify", NearestCentroid())]
        )
        folds = LeaveOneGroupOut()
        given = {"batch_labels": month, "groups": month}
        return cross_validate(model, X, drug, cv=folds, params=given)["test_score"].mean()

    assert score(unseen="estimate") > 0.85
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert np.isnan(score(unseen="refuse"))
    assert any("not fitted" in str(one.message) for one in said)


def test_scikit_learn_is_loaded_only_when_asked_for():
    """Importing the experiments loads no scikit-learn; asking for the transformer does."""
    code = (
        "import sys, batchsense.experiments as e\n"
        "before = 'sklearn' in sys.modules\n"
        "e.BatchCorrector\n"
        "print(before, 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True"]


def test_combat_is_the_method_of_tables() -> None:
    """``method="combat"`` gives what CombatCorrection gives, and works in a pipeline's halves."""
    rng = np.random.default_rng(3)
    labels = np.repeat(["May", "July", "June"], 12)
    X = rng.normal(size=(36, 8)) * np.repeat([1.0, 2.0, 0.5], 12)[:, None]
    corrector = BatchCorrector("combat").fit(X, batch_labels=labels)
    table = Table.from_arrays(X, {"month": labels})
    expected = CombatCorrection().fit(table, "month").transform(table).values

    np.testing.assert_allclose(corrector.transform(X, batch_labels=labels), expected, atol=1e-12)
    some = corrector.transform(X[:5], batch_labels=labels[:5])
    np.testing.assert_allclose(some, expected[:5], atol=1e-12)


def test_combat_takes_no_covariates() -> None:
    """They would be needed at transform as well: refused, with what to use instead."""
    X = np.random.default_rng(0).normal(size=(8, 4))
    with pytest.raises(DataError, match="takes no covariates"):
        BatchCorrector("combat").fit(X, batch_labels=[*"aabbaabb"], covariates=[[0], [1]] * 4)


@pytest.mark.parametrize("method", METHODS)
def test_copies_stay_themselves(method):
    """A clone has the parameters and no fit; a pickled corrector corrects as before."""
    X, _, month = simulated()
    fitted = BatchCorrector(method, unseen="estimate").fit(X, batch_labels=month)
    copy = clone(fitted)
    restored = pickle.loads(pickle.dumps(fitted))

    assert copy.get_params() == {"method": method, "unseen": "estimate"}
    with pytest.raises(NotFittedError):
        copy.transform(X, batch_labels=month)
    new = np.where(month == "May", "October", month)
    np.testing.assert_array_equal(
        restored.transform(X, batch_labels=new), fitted.transform(X, batch_labels=new)
    )


@pytest.mark.parametrize("method", METHODS)
def test_names_of_features_go_through_a_pipeline(routing, method):
    """``get_feature_names_out`` and ``set_output`` keep names and rows, also behind other steps."""
    X, _, month = simulated()
    frame = pd.DataFrame(X, columns=[f"g{j}" for j in range(8)], index=[f"s{i}" for i in range(60)])
    model = make_pipeline(StandardScaler(), BatchCorrector(method)).set_output(transform="pandas")
    named = model.fit(frame, batch_labels=month).transform(frame, batch_labels=month)

    assert list(model.get_feature_names_out()) == list(frame.columns)
    assert list(named.columns) == list(frame.columns)
    assert list(named.index) == list(frame.index)
    unnamed = BatchCorrector(method).fit(X, batch_labels=month)
    assert list(unnamed.get_feature_names_out()) == [f"x{j}" for j in range(8)]
    with pytest.raises(ValueError, match="input_features"):
        unnamed.get_feature_names_out(["a", "b"])


def test_a_grid_search_chooses_the_method(routing):
    """Both methods are tried inside the folds; the best predicts with the labels of new rows."""
    X, drug, month = simulated(seed=3, drug_effect=8.0)
    model = Pipeline([("correct", BatchCorrector()), ("classify", LogisticRegression())])
    search = GridSearchCV(model, {"correct__method": METHODS}, cv=StratifiedKFold(3))
    search.fit(X, drug, batch_labels=month)

    assert [one["correct__method"] for one in search.cv_results_["params"]] == METHODS
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.9
    assert (search.best_estimator_.predict(X, batch_labels=month) == drug).mean() > 0.9


def test_sparse_and_infinite_observations_are_refused():
    """Correction makes sparse values dense, and infinity has no mean: said, not guessed."""
    X, _, month = simulated()
    with pytest.raises(TypeError, match="dense data is required"):
        BatchCorrector().fit(scipy.sparse.csr_matrix(X), batch_labels=month)
    X[0, 0] = np.inf
    with pytest.raises(DataError, match="infinite values"):
        BatchCorrector().fit(X, batch_labels=month)
