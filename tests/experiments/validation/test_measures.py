"""Regressors, scorers, classes that are rare or lie in one batch, few and unequal batches."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments import BatchCorrector, ShuffledFolds, batch_gap

ONCE = ShuffledFolds(repeats=1)


def drawn(rows=24, count=5, seed=1):
    """Noisy classes, a numeric answer and batches that bend both."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), rows)
    X = rng.normal(size=(rows * count, 4)) + rng.normal(size=(count, 4))[labels]
    y = (X[:, 0] + rng.normal(size=len(X)) > 0).astype(int)
    return X, y, X @ [1.0, 2.0, 0.0, 0.0] + rng.normal(size=len(X)), labels


def left_out(model, X, y, labels, response="predict"):
    """Loop by hand: the answers of each batch by the model that did not see it."""
    parts = []
    for level in np.unique(labels):
        here = labels == level
        parts.append((y[here], getattr(model.fit(X[~here], y[~here]), response)(X[here])))
    return parts


def test_a_regressor_is_measured_by_its_squared_error():
    """Twin: a plain loop; the ratio is that of the means."""
    X, _, y, labels = drawn()
    found = batch_gap(Ridge(), X, y, labels, folds=ShuffledFolds(repeats=2))
    errors = [np.mean((true - said) ** 2) for true, said in left_out(Ridge(), X, y, labels)]

    np.testing.assert_allclose(found.by_batch[:, 1], errors)
    assert found.measure == "mean squared error"
    assert found.ratio.estimate == pytest.approx(found.held_out.estimate / found.shuffled.estimate)
    assert found.difference.estimate == pytest.approx(
        found.held_out.estimate - found.shuffled.estimate
    )


@pytest.mark.parametrize(
    ("scoring", "response", "metric", "loss"),
    [
        ("roc_auc", "decision_function", roc_auc_score, False),
        ("neg_log_loss", "predict_proba", log_loss, True),
        ("accuracy", "predict", lambda true, said: np.mean(true == said), False),
    ],
)
def test_scorers_by_name(scoring, response, metric, loss):
    """Twin: the metric on the rows of each batch. Losses stay losses, scores have no ratio."""
    X, y, _, labels = drawn()
    found = batch_gap(LogisticRegression(), X, y, labels, folds=ONCE, scoring=scoring)
    expected = [metric(*pair) for pair in left_out(LogisticRegression(), X, y, labels, response)]

    np.testing.assert_allclose(found.by_batch[:, 1], expected)
    assert found.greater_is_better is not loss
    assert (found.ratio is not None) is loss
    changed = found.by_batch[:, 1] - found.by_batch[:, 0]
    assert found.worse == ((changed > 1e-12) if loss else (changed < -1e-12)).sum()


def test_a_scorer_of_ones_own_sees_the_rows():
    """``scorer(estimator, X, y)`` is asked about the rows of one batch, as they are."""
    X, _, y, labels = drawn()

    def weighted(estimator, X, y):
        return r2_score(y, estimator.predict(X), sample_weight=np.abs(X[:, 0]))

    found = batch_gap(Ridge(), X, y, labels, folds=ONCE, scoring=weighted)
    expected = [
        r2_score(true, said, sample_weight=np.abs(X[labels == level, 0]))
        for level, (true, said) in enumerate(left_out(Ridge(), X, y, labels))
    ]
    np.testing.assert_allclose(found.by_batch[:, 1], expected)
    assert found.measure == "weighted"


def test_scorers_that_have_no_value_are_refused_by_batch():
    """Unknown names, ranks where a batch has one class only, models that are neither."""
    X, y, _, labels = drawn()
    alone = np.where(labels == 2, 1, y)

    with pytest.raises(DataError, match=r"get_scorer_names\(\) lists them"):
        batch_gap(LogisticRegression(), X, y, labels, scoring="nonsense")
    with pytest.raises(DataError, match=r"roc auc is not defined on the 24 rows of batch 2 alone"):
        batch_gap(LogisticRegression(), X, alone, labels, scoring="roc_auc")
    with pytest.raises(DataError, match="neither a classifier nor a regressor"):
        batch_gap(BatchCorrector(unseen="estimate"), X, y, labels)


def test_classes_of_one_batch_are_named():
    """Such rows are errors by construction when the batch is left out, and the note says so."""
    X, y, _, labels = drawn()
    rare = np.where((labels == 3) & (y == 1), "new", np.where(y == 1, "ill", "well"))
    found = batch_gap(KNeighborsClassifier(1), X, rare, labels, folds=ONCE)
    note = found.notes[0]
    share = np.mean(rare[labels == 3] == "new")

    def decided(estimator, X, y):
        return float(estimator.decision_function(X).mean())

    assert note.code == "class_of_one_batch"
    assert note.where == ("new",)
    assert f"{(rare == 'new').sum()} of 120 rows" in note.message
    assert found.by_batch[3, 1] >= share
    with pytest.raises(DataError, match="has not seen all classes"):
        batch_gap(LinearSVC(), X, rare, labels, folds=ONCE, scoring=decided)


