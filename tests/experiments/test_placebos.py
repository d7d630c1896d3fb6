"""Placebos of a diagnosis: known rates with shifts from the data, and "cannot" where it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments import PureNoise, Table, diagnose, placebo, placebos
from batchsense.experiments.correction.two_passes.pass_runner import COMPILED_FROM
from batchsense.experiments.placebos import LARGEST_SHIFT, MOST_FEATURES

GIVEN = np.load(Path(__file__).resolve().parents[1] / "references" / "bladder" / "input.npz")
BLADDER = {"batch": GIVEN["batch"].tolist(), "cancer": GIVEN["cancer"].tolist()}


def noise_of(values, batch, keep, sheet, **options):
    """Diagnose a table and run its placebos."""
    table = Table.from_arrays(values, sheet)
    return placebos(table, diagnose(table, batch, keep, permutations=20), **options)


def normal(*shape, seed=0):
    """Draw numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def rates(found):
    """Give the rate of each factor and pipeline."""
    return {(one.factor, one.pipeline): one.found.rate for one in found.outcomes if one.found}


def test_the_known_inflation_on_the_bladder_labels():
    """Batches one noise SD apart, told from the data: ComBat then F calls .28, the model .05."""
    codes = np.unique(BLADDER["batch"], return_inverse=True)[1]
    values = normal(57, 3000) + normal(5, 3000, seed=1)[codes]
    found = noise_of(values, "batch", ["cancer"], BLADDER, seed=2)

    assert found.features == 5000
    assert found.shift_sd == pytest.approx(1.0, abs=0.05)
    called = {one.pipeline: one.found.called for one in found.outcomes}
    rate = {pipeline: interval for (_, pipeline), interval in rates(found).items()}
    assert rate["combat"].estimate == pytest.approx(0.28, abs=0.02)
    assert rate["linear"].estimate == pytest.approx(0.287, abs=0.02)
    assert rate["uncorrected"].low > 0.25
    assert 0.05 in rate["model"]
    assert min(called["uncorrected"], called["linear"], called["combat"]) > 300
    assert called["model"] < 3


def test_the_shifts_of_the_bladder_data():
    """With the probes themselves the shifts are .56 noise SD, and the inflation a little less."""
    found = noise_of(GIVEN["expression"].T, "batch", ["cancer"], BLADDER)

    assert found.shift_sd == pytest.approx(0.562, abs=0.001)
    assert "as in the data" in found.shift_reason
    assert rates(found)["cancer", "combat"].estimate == pytest.approx(0.253, abs=0.02)
    assert {one.test for one in found.outcomes} == {"F"}


def test_an_outcome_can_be_repeated():
    """The published seed, shift and features give the same count by `placebo`."""
    found = noise_of(GIVEN["expression"].T[:, :50], "batch", ["cancer"], BLADDER, features=400)
    table = Table.from_arrays(np.zeros((57, 1)), BLADDER)
    for one in found.outcomes:
        again = placebo(
            table,
            one.pipeline,
            one.factor,
            "batch",
            noise=PureNoise(found.features, found.shift_sd, one.found.seed),
        )
        assert one.found == again


def test_every_factor_and_pipeline_has_noise_of_its_own():
    """No two share a seed; the same seed repeats all, another none."""
    sheet = {"month": [*"MMMJJJ"] * 8, "drug": [*"nyynny"] * 8, "age": normal(48).tolist()}
    first, again, other = (
        noise_of(normal(48, 6), "month", ["drug", "age"], sheet, features=200, seed=seed)
        for seed in (1, 1, 2)
    )

    seeds = [one.found.seed for one in first.outcomes]
    assert len(set(seeds)) == 8
    assert first == again
    assert not set(seeds) & {one.found.seed for one in other.outcomes}
    assert [one.factor for one in first.outcomes] == ["drug"] * 4 + ["age"] * 4


def test_a_confounded_factor_cannot_be_tested():
    """Each pipeline says so and names the terms; a factor beside it is tested by the model."""
    sheet = {"month": [*"MMMMMMJJJJJJ"], "drug": [*"nnnnnnyyyyyy"], "age": normal(12).tolist()}
    found = noise_of(normal(12, 6), "month", ["drug", "age"], sheet)

    assert found.shift_sd is None
    assert "nothing of the batches is left" in found.shift_reason
    drug = {one.pipeline: one for one in found.outcomes if one.factor == "drug"}
    assert all(one.found is None for one in drug.values())
    assert drug["model"].reason == "cannot be tested: drug[y] = month[J]"
    assert drug["combat"].reason == "cannot be corrected: drug[y] = month[J]"
    assert drug["uncorrected"].reason.startswith("cannot be told")
    assert list(rates(found)) == [("age", "model")]
    assert 0.05 in rates(found)["age", "model"]


