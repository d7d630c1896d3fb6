"""ComBat-seq against R, on other specimens, and on what it must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import CombatCorrection, CombatSeqCorrection, FittedCombatSeq, Table
from batchsense.experiments.correction.combat_seq.model import fit_combat_seq

REFERENCE = Path(__file__).parents[2] / "references" / "counts" / "counts.npz"
#: Equal counts, as a part of all.
SHARE = 0.999


def reference(name, keep, result="less"):
    """Give a stored table, and what R makes of it."""
    with np.load(REFERENCE) as stored:
        counts = stored[f"{name}_counts"].astype(float)
        sheet = {k: stored[f"{name}_{k}"].tolist() for k in ("batch", *keep)}
        return Table.from_arrays(counts, sheet), counts + stored[f"{name}_{result}"]


def corrected(table, keep=(), **declared):
    return CombatSeqCorrection(keep=keep, **declared).fit(table, "batch").transform(table)


@pytest.mark.parametrize(("keep", "result"), [(("group",), "group_less"), ((), "nogroup_less")])
def test_simulated_counts_as_r_corrects_them(keep, result):
    """At least 99.9 % of 48,000 counts equal R's, and none is off by more than one."""
    table, wanted = reference("simulated", keep, result)
    off = np.abs(corrected(table, keep).values - wanted)

    assert (off == 0).mean() >= SHARE
    assert off.max() <= 1


@pytest.mark.parametrize("name", ["sparse", "constant", "pair"])
def test_hard_counts_as_r_corrects_them(name):
    """So it is with sparse counts, a group constant in a batch, and a batch of two specimens."""
    table, wanted = reference(name, ("group",))
    off = np.abs(corrected(table, ("group",)).values - wanted)

    assert (off == 0).mean() >= SHARE
    assert off.max() <= 1


def test_few_counts_and_a_number_kept():
    """With few counts and a numeric factor 99.9 % equal R's; one feature differs by more.

    Its counts in one batch are 4, 1, 0, 0, 0, 0, and its whole group there is zero: R's fits stop
    before their means reach zero, which moves its dispersion to the end of the range.
    """
    table, wanted = reference("low", ("group", "age"))
    off = np.abs(corrected(table, ("group", "age")).values - wanted)

    assert (off == 0).mean() >= SHARE
    assert (off > 1).sum() <= 1


def simulated(seed=0, features=60, drug="nnyynnyynyny", empty=False):
    """Draw counts of twelve specimens in three months, with a drug."""
    rng = np.random.default_rng(seed)
    month = np.repeat(["May", "June", "July"], 4)
    factor = np.repeat(np.exp(rng.normal(0, 0.7, (3, features))), 4, axis=0)
    counts = rng.negative_binomial(5, 5 / (5 + 40 * factor)).astype(float)
    if empty:
        counts[month == "June", 3] = 0
    return Table.from_arrays(counts, {"batch": month, "drug": [*drug]})


def test_whole_numbers_stay_whole_and_zeros_stay_zeros():
    """The result holds counts; zeros neither come nor go; the input is not changed."""
    table = simulated()
    before = table.values.copy()
    values = corrected(table, ("drug",)).values

    np.testing.assert_array_equal(values, np.rint(values))
    np.testing.assert_array_equal(values == 0, before == 0)
    np.testing.assert_array_equal(table.values, before)


def test_a_feature_without_counts_in_a_batch_is_left_and_named():
    """Such a feature comes back as it was, and a note names it."""
    table = simulated(empty=True)
    found = corrected(table, ("drug",))

    np.testing.assert_array_equal(found.values[:, 3], table.values[:, 3])
    assert found.unchanged == ("feature 4",)
    assert [n.where for n in found.notes if n.code == "features_unchanged"] == [("feature 4",)]


