"""A column of a sheet predicted on batches left out: twins, verdicts, leaks, and bad sheets."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import (
    BatchCorrector,
    PlainModel,
    ShuffledFolds,
    Table,
    batch_gap,
    compare_gaps,
    digits_table,
)
from batchsense.experiments.validation import comparison, models
from batchsense.experiments.validation.models import make_model

ONCE = ShuffledFolds(repeats=1)


def months(rows=20, count=6, seed=0, shift=2.5, noise=0.3):
    """A table with a diagnosis, an age and a month that shifts everything."""
    rng = np.random.default_rng(seed)
    n = rows * count
    month = np.repeat([f"m{k}" for k in range(count)], rows)
    ill = np.tile(["ill", "well"], n // 2)
    age = rng.normal(50, 10, n)
    X = (ill == "ill")[:, None] * [1.0, 0.0, 0.0, 0.0] + noise * rng.normal(size=(n, 4))
    X[:, 1] += age / 20
    X += shift * np.repeat(np.arange(count), rows)[:, None]
    return Table.from_arrays(X, {"month": month, "ill": ill, "age": age})


def test_the_digits_have_the_known_gap():
    """The nearest neighbour errs 3.2 times as often on a form left out as on shuffled folds."""
    found = compare_gaps(
        digits_table(), "form", "digit", PlainModel(corrections=["none"]), folds=ONCE
    )

    assert found.verdict == "gap"
    assert found.model == "nearest"
    assert [way.correction for way in found.ways] == ["none"]
    assert found.ways[0].gap.ratio.estimate == pytest.approx(3.25, rel=0.1)
    assert found.guess.estimate == pytest.approx(0.9, abs=0.01)
    assert found.association == pytest.approx(0.0124, abs=1e-4)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("predict", "model", "kind"),
    [
        ("ill", "nearest", "categorical"),
        ("ill", "logistic", "categorical"),
        ("age", "ridge", "numeric"),
        ("age", "nearest", "numeric"),
    ],
)
def test_each_way_is_the_gap_of_its_pipeline(predict, model, kind):
    """Twin: batch_gap of the same pipeline; the change is paired by batch."""
    table = months(rows=10, count=4)
    found = compare_gaps(
        table, "month", predict, PlainModel(model, ["combat", "linear", "linear"]), folds=ONCE
    )
    answers = table.sheet[predict]
    y = np.array(answers) if kind == "categorical" else np.array([float(one) for one in answers])

    assert [way.correction for way in found.ways] == ["none", "combat", "linear"]
    for way in found.ways:
        pipeline = make_model(model, kind, way.correction)
        alone = batch_gap(pipeline, table.values, y, table.sheet["month"], folds=ONCE)
        np.testing.assert_array_equal(way.gap.by_batch, alone.by_batch)
    plain, combat = found.ways[0], found.ways[1]
    assert plain.change is None
    assert combat.change.estimate == pytest.approx(
        combat.gap.held_out.estimate - plain.gap.held_out.estimate
    )
    if model == "nearest":  # these months only shift, so correction must help
        assert combat.change.estimate < 0
    assert "left_out_by_its_own_mean" in [note.code for note in found.notes]


def test_forests_repeat_with_their_seed(monkeypatch):
    """The same seed gives the same numbers; another one other folds and trees."""
    monkeypatch.setattr(models, "TREES", 10)
    table = months(rows=10, count=3)
    one, same, other = (
        compare_gaps(
            table,
            "month",
            "ill",
            PlainModel("forest", ["none"]),
            folds=ShuffledFolds(repeats=1, seed=seed),
        )
        for seed in (0, 0, 1)
    )

    np.testing.assert_array_equal(one.ways[0].gap.by_batch, same.ways[0].gap.by_batch)
    assert (one.ways[0].gap.by_batch != other.ways[0].gap.by_batch).any()


def test_harmless_batches_give_no_gap_or_no_answer():
    """Many rows and months: none seen. Two months: not even a doubled error is excluded."""
    many = compare_gaps(
        months(rows=60, count=12, shift=0, noise=0.6),
        "month",
        "ill",
        PlainModel(corrections=["none"]),
    )
    few = compare_gaps(
        months(rows=30, count=2, shift=0, noise=0.6, seed=3),
        "month",
        "ill",
        PlainModel(corrections=["none"]),
    )

    assert many.verdict == "no_gap_seen"
    assert few.verdict == "cannot_tell"
    gap, needed = few.ways[0].gap, few.batches_needed
    assert needed is not None
    assert needed > 2

    def half(count):
        from scipy.stats import t

        return t.ppf(0.975, count - 1) * gap.standard_error * math.sqrt(2 / count)

    assert 2 * half(needed) <= gap.shuffled.estimate < 2 * half(needed - 1)


def test_missing_values_are_filled_inside_the_folds():
    """Counted and noted; a feature without a value in a month does not break its fold."""
    table = months(rows=10, count=3)
    values = table.values.copy()
    values[3, 1] = np.nan
    values[:20, 2] = np.nan
    holed = Table.from_arrays(values, table.sheet)
    found = compare_gaps(holed, "month", "ill", PlainModel("logistic"), folds=ONCE)

    assert found.filled == 21
    note = next(note for note in found.notes if note.code == "missing_values_filled")
    assert note.message.startswith("21 missing values")


def test_what_a_model_warns_of_becomes_a_note(monkeypatch):
    """Said once with how often, and nothing reaches the user's warnings."""

    class Hasty(KNeighborsClassifier):
        def fit(self, X, y):
            warnings.warn("not converged\nSee the manual.", UserWarning, stacklevel=1)
            return super().fit(X, y)

    monkeypatch.setattr(comparison, "make_model", lambda *words, **more: Hasty(1))
    found = compare_gaps(
        months(rows=6, count=5), "month", "ill", PlainModel(corrections=["none"]), folds=ONCE
    )

    assert [note.code for note in found.notes] == ["model_warned"]
    assert found.notes[0].message == "The model warned 10 times: not converged"


