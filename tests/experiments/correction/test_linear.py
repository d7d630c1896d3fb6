"""Linear removal: equals a dense twin, is a projection, recovers what was planted, or refuses."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.datasets import digit_forms
from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import LinearCorrection, Table, correct, plant, scene_table


def codes(found):
    return [note.code for note in found.notes]


def indicators(labels):
    return (np.asarray(labels)[:, None] == np.unique(labels)).astype(float)


def dense_twin(values, batches, wanted):
    """Subtract batch effects that sum to zero, feature by feature, from one dense lstsq each."""
    corrected = values.copy()
    for feature in range(values.shape[1]):
        seen = ~np.isnan(values[:, feature])
        of_batch = indicators(batches[seen])
        shown = of_batch[:, of_batch.any(axis=0)]
        design = np.hstack([np.ones((seen.sum(), 1)), wanted[seen], shown])
        solution = np.linalg.lstsq(design, values[seen, feature], rcond=None)[0]
        effects = solution[-shown.shape[1] :]
        corrected[seen, feature] -= shown @ (effects - effects.mean())
    return corrected


def random_table(seed, missing=0.0):
    """Draw an unbalanced table with a categorical and a numeric factor to keep."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 50))
    sheet = {
        "month": rng.choice(["a", "b", "c", "d"], size=n, p=[0.4, 0.3, 0.2, 0.1]),
        "drug": rng.choice(["no", "low", "high"], size=n),
        "age": rng.uniform(20, 60, size=n),
    }
    values = (
        100
        + rng.normal(size=(n, 15))
        + 3 * indicators(sheet["month"]) @ rng.normal(size=(len(set(sheet["month"])), 15))
    )
    values[rng.random(values.shape) < missing] = np.nan
    return Table.from_arrays(values, sheet), np.column_stack(
        [indicators(sheet["drug"]), sheet["age"]]
    )


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(15))
def test_equals_dense_twin(seed, missing):
    """Every value equals the dense least-squares reference to 1e-10, missing values included."""
    table, wanted = random_table(seed, missing)
    found = correct(table, "month", ["drug", "age"])
    twin = dense_twin(table.values, np.array(table.sheet["month"]), wanted)

    assert found.unchanged == ()
    assert np.array_equal(np.isnan(twin), np.isnan(found.values))
    assert np.nanmax(np.abs(twin - found.values)) < 1e-10


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_correcting_twice_equals_once(missing):
    """Removal is a projection: a second correction finds nothing to remove."""
    table, _ = random_table(3, missing)
    once = correct(table, "month", ["drug", "age"]).values
    again = correct(Table.from_arrays(once, table.sheet), "month", ["drug", "age"]).values

    assert np.nanmax(np.abs(once - again)) < 1e-10


def test_order_of_specimens_and_names_of_batches_do_not_matter():
    """Permuted rows and renamed batches give the same corrected values."""
    table, _ = random_table(4)
    order = np.random.default_rng(0).permutation(len(table.specimens))
    sheet = {name: [column[i] for i in order] for name, column in table.sheet.items()}
    sheet["month"] = [{"a": "z", "b": "y", "c": "x", "d": "w"}[m] for m in sheet["month"]]
    shuffled = correct(Table.from_arrays(table.values[order], sheet), "month", ["drug", "age"])
    plain = correct(table, "month", ["drug", "age"])

    assert np.allclose(plain.values[order], shuffled.values, rtol=0, atol=1e-10)


@pytest.mark.parametrize("treated_share", [0.5, 0.7, 0.9])
def test_planted_truth_is_recovered_exactly_without_noise(treated_share):
    """Without noise the corrected data hold the planted drug effect and no month, to 1e-10."""
    planted = plant(treated_share=treated_share, noise_sd=0.0)
    values = correct(planted.table, "month", ["drug"]).values
    treated = np.array(planted.table.sheet["drug"]) == "yes"

    assert np.abs(values[treated] - planted.drug_effect).max() < 1e-10
    assert np.abs(values[~treated]).max() < 1e-10


def test_kept_effect_is_unbiased_and_centring_attenuates():
    """At R² = .64 the drug effect survives with keep, and loses .64 of its size without."""
    slopes = []
    for seed in range(20):
        planted = plant(40, 200, 2, treated_share=0.9, seed=seed)
        treated = np.array(planted.table.sheet["drug"]) == "yes"
        row = []
        for keep in (["drug"], []):
            values = correct(planted.table, "month", keep).values
            effect = values[treated].mean(axis=0) - values[~treated].mean(axis=0)
            row.append(effect @ planted.drug_effect / (planted.drug_effect @ planted.drug_effect))
        slopes.append(row)
    kept, centred = np.mean(slopes, axis=0)

    assert kept == pytest.approx(1.0, abs=0.03)
    assert centred == pytest.approx(0.36, abs=0.03)


