"""The gap between shuffled folds and batches left out, on real and on harmless batches."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from batchsense.datasets import load_digits
from batchsense.errors import DataError
from batchsense.experiments import ShuffledFolds, batch_gap


@pytest.fixture(scope="module")
def gaps():
    """Measure the two classifiers of the note on the digits."""
    digits = load_digits()
    models = {"svc": SVC(gamma=0.001), "1-nn": KNeighborsClassifier(1)}
    return {
        name: batch_gap(
            model,
            digits.observations,
            digits.digit,
            digits.form_labels,
            folds=ShuffledFolds(repeats=2, seed=0),
        )
        for name, model in models.items()
    }


@pytest.mark.parametrize(
    ("name", "shuffled", "held_out", "difference", "worst"),
    [("svc", 0.0087, 0.0284, 0.0196, 0.069), ("1-nn", 0.0121, 0.0362, 0.0240, 0.092)],
)
def test_digits_look_better_than_they_are(gaps, name, shuffled, held_out, difference, worst):
    """A form left out shows at least twice the error of shuffled folds, about three times."""
    gap = gaps[name]

    assert gap.ratio.estimate >= 2
    assert gap.ratio.low > 1.5
    assert gap.held_out.estimate == pytest.approx(held_out, abs=1e-4)
    assert gap.shuffled.estimate == pytest.approx(shuffled, rel=0.25)
    assert gap.difference.estimate == pytest.approx(difference, rel=0.15)
    assert 0.004 < gap.standard_error < 0.007
    assert gap.difference.low > 0
    assert gap.worse >= 11
    assert gap.by_batch[:, 1].max() == pytest.approx(worst, abs=5e-4)


def test_held_out_error_equals_a_plain_loop(gaps):
    """The error per batch is that of a loop that trains without the batch."""
    digits = load_digits()
    model = KNeighborsClassifier(1)
    errors = []
    folds = LeaveOneGroupOut().split(digits.observations, groups=digits.form_labels)
    for train, test in folds:
        model.fit(digits.observations[train], digits.digit[train])
        errors.append((model.predict(digits.observations[test]) != digits.digit[test]).mean())

    assert np.allclose(errors, gaps["1-nn"].by_batch[:, 1])


def test_harmless_batches_show_no_gap():
    """Random batch labels: the interval of the difference holds zero in about 19 of 20 cases."""
    rng = np.random.default_rng(0)
    holds = 0
    for seed in range(20):
        y = rng.integers(2, size=120)
        X = y[:, None] + rng.normal(size=(120, 2))
        gap = batch_gap(
            KNeighborsClassifier(3),
            X,
            y,
            np.repeat(np.arange(6), 20),
            folds=ShuffledFolds(repeats=2, seed=seed),
        )
        holds += 0 in gap.difference

    assert holds >= 17


@pytest.mark.parametrize(
    ("y", "labels", "says"),
    [([0, 1, 0], [1, 2], "one of each"), ([0, 1], [1, 1], "one batch only")],
)
def test_refusals(y, labels, says):
    """Arrays of different length and a single batch are refused."""
    with pytest.raises(DataError, match=says):
        batch_gap(KNeighborsClassifier(1), np.zeros((2, 1)), y, labels)
