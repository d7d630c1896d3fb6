"""Coefficients, t, F and p equal limma's, with missing values, trend and robustness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments import Table, testing

REFERENCES = Path(__file__).resolve().parents[2] / "references"
EXCERPT = np.load(REFERENCES / "limma" / "excerpt.npz")
F_TESTS = np.load(REFERENCES / "limma" / "f_tests.npz")
#: What every tenth probe means.
EVERY = 10
#: Relative tolerances of coefficients and t; p-values are compared absolutely and relatively.
COEFFICIENT, STATISTIC, P_VALUE, F_P_VALUE = 1e-8, 1e-8, 1e-6, 1e-8


def relative(found, expected):
    return np.max(np.abs(found / expected - 1))


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("trend", [False, True])
@pytest.mark.parametrize("values", ["complete", "missing"])
def test_moderated_t(bladder, values, trend, robust):
    """Both coefficients of cancer: effects and t to 1e-8 relative, p to 1e-6 relative."""
    expected = EXCERPT[f"{values}_{str(trend).upper()}_{str(robust).upper()}"]
    found = testing.test(
        bladder[values],
        "cancer",
        "batch",
        options=testing.ContrastOptions(trend=trend, robust=robust),
    )

    assert [str(one.contrast) for one in found.effects] == [
        "cancer: Cancer - Biopsy",
        "cancer: Normal - Biopsy",
    ]
    for k, one in enumerate(found.effects):
        assert relative(one.effect[::EVERY], expected[:, k]) < COEFFICIENT
        assert relative(one.t[::EVERY], expected[:, 2 + k]) < STATISTIC
        assert relative(one.p_value[::EVERY], expected[:, 4 + k]) < P_VALUE
        error = one.effect / one.t
        assert relative(error, one.standard_error) < 1e-12
    assert relative(found.df[::EVERY], expected[:, 7]) < STATISTIC
    assert relative(found.prior_df[::EVERY], expected[:, 8]) < 3e-8
    assert relative(found.prior_variance[::EVERY], expected[:, 9]) < STATISTIC


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("trend", [False, True])
def test_moderated_f_and_a_difference_of_levels(bladder, trend, robust):
    """F of the factor, and Normal minus Cancer with its q: F to 1e-8, p of F to 1e-8."""
    name = f"complete_{str(trend).upper()}_{str(robust).upper()}_F"
    f, p, effect, t, t_p, q = EXCERPT[name].T
    found = testing.test(
        bladder["complete"],
        ["cancer", "cancer:Normal-Cancer"],
        "batch",
        options=testing.ContrastOptions(trend=trend, robust=robust),
    )
    difference = found.effects[2]

    assert relative(found.factors[0].f[::EVERY], f) < STATISTIC
    assert np.max(np.abs(found.factors[0].p_value[::EVERY] - p)) < F_P_VALUE
    assert relative(found.factors[0].p_value[::EVERY], p) < P_VALUE
    assert str(difference.contrast) == "cancer: Normal - Cancer"
    assert relative(difference.effect[::EVERY], effect) < COEFFICIENT
    assert relative(difference.t[::EVERY], t) < STATISTIC
    assert relative(difference.p_value[::EVERY], t_p) < P_VALUE
    assert relative(difference.q_value[::EVERY], q) < P_VALUE


def test_intervals_hold_what_they_promise(bladder):
    """The interval is the set of effects that a test at its level would not reject."""
    found = testing.test(
        bladder["complete"], "cancer", "batch", options=testing.ContrastOptions(level=0.9)
    )
    effect = found.effects[0]
    excludes_zero = (effect.low > 0) | (effect.high < 0)

    assert np.array_equal(excludes_zero, effect.p_value < 0.1)
    assert np.allclose((effect.low + effect.high) / 2, effect.effect)


def test_ordinary_f_against_sva(bladder):
    """F of cancer on real probes: p as sva's f.pvalue gives them, to 1e-8."""
    found = testing.test(
        bladder["complete"], "cancer", "batch", options=testing.ContrastOptions(shrink=False)
    )

    assert np.max(np.abs(found.factors[0].p_value[::EVERY] - F_TESTS["bladder"])) < F_P_VALUE


def test_ordinary_f_on_counts_against_sva():
    """Log counts, two groups, five features of zeros: p to 1e-8, and none for the constant ones."""
    given = np.load(REFERENCES / "counts" / "counts.npz")
    sheet = {"lot": given["simulated_batch"].tolist(), "group": given["simulated_group"].tolist()}
    table = Table.from_arrays(np.log2(given["simulated_counts"] + 1.0), sheet)
    found = testing.test(table, "group", "lot", options=testing.ContrastOptions(shrink=False))
    p = found.effects[0].p_value

    assert np.array_equal(np.isnan(p), np.isnan(F_TESTS["counts"]))
    assert np.nanmax(np.abs(p - F_TESTS["counts"])) < F_P_VALUE
    assert len(found.untested["constant"]) == 5