def test_other_specimens_and_another_order_of_features():
    """Specimens are corrected alike alone or together, in any order of the features."""
    table = simulated()
    fitted = CombatSeqCorrection(keep=("drug",)).fit(table, "batch")
    rows, columns = [0, 2, 5, 9], np.random.default_rng(1).permutation(60)
    part = Table.from_arrays(
        table.values[rows][:, columns],
        {name: [entries[i] for i in rows] for name, entries in table.sheet.items()},
        features=[table.features[j] for j in columns],
    )

    np.testing.assert_array_equal(
        fitted.transform(part).values, fitted.transform(table).values[rows][:, columns]
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch": ["May", "May", "August", "June"]}, "not fitted: August"),
        ({"drug": ["n", "y", "x", "y"]}, "not fitted: x; known are n, y"),
        ({"drug": ["n", "y", None, "y"]}, "no label for 'specimen 3'"),
    ],
)
def test_new_specimens_of_unknown_kind(change, says):
    """A batch or level that was not fitted, or a missing label, is refused by specimen."""
    fitted = CombatSeqCorrection(keep=("drug",)).fit(simulated(), "batch")
    sheet = {"batch": ["May", "May", "June", "June"], "drug": ["n", "y", "n", "y"], **change}
    table = Table.from_arrays(np.full((4, 60), 7.0), sheet)

    with pytest.raises(DataError, match=says):
        fitted.transform(table)


def test_new_specimens_without_some_features():
    """Library sizes need every fitted feature."""
    fitted = CombatSeqCorrection().fit(simulated(), "batch")
    table = Table.from_arrays(np.full((4, 59), 7.0), {"batch": ["May", "May", "June", "June"]})

    with pytest.raises(DataError, match="missing, and library sizes need them: feature 60"):
        fitted.transform(table)


@pytest.mark.parametrize(
    ("value", "says"), [(1.5, "is 1.5"), (-1.0, "is -1"), (np.nan, "is missing")]
)
def test_values_that_are_no_counts(value, says):
    """Fractions, negative and missing values are refused by specimen and feature."""
    table = simulated()
    table.values[4, 7] = value

    with pytest.raises(DataError, match=f"1 values are none.*specimen 5 / feature 8 {says}"):
        CombatSeqCorrection().fit(table, "batch")


def test_a_batch_of_one_specimen():
    """It is refused by name: nothing tells how counts scatter there."""
    table = simulated()
    sheet = {**table.sheet, "batch": ["April", *table.sheet["batch"][1:]]}

    with pytest.raises(DataError, match="April of 'batch' has one"):
        CombatSeqCorrection().fit(Table.from_arrays(table.values, sheet), "batch")


def test_specimens_and_tables_without_counts():
    """A specimen without counts is named; so is a table without a feature that all batches have."""
    table = simulated()
    table.values[2] = 0
    with pytest.raises(DataError, match=r"without counts.*specimen 3"):
        CombatSeqCorrection().fit(table, "batch")
    table.values[:4] = 0
    with pytest.raises(DataError, match="no feature has counts in every batch"):
        CombatSeqCorrection().fit(table, "batch")


def test_what_goes_with_the_batches_is_refused():
    """A drug that cannot be told from the months is refused with the relation."""
    with pytest.raises(ConfoundedError, match="drug cannot be told from batch"):
        CombatSeqCorrection(keep=("drug",)).fit(simulated(drug="nnnnyyyyyyyy"), "batch")


def test_notes():
    """Nothing kept, later tests and a shared dispersion are remarked upon."""
    table = simulated(drug="nnyynyynnnnn")

    codes = [note.code for note in corrected(table).notes]
    assert codes == ["nothing_kept", "attenuation", "later_tests"]
    notes = {note.code: note for note in corrected(table, ("drug",)).notes}
    assert set(notes) == {"later_tests", "common_dispersion"}
    assert notes["common_dispersion"].where == ("July",)