def test_what_is_linked_is_tested():
    """Where some levels can be compared the model tests these and says so."""
    sheet = {"month": np.repeat(["1", "2", "3"], 4), "drug": [*"abababab", *"cccc"]}
    found = noise_of(normal(12, 6), "month", ["drug"], sheet)

    outcomes = {one.pipeline: one for one in found.outcomes}
    assert outcomes["linear"].found is None
    assert "only the differences that can be told from month" in outcomes["model"].reason
    assert 0.05 in outcomes["model"].found.rate


def test_saturated_designs_are_said_not_counted():
    """No degree of freedom left: a reason, never a rate of zero."""
    sheet = {"month": [*"MMJJ"], "drug": [*"nnyy"], "plate": [*"abab"], "site": [*"abba"]}
    found = noise_of(normal(4, 6), "month", ["drug", "plate", "site"], sheet)

    reasons = {(one.factor, one.pipeline): one.reason for one in found.outcomes}
    assert "no degrees of freedom" in reasons["plate", "model"]
    assert not rates(found)


@pytest.mark.parametrize(
    ("spread", "low", "high", "says"),
    [
        (0.0, 0.0, 0.0, "none is resolved in the data, though up to"),
        (2.0, 1.5, 2.5, "as in the data"),
        (1e5, LARGEST_SHIFT, LARGEST_SHIFT, "changes nothing more"),
        (np.inf, LARGEST_SHIFT, LARGEST_SHIFT, "changes nothing more"),
    ],
)
def test_where_the_shifts_come_from(spread, low, high, says):
    """0 where the component is not resolved, else as measured, and bounded where nothing varies."""
    month = np.arange(60) % 6
    shifts = normal(6, 40, seed=3)[month]
    values = shifts if np.isinf(spread) else spread * shifts + normal(60, 40, seed=4)
    sheet = {"month": month, "drug": np.arange(60) // 6 % 2}
    found = noise_of(values, "month", ["drug"], sheet, features=300)

    assert low <= found.shift_sd <= high
    assert says in found.shift_reason
    assert 0.05 in rates(found)["drug", "model"]


def test_kinds_of_factors_and_batches():
    """Numbers are tested by t, many levels by F; a batch of one specimen is no obstacle."""
    month = np.append(np.arange(80) % 4, 4)
    sheet = {
        "month": month,
        "age": normal(81).tolist(),
        "line": [f"line {k % 27}" for k in range(81)],
    }
    found = noise_of(normal(81, 6), "month", ["age", "line"], sheet, features=1500)

    assert {one.factor: one.test for one in found.outcomes} == {"age": "t", "line": "F"}
    assert len(rates(found)) == 8
    assert 0.05 in rates(found)["age", "model"]
    assert 0.05 in rates(found)["line", "model"]


def test_nothing_kept_gives_nothing():
    """Without a factor there is nothing to call."""
    found = noise_of(normal(12, 6), "month", [], {"month": [*"MMMMMMJJJJJJ"]})

    assert found.outcomes == ()


def test_many_specimens_get_fewer_features():
    """The work is bounded, and stays below what makes ComBat load its compiler."""
    sheet = {"month": np.arange(2000) % 4, "drug": np.arange(2000) // 4 % 2}
    found = noise_of(normal(2000, 6), "month", ["drug"], sheet)

    assert found.features == 999 < MOST_FEATURES
    assert 2000 * found.features < COMPILED_FROM


def test_progress_is_told():
    """Every pipeline of every factor is announced."""
    heard = []
    sheet = {"month": [*"MMMJJJ"] * 4, "drug": [*"nyynny"] * 4}
    noise_of(
        normal(24, 6),
        "month",
        ["drug"],
        sheet,
        features=100,
        progress=lambda task, done, total: heard.append((task, done, total)),
    )

    assert heard == [("running placebos", done, 4) for done in (1, 2, 3, 4)]
