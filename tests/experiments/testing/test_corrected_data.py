"""Tests of corrected data: the batch-in-model answer exactly, or a warning with its number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments import CombatCorrection, Table, correct, testing
from batchsense.experiments.testing.remarks import STEEP

NULL_FEATURES = 20_000
#: Pure noise called at 0.05 by a valid test of 20,000 features.
VALID = (0.045, 0.055)


def codes(found):
    return [note.code for note in found.notes]


def two_months(treated_share, specimens=40):
    """Treat this share of the first month and the rest of the second."""
    half = specimens // 2
    first = round(treated_share * half)
    drug = ["yes"] * first + ["no"] * (half - first)
    drug += ["no"] * first + ["yes"] * (half - first)
    return {"month": ["May"] * half + ["July"] * half, "drug": drug}


def noise(sheet, batch, features=NULL_FEATURES, seed=0):
    """Draw noise with large batch shifts and nothing else."""
    rng = np.random.default_rng(seed)
    labels = np.array([str(one) for one in sheet[batch]])
    values = rng.normal(size=(len(labels), features))
    for level in np.unique(labels):
        values[labels == level] += 3 * rng.normal(size=features)
    return Table.from_arrays(values, sheet)


@pytest.mark.parametrize("treated_share", [0.75, 0.9, 0.95])
@pytest.mark.parametrize("shrink", [True, False])
def test_false_positive_rate_on_corrected_data(treated_share, shrink):
    """75/25, 90/10, 95/5: the default test of corrected noise calls 4.5 to 5.5 % at 0.05."""
    table = noise(two_months(treated_share), "month")
    found = testing.test(
        correct(table, "month", ["drug"]), "drug", options=testing.ContrastOptions(shrink=shrink)
    )

    assert found.values == "corrected"
    assert VALID[0] <= np.mean(found.effects[0].p_value <= 0.05) <= VALID[1]
    assert (found.effects[0].q_value > 0.05).sum() >= NULL_FEATURES - 2


def test_false_positive_rate_on_the_bladder_labels(bladder_sheet):
    """The real labels of the bladder study: F and both t call 4.5 to 5.5 % of corrected noise."""
    table = noise(bladder_sheet, "batch", seed=1)
    found = testing.test(correct(table, "batch", ["cancer"]), "cancer")

    for one in (*found.factors, *found.effects):
        assert VALID[0] <= np.mean(one.p_value <= 0.05) <= VALID[1]


@pytest.mark.parametrize("design", [0.75, 0.9, 0.95, "bladder"])
def test_false_positive_rate_after_combat(design, bladder_sheet):
    """Noise corrected by ComBat: the default test, of the original values, calls 4.5 to 5.5 %."""
    on_bladder = design == "bladder"
    sheet, batch, wanted = (
        (bladder_sheet, "batch", "cancer") if on_bladder else (two_months(design), "month", "drug")
    )
    table = noise(sheet, batch, seed=4)
    corrected = CombatCorrection(keep=(wanted,)).fit(table, batch).transform(table)
    default = testing.test(corrected, wanted)
    demanded = testing.test(corrected, wanted, options=testing.ContrastOptions(values="corrected"))
    rates = [
        np.mean((found.factors[0] if on_bladder else found.effects[0]).p_value <= 0.05)
        for found in (default, demanded)
    ]

    assert default.values == "original"
    assert VALID[0] <= rates[0] <= VALID[1]
    assert 0.05 < rates[1] < 0.075


@pytest.mark.parametrize("treated_share", [0.75, 0.9, 0.95])
def test_plain_test_inflates_exactly_as_announced(treated_share):
    """Without the batch t is larger by the published factor, and the rate is the published one."""
    table = noise(two_months(treated_share), "month", seed=2)
    corrected = correct(table, "month", ["drug"])
    honest = testing.test(corrected, "drug", options=testing.ContrastOptions(shrink=False)).effects[
        0
    ]
    plain = testing.test(
        corrected, "drug", options=testing.ContrastOptions(shrink=False, ignore_batches=True)
    )
    rate = np.mean(plain.effects[0].p_value <= 0.05)

    assert np.allclose(plain.effects[0].t, honest.t * honest.plain.inflation, rtol=1e-8)
    assert rate == pytest.approx(honest.plain.false_positive_rate, abs=0.011)
    warning = next(note for note in plain.notes if note.code == "false_positives")
    assert f"{100 * honest.plain.false_positive_rate:.1f} %" in warning.message


def test_announced_rates_are_those_of_the_table():
    """Balanced, 75/25, 90/10, 95/5: 5.3, 9.2, 23.8 and 39.0 % of noise, from the sheet alone."""
    rates = []
    for share in (0.5, 0.75, 0.9, 0.95):
        table = noise(two_months(share), "month", features=5)
        rates.append(testing.test(table, "drug", "month").effects[0].plain.false_positive_rate)

    assert np.allclose(rates, [0.053, 0.092, 0.238, 0.390], atol=0.0006)


def test_announced_rate_of_a_plain_f_test(bladder_sheet):
    """Cancer of three levels: the rate of the plain F test is 28.7 %, announced and simulated."""
    table = noise(bladder_sheet, "batch", seed=3)
    corrected = correct(table, "batch", ["cancer"])
    plain = testing.test(
        corrected, "cancer", options=testing.ContrastOptions(shrink=False, ignore_batches=True)
    ).factors[0]

    assert plain.plain.false_positive_rate == pytest.approx(0.287, abs=0.001)
    assert np.mean(plain.p_value <= 0.05) == pytest.approx(0.287, abs=0.01)


@pytest.mark.parametrize("values", ["complete", "missing"])
def test_equals_batch_in_the_model(bladder, values):
    """Real data, with and without missing values: t and F before and after agree to 1e-10."""
    table = bladder[values]
    before = testing.test(table, "cancer", "batch", options=testing.ContrastOptions(shrink=False))
    after = testing.test(
        correct(table, "batch", ["cancer"]),
        "cancer",
        options=testing.ContrastOptions(shrink=False),
    )

    for first, second in zip(before.effects, after.effects, strict=True):
        assert np.max(np.abs(first.t - second.t)) < 1e-10
    assert np.max(np.abs(before.factors[0].f - after.factors[0].f)) < 1e-10
    assert codes(after) == ["removed_terms_in_model"]


@pytest.mark.parametrize("seed", range(10))
def test_equals_batch_in_the_model_for_random_designs(seed):
    """Whatever was kept, also nothing: corrected values give the batch-in-model t to 1e-10."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 60))
    sheet = {
        "month": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]),
        "drug": rng.choice(["no", "low", "high"], n),
        "age": rng.uniform(20, 60, n),
    }
    table = Table.from_arrays(rng.normal(size=(n, 30)) * rng.gamma(2, size=30), sheet)
    wanted = testing.test(table, ["drug", "age"], "month")
    for kept in (["drug", "age"], ["drug"], []):
        corrected = correct(table, "month", kept)
        found = testing.test(corrected, ["drug", "age"])
        for first, second in zip(wanted.effects, found.effects, strict=True):
            assert np.max(np.abs(first.t - second.t)) < 1e-10


