"""Surrogates of a table: how many, what they look like, where they are dangerous."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments import Estimation, PlantedEffects, Table, find_surrogates, plant
from batchsense.experiments.surrogates.finding import _against_kept
from batchsense.experiments.tables import kept_factors


@pytest.fixture(scope="module")
def planted():
    """36 specimens in three months; a quarter of the features differ by drug, half by month."""
    return plant(
        specimens=36,
        features=600,
        months=3,
        treated_share=0.75,
        effects=PlantedEffects(drug_share=0.25, month_share=0.5),
    )


def test_the_hidden_month_is_found_and_recognised(planted):
    """Two surrogates explain the month; the account names it."""
    found = find_surrogates(planted.table, ["drug"])
    month = np.array(planted.table.sheet["month"])
    truth = (month[:, None] == np.unique(month)).astype(float)
    centred = found.values - found.values.mean(axis=0)
    left = truth - truth.mean(axis=0)
    left = left - centred @ np.linalg.lstsq(centred, left, rcond=None)[0]

    assert found.names == ("sv1", "sv2")
    assert (left**2).sum() < 0.02 * ((truth - truth.mean(axis=0)) ** 2).sum()
    for likeness in found.likenesses:
        assert likeness[0].column == "month"
        assert likeness[0].adjusted_r2 > 0.95
        assert likeness[0].p_value < 1e-10
    assert 0.15 < found.kept[0][1].r2 < 0.35
    assert [note.code for note in found.notes] == ["estimated_covariates"]
    assert sum(found.residual_shares) < 0.6


def test_a_known_month_leaves_nothing(planted):
    """Beside the month there is no further direction."""
    found = find_surrogates(planted.table, ["drug"], known=["month"])

    assert found.names == ()
    assert found.counted.count == 0
    assert "sv1" not in found.sheet()


def test_the_sheet_has_exact_numbers(planted):
    """The written columns read back as the same numbers, in the order of the matrix."""
    found = find_surrogates(planted.table, ["drug"], estimation=Estimation("two-step"))
    sheet = found.sheet()

    assert [float(entry) for entry in sheet["sv1"]] == found.values[:, 0].tolist()
    assert sheet["drug"] == planted.table.sheet["drug"]
    assert sheet["id"] == planted.table.specimens


def test_a_given_count_is_not_estimated(planted):
    """As many as were asked for, without permutations, and a note says that nothing checked it."""
    asked = []
    found = find_surrogates(
        planted.table,
        ["drug"],
        estimation=Estimation(count=4),
        progress=lambda task, done, total: asked.append(task),
    )

    assert len(found.names) == 4
    assert found.counted is None
    assert "count_not_checked" in [note.code for note in found.notes]
    assert "permuting residuals" not in asked


def test_a_hidden_batch_that_goes_with_the_drug_is_said():
    """R² of the drug with the surrogates is reported and remarked on."""
    table = plant(
        36, 600, 3, treated_share=0.92, effects=PlantedEffects(drug_share=0.1, month_share=0.5)
    ).table
    found = find_surrogates(table, ["drug"])

    assert found.kept[0][1].r2 > 0.4
    assert "surrogates_near_kept" in [note.code for note in found.notes]


def test_nothing_kept_is_said(planted):
    """Without a kept column the surrogates may hold the drug, and the account says so."""
    found = find_surrogates(planted.table, [])

    assert "nothing_kept" in [note.code for note in found.notes]


def test_refusals(planted):
    """Too few features, no degrees of freedom, taken names: each says what is needed."""
    table = planted.table
    few = Table.from_arrays(table.values[:, :50], table.sheet)
    with pytest.raises(DataError, match="at least 100"):
        find_surrogates(few, ["drug"])
    short = Table.from_arrays(
        table.values[:4], {"dose": [1.5, 2.5, 3.5, 9.5], "age": [1, 5, 2, 8.5]}
    )
    with pytest.raises(UnresolvedError, match="degree of freedom"):
        find_surrogates(short, ["dose", "age"])
    taken = Table.from_arrays(table.values, dict(table.sheet) | {"sv1": range(36)})
    with pytest.raises(DataError, match="'sv1' already"):
        find_surrogates(taken, ["drug"])
    with pytest.raises(DataError, match="no column 'dose'"):
        find_surrogates(table, ["dose"])
    with pytest.raises(ValueError, match="20 permutations"):
        find_surrogates(table, ["drug"], permutations=3)


def test_a_kept_factor_inside_the_surrogates_is_refused(planted):
    """Should the drug lie in the span of the surrogates, it is refused by name."""
    factors, _ = kept_factors(planted.table, ["drug"], "")
    treated = factors[0].design()[0]

    with pytest.raises(ConfoundedError, match="drug cannot be told from the surrogates") as caught:
        _against_kept(factors, (), 1.0 - treated, ("sv1",))

    assert caught.value.aliased == ("drug[yes] = Intercept - sv1",)


def test_features_with_missing_values_are_left_out(planted):
    """Incomplete and constant features are noted and not used."""
    values = planted.table.values.copy()
    values[0, :7] = np.nan
    values[:, 7] = 1.0
    found = find_surrogates(Table.from_arrays(values, planted.table.sheet), ["drug"])

    assert found.features == 592
    assert {"incomplete_features", "constant_features"} <= {note.code for note in found.notes}


def test_affected_features_are_counted_without_a_kept_column_too(planted):
    """Nothing kept: about the half of the features that differ by month took part, not none."""
    found = find_surrogates(planted.table, [])

    assert 200 < found.affected_features < 450


def test_known_and_kept_columns_that_say_the_same(planted):
    """A kept column that goes with a known one is refused by relation, before any surrogate."""
    sheet = dict(planted.table.sheet)
    sheet["lot"] = [label.upper() for label in sheet["month"]]
    table = Table.from_arrays(planted.table.values, sheet)

    with pytest.raises(ConfoundedError, match="lot cannot be told from month") as refusal:
        find_surrogates(table, ["lot"], known=["month"])
    assert refusal.value.aliased == ("lot[M1] = month[m1]", "lot[M2] = month[m2]")
    with pytest.raises(DataError, match=r"say the same: month\[m1\] = lot\[M1\]"):
        find_surrogates(table, ["lot", "month"])
    with pytest.raises(DataError, match="'drug' cannot be both kept and known"):
        find_surrogates(table, ["drug"], known=["drug"])


def test_observations_without_noise():
    """What is kept explains all: refused. Directions that no feature bears out: said so."""
    drug = np.tile(["no", "yes"], 10)
    slopes = np.arange(1.0, 121.0) / 7  # not whole, so no counts
    exact = Table.from_arrays(np.outer(drug == "yes", slopes), {"drug": drug})
    age = np.random.default_rng(1).permutation(20) / 7
    aged = Table.from_arrays(np.outer(age, slopes), {"drug": drug})

    with pytest.raises(DataError, match="explains the observations exactly"):
        find_surrogates(exact, ["drug"], permutations=20)
    found = find_surrogates(aged, ["drug"], permutations=20)
    assert np.isfinite(found.values).all()
    assert "no_affected_features" in [note.code for note in found.notes]


def test_counts_are_looked_at_as_log_counts(planted):
    """The surrogates are those of the log counts per million, and serve the test of the counts."""
    from batchsense.experiments import test
    from batchsense.experiments.counts import log_count_table
    from batchsense.experiments.design import Design
    from batchsense.experiments.sheets.nuisances import no_batches

    rng = np.random.default_rng(5)
    depth = np.exp(rng.uniform(-1, 1, 36))[:, None]
    counts = rng.poisson(np.exp2(planted.table.values + 6) * depth).astype(float)
    names = (*planted.table.features[:-1], "__no_feature")
    table = Table.from_arrays(counts, planted.table.sheet, features=names, values_are="counts")
    logs = log_count_table(table, Design(no_batches(36), kept_factors(table, ["drug"], "")[0]))

    found = find_surrogates(table, ["drug"])

    assert np.array_equal(found.values, find_surrogates(logs, ["drug"]).values)
    assert {one[0].column for one in found.likenesses} == {"month"}
    assert "counts_as_logs" in [note.code for note in found.notes]
    sheet = {**planted.table.sheet, **{name: found.sheet()[name] for name in found.names}}
    again = Table.from_arrays(counts, sheet, features=names, values_are="counts")
    assert test(again, "drug", surrogates=found.names).counts is not None