def test_batch_in_the_model_gives_the_same_before_and_after():
    """With its batch terms the corrected table answers exactly as the original one."""
    table, wanted = random_table(5)
    found = correct(table, "month", ["drug", "age"])
    design = np.hstack([np.ones((len(wanted), 1)), wanted[:, 1:], found.batch_terms])
    before, after = (
        np.linalg.lstsq(design, v, rcond=None)[0][: wanted.shape[1]]
        for v in (table.values, found.values)
    )

    assert np.allclose(before, after, rtol=0, atol=1e-9)
    assert found.rank_lost == found.batch_terms.shape[1] == len(found.batch_levels) - 1


def test_partial_confounding_of_real_digits():
    """Partial scene: keeping the digit errs several times less than centring the forms."""
    kept, centred = [], []
    for seed in range(10):
        scene = digit_forms("partial", seed=seed)
        eight = scene.digit == 8
        for errors, keep in ((kept, ["digit"]), (centred, [])):
            values = correct(scene_table(scene), "form", keep).values
            effect = values[eight].mean(axis=0) - values[~eight].mean(axis=0)
            errors.append(scene.relative_error(effect))

    assert np.mean(kept) < 0.03
    assert np.mean(centred) > 0.1


@pytest.mark.parametrize("scene", [digit_forms("total"), digit_forms(fraction=1.0)])
def test_confounded_is_refused_by_name(scene):
    """Where digit cannot be told from form: no values, the relation, and what would help."""
    with pytest.raises(ConfoundedError, match="digit cannot be told from form") as caught:
        correct(scene_table(scene), "form", ["digit"])

    assert len(caught.value.aliased) == 1
    assert caught.value.aliased[0].startswith("digit[8] = form[")
    assert "run for example digit 3 also in batch" in str(caught.value)
    if len(set(scene.form_labels)) > 2:
        assert "several batches per group" in str(caught.value)


def test_refusal_says_what_is_estimable():
    """Of two kept factors the entangled one is named, the other called estimable."""
    table = Table.from_arrays(
        np.random.default_rng(0).normal(size=(8, 2)),
        {"month": ["May", "July"] * 4, "drug": ["no", "yes"] * 4, "sex": ["f", "f", "m", "m"] * 2},
    )
    with pytest.raises(ConfoundedError, match="Estimable: sex") as caught:
        correct(table, "month", ["drug", "sex"])

    assert caught.value.aliased == ("drug[yes] = month[July]",)


def test_notes():
    """What is lost, what is left and what a later test must do is said; nothing else."""
    planted = plant(treated_share=0.9, months=2)

    assert codes(correct(planted.table, "month", ["drug"])) == ["additive_only", "later_tests"]
    naive = correct(planted.table, "month")
    assert codes(naive) == ["nothing_kept", "attenuation"]
    assert "drug loses up to 64% of its effect" in naive.notes[1].message


def test_unkept_numbers_are_named_too():
    """A numeric column that goes with the batch is named with what it would lose; others not."""
    planted = plant(40, 5, 2)
    month = np.array([label == "m1" for label in planted.table.sheet["month"]])
    rng = np.random.default_rng(0)
    sheet = {
        **planted.table.sheet,
        "age": 30 + 20 * month + rng.normal(size=40),
        "weight": np.tile(np.arange(20.0), 2),
        "name": [f"n{i}" for i in range(40)],
        "room": [None] * 40,
    }
    notes = correct(Table.from_arrays(planted.table.values, sheet), "month").notes

    assert [note.where for note in notes if note.code == "attenuation"] == [("age",)]


def test_inflation_of_later_tests_is_what_the_note_says():
    """A t without the batch is √(VIF·(n - p)/df) times t with it, exactly, on corrected data."""
    planted = plant(40, 5, 2, treated_share=0.8, seed=3)
    found = correct(planted.table, "month", ["drug"])
    treated = (np.array(planted.table.sheet["drug"]) == "yes").astype(float)

    def t(design, values):
        solution, rss, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        variance = np.linalg.inv(design.T @ design)[1, 1]
        return solution[1] / np.sqrt(rss / (len(values) - rank) * variance)

    plain = np.column_stack([np.ones(40), treated])
    honest = np.hstack([plain, found.batch_terms])
    ratio = t(plain, found.values) / t(honest, found.values)
    vif = found.kept[0].confounding.vif

    assert np.allclose(ratio, np.sqrt(vif * 38 / 37))
    assert f"drug up to {ratio[0]:.2f} times" in found.notes[1].message