def test_counts_are_compared_by_their_logarithms():
    """As log2 counts per million, less of the variance is that of the batches afterwards."""
    table = simulated(features=300)
    found = corrected(table, ("drug",))
    shares = []
    for values in found.compared():
        means = np.repeat([values[i : i + 4].mean(axis=0) for i in (0, 4, 8)], 4, axis=0)
        shares.append((means - values.mean(axis=0)).var() / (values - values.mean(axis=0)).var())

    assert shares[1] < 0.4 * shares[0]


def test_saved_and_loaded(tmp_path):
    """A stored correction gives the same counts and notes; another kind of file is refused."""
    table = simulated(empty=True)
    fitted = CombatSeqCorrection(keep=("drug",)).fit(table, "batch")
    fitted.save(tmp_path / "c.npz")
    again = FittedCombatSeq.load(tmp_path / "c.npz")

    np.testing.assert_array_equal(again.transform(table).values, fitted.transform(table).values)
    assert again.notes == fitted.notes
    assert again.unchanged == fitted.unchanged == ("feature 4",)
    assert [one.name for one in again.kept] == ["drug"]
    CombatCorrection().fit(table, "batch").save(tmp_path / "other.npz")
    with pytest.raises(DataError, match="by the combat method, not combat-seq"):
        FittedCombatSeq.load(tmp_path / "other.npz")


def test_despite_confounding():
    """If asked, what goes with the batches is removed with them, and a note says so."""
    table = simulated(drug="nnnnyyyyyyyy")
    found = corrected(table, ("drug",), despite_confounding=True)

    np.testing.assert_array_equal(found.values, corrected(table).values)
    assert "confounded_removed" in [note.code for note in found.notes]


def test_columns_that_say_the_same():
    """Columns for all levels give what columns for all but the first give."""
    table = simulated()
    codes = np.unique(np.array(table.sheet["batch"]), return_inverse=True)[1]
    drug = (np.array(table.sheet["drug"]) == "y").astype(float)
    few = fit_combat_seq(table.values, codes, drug[:, None])
    many = fit_combat_seq(table.values, codes, np.column_stack([1 - drug, codes == 1, drug]))

    assert many.chosen.tolist() == [2]
    np.testing.assert_array_equal(few.shifts, many.shifts)


def test_names_and_order_do_not_matter():
    """Renaming batches and reordering specimens changes no count."""
    table = simulated()
    values = corrected(table, ("drug",)).values
    names = {"May": "z", "June": "a", "July": "m"}
    order = np.random.default_rng(2).permutation(12)
    sheet = {
        "batch": [names[table.sheet["batch"][i]] for i in order],
        "drug": [table.sheet["drug"][i] for i in order],
    }
    other = corrected(Table.from_arrays(table.values[order], sheet), ("drug",)).values

    np.testing.assert_array_equal(values[order], other)


@pytest.mark.slow
def test_effects_that_are_kept_survive_and_false_ones_do_not_come():
    """Over 20 draws the planted log fold change of 1 comes back within 0.1, others stay at 0."""
    kept, others = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        codes, drug = np.repeat([0, 1, 2], 12), rng.permutation(np.tile([0, 1], 18))
        shift = rng.normal(0, 0.7, (3, 300))[codes]
        effect = np.where(np.arange(300) < 150, 1.0, -1.0) * (np.arange(300) % 3 == 0)
        means = 60 * np.exp(shift + drug[:, None] * effect)
        counts = rng.negative_binomial(5, 5 / (5 + means))
        table = Table.from_arrays(counts, {"batch": codes, "drug": drug})
        values = np.log(corrected(table, ("drug",)).values + 0.5)
        change = values[drug == 1].mean(axis=0) - values[drug == 0].mean(axis=0)
        kept.append((change * effect)[effect != 0].mean())
        others.append(change[effect == 0].mean())

    assert abs(np.mean(kept) - 1) < 0.1
    assert abs(np.mean(others)) < 0.1
