"""The diagnosis: the right verdict with the right names, whatever the order of rows and labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsense.datasets import digit_forms
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments import PlantedEffects, Table, diagnose, digits_table, plant, scene_table


def codes(found):
    return [note.code for note in found.notes]


def test_digits_need_adjusting():
    """The digits: nearly balanced, form seen, its interaction with digit larger than itself."""
    found = diagnose(digits_table(), "form", ["digit"], permutations=40)
    digit = found.kept[0]

    assert found.verdict == "adjust"
    assert digit.entanglement.cramers_v < 0.02
    assert digit.entanglement.confounding.r2 < 0.002
    assert found.batch_share.raw >= 5 * found.batch_share.null.mean
    assert found.batch_share.share.estimate == pytest.approx(0.036, abs=0.001)
    assert found.interaction_share.share.low > 4 * found.batch_share.share.estimate
    assert "interaction_dominates" in codes(found)


@pytest.mark.parametrize(
    ("scene", "verdict", "r2"),
    [
        (digit_forms("balanced"), "adjust", 0.0),
        (digit_forms("partial"), "adjust", 0.36),
        (digit_forms(fraction=0.9), "partly_lost", 0.64),
        (digit_forms("total"), "not_estimable", 1.0),
        (digit_forms(fraction=1.0), "not_estimable", 1.0),
    ],
)
def test_verdicts_of_the_scenes(scene, verdict, r2):
    """R² of digit with form is V² = (2p - 1)², and the verdict follows it."""
    found = diagnose(scene_table(scene), "form", ["digit"], permutations=20)
    numbers = found.kept[0].entanglement.confounding

    assert found.verdict == verdict
    assert numbers.r2 == pytest.approx(r2, abs=0.005)
    assert numbers.effective_n == pytest.approx((1 - numbers.r2) * len(scene.digit))
    assert numbers.attenuation == pytest.approx(numbers.r2)


def test_total_confounding_is_named():
    """The May/July scene: the relation by level, the two unlinked groups, no invented share."""
    scene = digit_forms("total")
    found = diagnose(scene_table(scene), "form", ["digit"], permutations=20)
    three, eight = (int(scene.form_labels[scene.digit == d][0]) for d in (3, 8))
    digit = found.kept[0]

    assert digit.entanglement.confounding.aliased == (f"digit[8] = form[{eight}]",)
    assert [group.conditions for group in digit.entanglement.linked] == [("3",), ("8",)]
    assert f"digit 3 also in batch {eight}" in digit.entanglement.explanation
    assert f"{{3}} only in {{{three}}}" in digit.entanglement.explanation
    assert digit.share is None
    assert found.batch_share is None
    assert found.joint_share.share.low > 0.1


def test_balanced_noise_is_fine():
    """Without any batch effect a balanced table is fine in about 95 of 100 cases."""
    fine = 0
    for seed in range(40):
        planted = plant(
            specimens=24, features=20, months=2, effects=PlantedEffects(month_sd=0.0), seed=seed
        )
        found = diagnose(planted.table, "month", ["drug"], permutations=60, seed=seed)
        fine += found.verdict == "fine"

    assert fine >= 35


def test_unseen_but_entangled_batches_need_adjusting():
    """No batch effect is seen, but R² is .25: adjust, for an unseen effect would leak."""
    planted = plant(
        specimens=40,
        features=20,
        months=2,
        treated_share=0.75,
        effects=PlantedEffects(month_sd=0),
        seed=1,
    )
    found = diagnose(planted.table, "month", ["drug"], permutations=60)

    assert found.batch_share.null.p_value > 0.05
    assert found.kept[0].entanglement.confounding.r2 == pytest.approx(0.25)
    assert found.verdict == "adjust"
    assert "even an unseen one would leak" in found.reason


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(random):
    """Permuting specimens and features, or renaming batches, changes no estimate."""
    planted = plant(specimens=18, features=6, months=3, treated_share=0.7, seed=2)
    table = planted.table
    rows, columns = list(range(18)), list(range(6))
    random.shuffle(rows)
    random.shuffle(columns)
    new_names = {"m0": "z", "m1": "a", "m2": "k"}
    shuffled = Table.from_arrays(
        table.values[np.ix_(rows, columns)],
        {
            "month": [new_names[table.sheet["month"][i]] for i in rows],
            "drug": [table.sheet["drug"][i] for i in rows],
        },
    )
    first = diagnose(table, "month", ["drug"], permutations=20)
    second = diagnose(shuffled, "month", ["drug"], permutations=20)

    for name in ("batch_share", "joint_share", "interaction_share"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.raw == pytest.approx(other.raw, rel=1e-9)
        assert one.share.low == pytest.approx(other.share.low, rel=1e-6, abs=1e-9)
        assert one.share.high == pytest.approx(other.share.high, rel=1e-6)
    numbers = [found.kept[0].entanglement.confounding for found in (first, second)]
    assert numbers[0].r2 == pytest.approx(numbers[1].r2)


def test_seed_repeats_the_null():
    """The same seed gives the same permutations, another seed others."""
    table = plant(specimens=20, features=5, seed=3).table
    first, again, other = (
        diagnose(table, "month", ["drug"], permutations=20, seed=s) for s in (1, 1, 2)
    )

    assert first.batch_share.null == again.batch_share.null
    assert first.batch_share.null != other.batch_share.null


def test_units_count_unless_standardised():
    """A feature in other units decides the shares, with a note; standardised it does not."""
    table = plant(specimens=30, features=10, seed=4).table
    values = table.values.copy()
    values[:, 0] *= 1000
    scaled = Table.from_arrays(values, table.sheet)
    plain = diagnose(scaled, "month", ["drug"], permutations=20)
    even = diagnose(scaled, "month", ["drug"], permutations=20, standardise=True)
    before = diagnose(table, "month", ["drug"], permutations=20, standardise=True)

    assert "dominant_feature" in codes(plain)
    assert "dominant_feature" not in codes(even)
    assert even.batch_share.raw == pytest.approx(before.batch_share.raw)
    assert plain.batch_share.raw != pytest.approx(before.batch_share.raw, abs=0.01)


def test_features_that_cannot_serve_are_noted():
    """Features with missing values are left out, constant ones carry nothing; both are named."""
    table = plant(specimens=12, features=5, seed=5).table
    values = table.values.copy()
    values[3, 1], values[:, 2] = np.nan, 7.0
    found = diagnose(Table.from_arrays(values, table.sheet), "month", ["drug"], permutations=20)
    rest = Table.from_arrays(values[:, [0, 3, 4]], table.sheet)

    assert found.features == 4
    assert {"incomplete_features", "constant_features"} <= set(codes(found))
    assert found.batch_share.raw == pytest.approx(
        diagnose(rest, "month", ["drug"], permutations=20).batch_share.raw
    )


@pytest.mark.parametrize(("value", "says"), [(np.nan, "every feature"), (3.0, "no feature varies")])
def test_tables_without_information(value, says):
    """All features incomplete, or nothing varying: refused."""
    values = plant(specimens=12, features=2).table.values.copy()
    values[0 if np.isnan(value) else slice(None)] = value
    table = Table.from_arrays(values, {"month": ["a", "b"] * 6})

    with pytest.raises(DataError, match=says):
        diagnose(table, "month")


def test_nothing_kept():
    """Without kept factors the batch share is given, and what cannot be said is said."""
    found = diagnose(plant(seed=6).table, "month", permutations=20)

    assert found.verdict == "adjust"
    assert "nothing_kept" in codes(found)


def test_too_few_specimens():
    """Factors that can be told apart without any degree of freedom left: unresolved, what helps."""
    table = Table.from_arrays(
        np.random.default_rng(0).normal(size=(3, 4)),
        {"month": ["May", "May", "July"], "drug": ["no", "yes", "no"]},
    )
    with pytest.raises(UnresolvedError, match="at least one more specimen"):
        diagnose(table, "month", ["drug"])


def test_too_few_permutations_to_see_anything():
    """With fewer than 20 permutations no batch effect could ever be seen: refused."""
    with pytest.raises(ValueError, match="at least 20"):
        diagnose(plant().table, "month", ["drug"], permutations=19)


def test_two_specimens_totally_confounded():
    """The smallest hopeless experiment gets the verdict, not an error."""
    table = Table.from_arrays(
        [[1.0, 2.0], [3.0, 5.0]], {"month": ["May", "July"], "drug": ["no", "yes"]}
    )
    found = diagnose(table, "month", ["drug"])

    assert found.verdict == "not_estimable"
    assert found.joint_share is None


def test_kept_factors_that_say_the_same():
    """Two kept columns that determine each other are refused by relation."""
    table = Table.from_arrays(
        np.random.default_rng(0).normal(size=(8, 2)),
        {"month": ["a", "b"] * 4, "drug": ["n", "n", "y", "y"] * 2, "dose": [0, 0, 5, 5] * 2},
    )
    with pytest.raises(DataError, match=r"say the same: dose\[5\] = drug\[y\]"):
        diagnose(table, "month", ["drug", "dose"])


def test_partial_aliasing_names_only_the_lost_level():
    """Drug c was given in month 3 only: that is named, and the rest is still estimated."""
    month = np.repeat(["1", "2", "3"], 4)
    drug = np.array(["a", "b", "a", "b"] * 2 + ["c"] * 4)
    table = Table.from_arrays(
        np.random.default_rng(0).normal(size=(12, 5)),
        {
            "month": month,
            "drug": drug,
        },
    )
    found = diagnose(table, "month", ["drug"], permutations=20)
    drug_found = found.kept[0].entanglement

    assert found.verdict == "not_estimable"
    assert drug_found.confounding.aliased == ("drug[c] = month[3]",)
    assert [g.conditions for g in drug_found.linked] == [("a", "b"), ("c",)]
    assert found.kept[0].share.columns == 1