def test_probabilities_of_unseen_classes_are_zero():
    """The columns stay those of all classes: a class that a fold never saw has probability 0."""
    X, y, _, labels = drawn()
    rare = np.where((labels == 3) & (y == 1), 2, y)
    seen = {}

    def remember(estimator, X, y):
        seen[len(seen)] = estimator.predict_proba(X)
        return 0.0

    batch_gap(KNeighborsClassifier(3), X, rare, labels, folds=ONCE, scoring=remember)
    held_out = list(seen.values())[5:]
    assert [part.shape for part in held_out] == [(24, 3)] * 5
    assert (held_out[3][:, 2] == 0).all()
    assert all(np.allclose(part.sum(axis=1), 1) for part in held_out)


def test_rare_classes_are_spread_and_named_without_a_warning():
    """A class of two rows, and only classes with fewer rows than folds: a note, no refusal."""
    X, y, _, labels = drawn()
    y[[0, 30]] = 7
    few = np.arange(120) % 40

    for answers in (y, few):
        found = batch_gap(KNeighborsClassifier(1), X, answers, labels, folds=ONCE)
        assert [n.code for n in found.notes if n.code != "batches_alike"] == ["rare_classes"]
    assert found.notes[0].message.startswith("Classes with fewer rows than there are folds (5): 0,")
    assert "and 30 more" in found.notes[0].message


def test_classes_that_are_the_batches_are_confounded():
    """Every class in one batch: the relations are named, nothing is fitted."""
    X, _, _, labels = drawn()
    with pytest.raises(ConfoundedError) as caught:
        batch_gap(KNeighborsClassifier(1), X, np.array([*"abcde"])[labels], labels)

    assert caught.value.aliased[:2] == ("y[a] = batch_labels[0]", "y[b] = batch_labels[1]")


def test_a_single_class_left_to_learn_from_is_unresolved():
    """Which batch, and what is needed."""
    X, y, _, labels = drawn(count=2)
    with pytest.raises(UnresolvedError, match="without batch 1 only one class of y") as caught:
        batch_gap(KNeighborsClassifier(1), X, np.where(labels == 0, 0, y), labels)

    assert caught.value.needed == "rows of another class in a batch other than 1"


def test_two_batches_answer_with_a_wide_interval():
    """T with one degree of freedom, cut off where an error rate ends, and a note."""
    X, y, _, labels = drawn(count=2)
    found = batch_gap(KNeighborsClassifier(1), X, y, labels, folds=ONCE)

    assert [note.code for note in found.notes] == ["few_batches"]
    assert "1 degree of freedom" in found.notes[0].message
    assert found.difference.high - found.difference.low == pytest.approx(
        min(2 * 12.7062 * found.standard_error, 2), rel=1e-3
    )
    assert found.held_out.low >= 0
    assert found.held_out.high <= 1


def test_every_batch_counts_the_same_and_a_large_one_is_named():
    """Means over batches, not over rows; a batch with most rows takes much out of training."""
    X, y, _, labels = drawn()
    uneven = np.where(labels < 3, 0, labels)
    found = batch_gap(KNeighborsClassifier(1), X, y, uneven, folds=ONCE)

    assert found.sizes.tolist() == [72, 24, 24]
    assert found.held_out.estimate == pytest.approx(found.by_batch[:, 1].mean())
    assert [note.code for note in found.notes] == ["few_batches", "unequal_batches"]
    assert "Batch 0 holds 60 % of the rows" in found.notes[1].message


@pytest.mark.parametrize(
    ("y", "labels", "says"),
    [
        ([0, 1, None, 1], [1, 1, 2, 2], "entries of y are missing in rows 2"),
        ([0, 1, 0, 1], [1, 1, None, 2], "entries of batch_labels are missing in rows 2"),
        ([0.5, np.inf, 0.2, 1], [1, 1, 2, 2], "y: missing or infinite in rows 1"),
        ([[0, 1]] * 4, [1, 1, 2, 2], r"shape \(4, 2\)"),
        ([0, 1, 0, 1], [1, 2, 3, 4], "a batch of its own for each specimen"),
        ([1, 1, 1, 1], [1, 1, 2, 2], "one class only"),
    ],
)
def test_answers_and_labels_that_cannot_be_used(y, labels, says):
    """Each is refused, by row where there is one."""
    with pytest.raises(DataError, match=says):
        batch_gap(KNeighborsClassifier(1), np.zeros((4, 1)), y, labels)


def test_text_that_a_regressor_cannot_learn_is_refused_with_the_fold():
    """The message is the model's own, and says where."""
    X, y, _, labels = drawn()
    with pytest.raises(DataError, match="Ridge with shuffled fold 1 left out: could not convert"):
        batch_gap(Ridge(), X, np.where(y == 1, "a", "b"), labels)


def test_progress_tells_of_every_fold():
    """Each of the folds of both ways is told, in order."""
    X, y, _, labels = drawn()
    told = []
    batch_gap(
        KNeighborsClassifier(1),
        X,
        y,
        labels,
        folds=ShuffledFolds(repeats=2, seed=0),
        progress=lambda *words: told.append(words),
    )

    shuffled = [("testing on shuffled folds", k, 10) for k in range(1, 11)]
    assert told == shuffled + [("testing on batches left out", k, 5) for k in range(1, 6)]
