"""Counts at the edges: typed errors or right answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments import CombatSeqCorrection, Table, correct, diagnose, testing
from batchsense.experiments.counts import (
    ExpressionRule,
    log_cpm,
    log_cpm_for_weights,
    prepare_counts,
    tmm_factors,
)
from batchsense.experiments.testing.weights.precision_weights import precision_weights
from batchsense.variation.linear import factor

SHEET = {"lot": ["a", "b"] * 4, "drug": ["no"] * 4 + ["yes"] * 4}


def counts_of(features: int = 60, seed: int = 0) -> np.ndarray:
    """Negative binomial counts in libraries of two depths."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.uniform(3, 7, features)) * np.array([1.0, 3.0] * 4)[:, None]
    return rng.poisson(mean * rng.gamma(5.0, 0.2, mean.shape)).astype(float)


def asked(counts: np.ndarray, **more: object) -> testing.ContrastTests:
    """Test the drug."""
    return testing.test(
        Table.from_arrays(counts, SHEET, values_are="counts", **more), "drug", "lot"
    )


def test_weighted_fits_equal_a_loop() -> None:
    """Effects, errors and F of every feature are those of its own weighted least squares."""
    rng = np.random.default_rng(1)
    sheet = {"lot": ["a", "b"] * 6, "drug": [*"AABBCC"] * 2}
    counts = rng.poisson(np.exp(rng.uniform(3, 6, 30)), (12, 30)).astype(float)
    found = testing.test(
        Table.from_arrays(counts, sheet, values_are="counts"),
        ["drug", "drug:C-B"],
        "lot",
        options=testing.ContrastOptions(shrink=False),
    )
    drug, lot = np.array(sheet["drug"]), np.array(sheet["lot"])
    columns = np.column_stack([np.ones(12), drug == "B", drug == "C", lot == "b"]).astype(float)
    logs = log_cpm_for_weights(found.counts.values, found.counts.effective)
    for j in range(found.counts.values.shape[1]):
        weights = np.diag(found.precision.weights[:, j])
        inverse = np.linalg.inv(columns.T @ weights @ columns)
        b = inverse @ columns.T @ weights @ logs[:, j]
        rest = logs[:, j] - columns @ b
        variance = rest @ weights @ rest / 8
        for place, contrast in enumerate(([0, 1, 0, 0], [0, 0, 1, 0], [0, -1, 1, 0])):
            error = np.sqrt(variance * (np.array(contrast) @ inverse @ contrast))
            assert found.effects[place].effect[j] == pytest.approx(np.array(contrast) @ b, rel=1e-9)
            assert found.effects[place].standard_error[j] == pytest.approx(error, rel=1e-9)
        f = b[1:3] @ np.linalg.inv(inverse[1:3, 1:3]) @ b[1:3] / 2 / variance
        assert found.factors[0].f[j] == pytest.approx(f, rel=1e-8)


def test_features_with_few_counts_and_tallies_are_named_and_not_tested() -> None:
    """They are in no library size; all others answer as if they were not there."""
    counts = counts_of()
    names = [f"g{j}" for j in range(60)]
    more = np.hstack([counts, np.zeros((8, 1)), np.full((8, 1), 1.0), np.full((8, 2), 1e5)])
    ids = [*names, "zero", "one", "__no_feature", "N_multimapping"]
    plain, found = asked(counts, features=names), asked(more, features=ids)

    assert found.untested["too few counts"] == ("zero", "one")
    assert found.untested["tally of a counting program"] == ("__no_feature", "N_multimapping")
    assert np.isnan(found.effects[0].p_value[60:]).all()
    assert np.allclose(found.effects[0].t[:60], plain.effects[0].t, rtol=1e-12)
    said = found.notes[0]
    assert said.code == "tested_as_counts"
    assert "60 of 62 features" in said.message
    assert set(found.to_frame().query("p.isna()").remark) == {
        "too few counts",
        "tally of a counting program",
    }


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda c: c * 0, DataError, "specimens without counts: "),
        (
            lambda c: c * (np.arange(8) > 0)[:, None],
            DataError,
            "specimens without counts: specimen 1;",
        ),
        (lambda c: c[:, :1], UnresolvedError, "1 feature has enough counts"),
        (lambda c: np.minimum(c, 1), UnresolvedError, "none of 60 features has enough counts"),
        (lambda c: np.where(c == c[0, 0], np.nan, c), DataError, "are missing in"),
        (lambda c: -c, DataError, "never negative"),
        (lambda c: c + 0.25, DataError, "whole numbers, and one of the"),
    ],
)
def test_what_is_no_answer_is_a_typed_error(change, error, says) -> None:
    """Zeros, one feature, nothing expressed, gaps, negative and fractional counts."""
    with pytest.raises(error, match=says):
        asked(change(counts_of()))