def noise(seed=0):
    """Nothing to predict: noise, with a class that goes with the month."""
    rng = np.random.default_rng(seed)
    ill = [rng.permutation([1] * m + [0] * (20 - m)) for m in (16, 4, 16, 4)]
    sheet = {"month": np.repeat([*"ABCD"], 20), "ill": np.concatenate(ill).astype(str)}
    return Table.from_arrays(rng.normal(size=(80, 300)), sheet)


def test_a_planted_leak_is_caught(monkeypatch):
    """Noise cannot be predicted by the route; with a leak planted into it, shuffled folds can.

    The leak is the usual one: the correction was fitted on all rows with the answers kept.
    """

    def errors():
        found = compare_gaps(
            noise(), "month", "ill", PlainModel("logistic"), folds=ShuffledFolds(repeats=2)
        )
        return {way.correction: way.gap.shuffled.estimate for way in found.ways}

    honest = errors()
    table = noise()
    leaked = BatchCorrector().fit_transform(
        table.values, batch_labels=table.sheet["month"], covariates=list(table.sheet["ill"])
    )
    row_of = {row.tobytes(): k for k, row in enumerate(table.values)}

    def leaking(name, kind, correction="none", **more):
        model = make_model(name, kind, "none", **more)
        if correction == "none":
            return model
        known = FunctionTransformer(lambda X: leaked[[row_of[row.tobytes()] for row in X]])
        return Pipeline([("correct", known), *model.steps])

    monkeypatch.setattr(comparison, "make_model", leaking)
    planted = errors()

    assert planted["none"] == honest["none"]
    assert planted["linear"] < 0.3  # the test can see a leak
    assert honest["linear"] > 0.42


def test_answers_of_the_rows_left_out_change_nothing():
    """Other answers in one month: what is predicted for it, left out, stays the same."""
    table = months()
    flipped = dict(table.sheet)
    here = np.array(table.sheet["month"]) == "m3"
    turned = {"ill": "well", "well": "ill"}
    flipped["ill"] = tuple(
        turned[one] if there else one for one, there in zip(table.sheet["ill"], here, strict=True)
    )
    one, other = (
        compare_gaps(Table.from_arrays(table.values, sheet), "month", "ill", folds=ONCE)
        for sheet in (table.sheet, flipped)
    )

    for before, after in zip(one.ways, other.ways, strict=True):
        # Two classes: right becomes wrong, prediction by prediction.
        assert after.gap.by_batch[3, 1] == pytest.approx(1 - before.gap.by_batch[3, 1])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("month", "month"), "cannot be both the batch and predicted"),
        (("month", "illl"), "did you mean 'ill'"),
        (
            ("month", "ill", PlainModel("ridge")),
            "ridge predicts numbers; for classes there are nearest",
        ),
        (
            ("month", "age", PlainModel("logistic")),
            "logistic predicts classes; for numbers there are nearest",
        ),
        (("month", "ill", PlainModel("magic")), "no model 'magic'"),
        (("month", "ill", PlainModel("nearest", ["harmony"])), "no correction 'harmony'"),
        (("ill", "age", PlainModel("ridge", ["none"])), None),
    ],
)
def test_what_cannot_be_asked_is_refused(given, says):
    """Each by name, with what there is instead."""
    if says is None:
        assert compare_gaps(months(rows=6), *given, folds=ONCE).predicted.kind == "numeric"
        return
    with pytest.raises(DataError, match=says):
        compare_gaps(months(rows=6), *given)


def test_missing_and_single_answers_are_refused_by_specimen():
    """Specimens without an answer are named; a column of one value holds nothing."""
    table = months(rows=4, count=3)
    holes = {**table.sheet, "ill": (None, *table.sheet["ill"][1:]), "one": ("x",) * 12}
    holed = Table.from_arrays(table.values, holes)

    with pytest.raises(DataError, match="no label for 'specimen 1'"):
        compare_gaps(holed, "month", "ill")
    with pytest.raises(DataError, match="nothing to predict"):
        compare_gaps(holed, "month", "one")


def test_a_confounded_sheet_names_the_columns():
    """Every class in one month: the relations are those of the sheet."""
    table = months(rows=4, count=2)
    sheet = {**table.sheet, "arm": ["no"] * 4 + ["yes"] * 4}
    with pytest.raises(ConfoundedError, match="arm cannot be told from month") as caught:
        compare_gaps(Table.from_arrays(table.values, sheet), "month", "arm")

    assert caught.value.aliased == ("arm[no] = month[m0]", "arm[yes] = month[m1]")


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_observations_that_do_not_vary(value):
    """Constant or missing observations predict nothing, and are refused instead of being filled."""
    table = Table.from_arrays(
        np.full((8, 3), value), {"site": [*"aabbaabb"], "kind": [*"xyxyxyxy"]}
    )
    with pytest.raises(DataError, match="no feature varies"):
        compare_gaps(table, "site", "kind")