def test_generalised_least_squares_gives_the_same(bladder):
    """GLS of the corrected values with V = MMᵀ equals the test with the removed terms added."""
    table = bladder["complete"]
    corrected = correct(table, "batch", ["cancer"])
    cancer = np.array(table.sheet["cancer"])
    wanted = np.column_stack([np.ones(57), cancer == "Cancer", cancer == "Normal"]).astype(float)
    removal = testing.removal_matrix(corrected)
    inverse = np.linalg.pinv(removal @ removal.T, rcond=1e-10)
    covariance = np.linalg.inv(wanted.T @ inverse @ wanted)
    effects = covariance @ wanted.T @ inverse @ corrected.values
    left = corrected.values - wanted @ effects
    variance = np.einsum("ij,ik,kj->j", left, inverse, left) / (57 - corrected.rank_lost - 3)
    t = effects / np.sqrt(np.outer(np.diag(covariance), variance))
    found = testing.test(corrected, "cancer", options=testing.ContrastOptions(shrink=False))

    assert np.allclose(removal @ table.values, corrected.values)
    for k, one in enumerate(found.effects):
        assert np.allclose(one.t, t[k + 1], rtol=1e-9, atol=1e-10)


def test_other_corrections_are_tested_on_the_original_values():
    """A correction that rescales is passed over, unless demanded, and either way it is said."""
    table = noise(two_months(0.75), "month", features=50)
    linear = correct(table, "month", ["drug"])
    rescaled = dataclasses.replace(linear, method="combat", values=linear.values * 1.1)
    default = testing.test(rescaled, "drug")
    demanded = testing.test(rescaled, "drug", options=testing.ContrastOptions(values="corrected"))
    original = testing.test(table, "drug", "month")

    assert (default.values, demanded.values) == ("original", "corrected")
    assert np.array_equal(default.effects[0].t, original.effects[0].t)
    assert codes(default) == ["tested_original"]
    assert codes(demanded) == ["approximate"]


def test_lost_batch_terms_are_refused():
    """Corrected values that no longer know what was removed cannot be tested."""
    corrected = correct(noise(two_months(0.75), "month", features=5), "month", ["drug"])
    with pytest.raises(DataError, match="not linear"):
        testing.removal_matrix(dataclasses.replace(corrected, method="combat"))
    for terms in (np.zeros((40, 0)), np.zeros((12, 1))):
        with pytest.raises(DataError, match="lost the batch terms"):
            testing.test(dataclasses.replace(corrected, batch_terms=terms), "drug")


def test_another_batch_column_is_refused():
    """A table corrected for one column is not tested for another."""
    corrected = correct(noise(two_months(0.75), "month", features=5), "month", ["drug"])
    with pytest.raises(DataError, match="corrected for 'month', not for 'drug'"):
        testing.test(corrected, "drug", "drug")


@pytest.mark.parametrize("kept", [["drug"], []])
def test_a_corrected_matrix_is_noticed(kept):
    """Values without a trace of the batch are taken for corrected ones, and only such values."""
    table = noise(two_months(0.75), "month", features=30)
    values = correct(table, "month", kept).values
    stripped = Table.from_arrays(values, table.sheet)

    assert "looks_corrected" in codes(testing.test(stripped, "drug", "month"))
    assert "looks_corrected" not in codes(testing.test(table, "drug", "month"))


def test_a_steep_price_is_said():
    """Above R² = 0.8 the note says what the specimens are still worth."""
    found = testing.test(noise(two_months(0.95), "month", features=5), "drug", "month")
    note = next(note for note in found.notes if note.code == "steep_price")

    assert 1 - 1 / found.effects[0].vif > STEEP
    assert "R² 0.810; the 40 specimens are worth 7.6" in note.message