def test_huge_counts() -> None:
    """Counts of 10¹⁴ give finite answers, the same as counts a million times smaller."""
    counts = counts_of() + 1e6
    small, large = asked(counts).effects[0], asked(counts * 2.0**26).effects[0]

    assert np.isfinite(large.t).all()
    assert np.allclose(large.effect, small.effect, atol=1e-5)


def test_equal_libraries_have_equal_factors() -> None:
    """Twice the same library, at two depths, is the same library; no features, factors of one."""
    row = counts_of()[0]

    assert np.allclose(tmm_factors(np.array([row, 2 * row, 5 * row])), 1.0, atol=1e-12)
    assert tmm_factors(np.zeros((2, 3)), [1.0, 1.0]).tolist() == [1.0, 1.0]


def test_large_groups_need_a_share() -> None:
    """Beyond ten specimens a group only 70 % of the others are asked for."""
    assert ExpressionRule.of([1e6] * 40, [1 / 20] * 40).specimens == pytest.approx(17.0)


def test_a_trend_without_scatter_is_refused() -> None:
    """Features that fit exactly would weigh infinitely."""
    design = factor(np.ones((4, 1)))
    with pytest.raises(UnresolvedError, match="infinite"):
        precision_weights(np.tile(np.arange(6.0), (4, 1)), design, np.full(4, 1e6))


def test_what_was_corrected_is_not_taken_for_counts() -> None:
    """After combat-seq the original counts are tested; corrected values are withheld."""
    table = Table.from_arrays(counts_of(), SHEET, values_are="counts")
    corrected = CombatSeqCorrection(keep=("drug",)).fit(table, "lot").transform(table)
    original = testing.test(table, "drug", "lot").effects[0]

    assert np.array_equal(testing.test(corrected, "drug").effects[0].t, original.t)
    for given, options in (
        (corrected, testing.ContrastOptions(values="corrected")),
        (correct(table, "lot", ["drug"]), testing.ContrastOptions()),
    ):
        with pytest.raises(UnresolvedError, match="went through a correction"):
            testing.test(given, "drug", options=options)


def test_declared_numbers_are_tested_as_they_are() -> None:
    """``values_are`` overrides what was recognised."""
    counts = counts_of()
    found = testing.test(Table.from_arrays(counts, SHEET, values_are="numbers"), "drug", "lot")

    assert found.counts is None
    assert np.allclose(found.effects[0].effect, counts[4:].mean(axis=0) - counts[:4].mean(axis=0))


def test_diagnosis_looks_at_log_counts() -> None:
    """The same as a diagnosis of the log counts per million, and a note says so."""
    table = Table.from_arrays(counts_of(), SHEET, values_are="counts")
    columns = np.column_stack([np.ones(8), np.arange(8) >= 4, np.arange(8) % 2 == 0])
    counts = prepare_counts(table, factor(columns.astype(float)).leverages)
    logs = log_cpm(counts.values, counts.effective)
    found = diagnose(table, "lot", ["drug"], permutations=20)
    expected = diagnose(
        Table.from_arrays(logs, SHEET, values_are="log"), "lot", ["drug"], permutations=20
    )

    assert found.batch_share.share.estimate == expected.batch_share.share.estimate
    assert "counts_as_logs" in [note.code for note in found.notes]


@pytest.mark.parametrize("seed", range(30))
def test_whole_numbers_that_scatter_less_than_counts_are_asked_about(seed: int) -> None:
    """Rounded measurements are never taken for counts unasked; Poisson counts always are."""
    rng = np.random.default_rng(seed)
    specimens, features = int(rng.integers(4, 24)), int(rng.integers(30, 200))
    middle = np.exp(rng.uniform(4, 8, features))
    depth = rng.uniform(0.6, 1.6, (specimens, 1))
    measured = np.rint(middle + rng.uniform(0.2, 0.7) * np.sqrt(middle) * rng.normal(
        size=(specimens, features)
    ))  # fmt: skip
    counted = rng.poisson(depth * middle).astype(float)
    leverages = np.full(specimens, 2 / specimens)

    def table(values: np.ndarray, **said: Any) -> Table:
        return Table.from_arrays(values, {"month": range(specimens)}, **said)

    with pytest.raises(UnresolvedError, match="times what counting alone"):
        prepare_counts(table(measured), leverages)
    assert prepare_counts(table(measured, values_are="counts"), leverages).kept.any()
    assert prepare_counts(table(counted), leverages).kept.any()
