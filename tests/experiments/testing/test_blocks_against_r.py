"""Correlations within blocks, and what follows from them, equal limma's, statmod's and lme4's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.arrays import Floats
from batchsense.experiments import Table
from batchsense.experiments.testing import ContrastOptions, test
from batchsense.experiments.testing.blocks.consensus import (
    consensus_correlation,
    correlated_fit,
    fit_correlated,
)
from batchsense.experiments.testing.blocks.mixed import fit_mixed
from batchsense.experiments.testing.blocks.sums import block_sums
from batchsense.experiments.testing.moderation import f_statistics, scale_of, t_statistics
from batchsense.experiments.testing.weights.precision_weights import precision_weights
from batchsense.variation.linear import factor

FOLDER = Path(__file__).resolve().parents[2] / "references" / "blocks"
#: Relative tolerances: of correlations, of what follows from a given one, and of lme4, whose search
#: stops about there.
CORRELATION, GIVEN, MIXED = 1e-6, 1e-8, 1e-6


def read(name: str) -> Floats:
    """A table that ``blocks.R`` wrote."""
    text = (FOLDER / f"{name}.txt").read_text().replace("NA", "nan")
    return np.array([line.split() for line in text.splitlines()], dtype=np.float64)


SHEET = read("sheet").astype(int)
SUBJECT, GROUP, MONTH = SHEET.T
COLUMNS = np.column_stack([np.ones(len(SHEET)), GROUP, MONTH == 1, MONTH == 2]).astype(float)
DESIGN = factor(COLUMNS)
CONTRASTS = np.eye(4)[1:]
CODES = SUBJECT - 1
CASES = ("values", "weights", "gaps")


def data(case: str) -> tuple[Floats, Floats | None]:
    """Values and weights, (specimens, features)."""
    return read("gaps" if case == "gaps" else "values").T, (
        read("weights").T if case == "weights" else None
    )


@pytest.mark.parametrize("case", CASES)
def test_correlations(case: str) -> None:
    """Each feature's and the consensus equal limma's algorithm run to its end, to 1e-6.

    Where they differ (one feature), the likelihood is higher here.
    """
    values, weights = data(case)
    found = consensus_correlation(values, DESIGN, CODES, weights)
    expected = read(f"{case}-limma")[:, 1]
    other = np.flatnonzero(np.abs(found.each - expected) > CORRELATION)

    assert len(other) <= 1
    for sums in block_sums(values[:, other], DESIGN.basis, CODES):
        ours, theirs = (one[other] / (1.0 - one[other]) for one in (found.each, expected))
        assert sums.at(ours).deviance < sums.at(theirs).deviance
    assert abs(found.correlation - read("consensus")[CASES.index(case), 1]) < CORRELATION


@pytest.mark.parametrize(
    "case",
    [
        "values",
        *(
            pytest.param(one, marks=pytest.mark.xfail(strict=True, reason=f"differs by {size}"))
            for one, size in (("weights", "1.4e-5"), ("gaps", "1.8e-5"))
        ),
    ],
)
def test_consensus_where_limma_stops(case: str) -> None:
    """The consensus equals what limma gives, whose search stops before its end, to 1e-6."""
    values, weights = data(case)
    found = consensus_correlation(values, DESIGN, CODES, weights)

    assert abs(found.correlation - read("consensus")[CASES.index(case), 0]) < CORRELATION


@pytest.mark.parametrize("case", CASES)
def test_generalised_least_squares(case: str) -> None:
    """Given limma's correlation: effects, residual errors, moderated t, p and F to 1e-8."""
    values, weights = data(case)
    given = read("consensus")[CASES.index(case), 0]
    fits = fit_correlated(values, DESIGN, CONTRASTS, ((1, 2),), CODES, given, weights)
    scale = scale_of(fits, np.ones(40, dtype=bool))
    found = t_statistics(fits, 0, scale, 0.95)
    effect, sigma, t, p, f = read(f"{case}-limma")[:, 2:].T

    assert np.allclose(fits.estimates[0], effect, rtol=GIVEN, atol=0)
    assert np.allclose(np.sqrt(fits.residual_squares / fits.df), sigma, rtol=GIVEN, atol=0)
    assert np.allclose(found.p_value, p, rtol=1e-7, atol=0)
    if case == "values":
        assert np.allclose(found.t, t, rtol=GIVEN, atol=0)
        assert np.allclose(f_statistics(fits, 0, 2, scale)[0], f, rtol=GIVEN, atol=0)
    else:  # the prior of variances with gaps and weights, and limma's F, are searched for
        assert np.allclose(found.t, t, rtol=1e-8, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_variances_of_each_feature(case: str) -> None:
    """Estimates, errors and Satterthwaite's df equal lme4's and lmerTest's to 1e-6."""
    values, weights = data(case)
    fits, each = fit_mixed(values, DESIGN, CONTRASTS, ((1, 2),), CODES, weights)
    expected = read(f"{case}-lmer").T
    within = fits.residual_squares / fits.df
    errors = np.sqrt(within * fits.unscaled)
    found = [within, fits.estimates[0], errors[0], fits.own_df[0]]
    found += [
        fits.estimates[1],
        errors[1],
        fits.own_df[1],
        fits.joint[0] / within,
        fits.joint_df[0],
    ]

    assert ((each == 0) == (expected[0] < 1e-9)).all()
    for one, other in zip(found, expected[1:], strict=True):
        assert np.abs(one - other).max() < MIXED * max(1.0, np.abs(other).max())


def test_counts() -> None:
    """Given limma's correlations, weights and tests of counts are its own to 1e-8; else close."""
    counts, correlations = read("counts").T, read("counts-consensus").ravel()
    sheet = {
        name: [f"{name}{k}" for k in column]
        for name, column in zip(("subject", "group", "month"), SHEET.T, strict=True)
    }
    found = test(
        Table.from_arrays(counts, sheet, values_are="counts"),
        "group",
        "month",
        options=ContrastOptions(blocks="subject"),
    )
    kept, (effect, t, p) = found.counts.kept, read("counts-limma").T
    logs = np.log2((counts[:, kept] + 0.5) / (found.counts.effective[:, None] + 1.0) * 1e6)
    fit = correlated_fit(logs, DESIGN, CODES, correlations[0])
    precision = precision_weights(logs, DESIGN, found.counts.effective, fit)
    weights = precision.weights
    fits = fit_correlated(logs, DESIGN, CONTRASTS, (), CODES, correlations[1], weights)
    given = t_statistics(fits, 0, scale_of(fits, np.ones(kept.sum(), dtype=bool)), 0.95)

    assert np.allclose(weights[:3].T, read("counts-weights"), rtol=GIVEN, atol=0)
    assert np.allclose(given.effect, effect, rtol=GIVEN, atol=1e-12)
    assert np.allclose(given.t, t, rtol=GIVEN, atol=1e-12)
    assert found.blocks is not None
    assert abs(found.blocks.correlation - correlations[1]) < 1e-4
    assert np.abs(found.effects[0].p_value[kept] - p).max() < 1e-4