def test_features_that_cannot_be_fitted_stay_and_are_named():
    """A feature seen in one batch only, or only where drug and month agree, is left unchanged."""
    planted = plant(20, 4, 2, seed=1)
    month = np.array(planted.table.sheet["month"])
    treated = np.array(planted.table.sheet["drug"]) == "yes"
    values = planted.table.values.copy()
    values[month == "m0", 0] = np.nan
    values[(month == "m0") != treated, 1] = np.nan
    values[:, 2] = np.nan
    found = correct(Table.from_arrays(values, planted.table.sheet), "month", ["drug"])

    assert sorted(found.unchanged) == ["feature 1", "feature 2", "feature 3"]
    assert "features_unchanged" in codes(found)
    assert np.array_equal(values[:, :3], found.values[:, :3], equal_nan=True)
    assert not np.array_equal(values[:, 3], found.values[:, 3])


def test_a_feature_that_a_batch_lacks_is_named_and_so_are_values_that_come_later():
    """It is corrected in the other batches; values that turn up there later stay, with a note."""
    table, _ = random_table(3)
    month = np.array(table.sheet["month"])
    values = table.values.copy()
    values[month == "b", 2] = np.nan
    fitted = LinearCorrection(keep=("drug",)).fit(Table.from_arrays(values, table.sheet), "month")
    found = fitted.transform(Table.from_arrays(values, table.sheet))
    order = [4, 2, 0]
    later = Table.from_arrays(
        table.values[:, order], table.sheet, features=[table.features[j] for j in order]
    )
    whole = fitted.transform(later)

    (note,) = [one for one in found.notes if one.code == "unseen_in_batch"]
    assert note.where == ("feature 3 / b",)
    assert "left_unchanged" not in codes(found)
    (note,) = [one for one in whole.notes if one.code == "left_unchanged"]
    assert note.where == ("feature 3 / b",)
    assert np.array_equal(whole.values[month == "b", 1], table.values[month == "b", 2])
    assert not np.isclose(whole.values[month != "b", 1], table.values[month != "b", 2]).any()


def test_missing_values_touch_no_other_feature():
    """A feature without missing values is corrected as if the others had none."""
    table, _ = random_table(6)
    values = table.values.copy()
    values[::3, 4] = np.nan
    holed = correct(Table.from_arrays(values, table.sheet), "month", ["drug", "age"]).values
    plain = correct(table, "month", ["drug", "age"]).values

    others = [j for j in range(15) if j != 4]
    assert np.allclose(plain[:, others], holed[:, others], rtol=0, atol=1e-10)


def test_fitted_corrects_other_specimens():
    """Fitted effects apply to new specimens of known batches, features matched by name."""
    table, _ = random_table(7)
    fitted = LinearCorrection(keep=("drug",)).fit(table, "month")
    whole = fitted.transform(table).values
    rows, columns = [5, 0, 9, 11, 13, 2], [3, 1]
    part = Table.from_arrays(
        table.values[np.ix_(rows, columns)],
        {name: [column[i] for i in rows] for name, column in table.sheet.items()},
        features=[table.features[j] for j in columns],
    )

    assert np.array_equal(whole[np.ix_(rows, columns)], fitted.transform(part).values)


def test_unseen_batches_and_features_are_refused():
    """A batch or feature that was not fitted is named."""
    planted = plant(12, 3, 2)
    fitted = LinearCorrection().fit(planted.table, "month")
    strange = Table.from_arrays(planted.table.values, {"month": ["m0", "m7"] * 6})
    with pytest.raises(DataError, match="not fitted: m7; known are m0, m1"):
        fitted.transform(strange)
    other = Table.from_arrays(planted.table.values, planted.table.sheet, features=["x", "y", "z"])
    with pytest.raises(DataError, match="not fitted: 'x', 'y', 'z'"):
        fitted.transform(other)


def test_input_is_not_changed():
    """Correction makes a new array."""
    table, _ = random_table(8)
    before = table.values.copy()
    correct(table, "month", ["drug"])

    assert np.array_equal(before, table.values)


def test_single_specimen_batch():
    """A batch of one specimen is corrected onto the fit and remarked upon; nothing is NaN."""
    values = np.random.default_rng(0).normal(size=(7, 3))
    table = Table.from_arrays(
        values, {"month": [*"aaabbb", "c"], "drug": ["n", "y", "n", "y", "n", "y", "n"]}
    )
    found = correct(table, "month", ["drug"])

    assert np.isfinite(found.values).all()
    assert "single_specimen_batches" in codes(found)


def test_look_alike_labels_are_noted():
    """Batches named May and may are different batches, and that is said."""
    values = np.random.default_rng(0).normal(size=(6, 2))
    found = correct(Table.from_arrays(values, {"month": ["May", "may", "July"] * 2}), "month")

    assert "look_alike_labels" in codes(found)
