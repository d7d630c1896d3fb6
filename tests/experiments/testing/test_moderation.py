"""Shrinkage of variances: equals limma's, option by option, and refuses what it cannot use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.testing.moderation import shrink_variances
from batchsense.experiments.testing.prior.lowess import lowess
from batchsense.experiments.testing.prior.variance_prior import trigamma_inverse

REFERENCES = Path(__file__).resolve().parents[2] / "references" / "limma"
FULL = np.load(REFERENCES / "full.npz")
EXCERPT = np.load(REFERENCES / "excerpt.npz")
#: The search of limma for the robust prior df stops at about this.
SEARCH = 2e-8


def relative(found, expected):
    """Largest relative difference; equal infinities do not differ."""
    same = np.isinf(found) & np.isinf(expected)
    return np.max(np.abs(np.where(same, 0.0, found - expected) / np.where(same, 1.0, expected)))


def test_all_bladder_probes_against_limma():
    """On 22,283 real variances the prior and the posterior equal limma's to 1e-12."""
    found = shrink_variances(FULL["sigma"] ** 2, 50)

    assert relative(found.prior_df[0], FULL["prior"][0]) < 1e-12
    assert relative(found.prior_variance[0], FULL["prior"][1]) < 1e-12
    assert relative(found.variance[::10], FULL["s2_post"]) < 1e-12


def test_all_bladder_probes_against_limma_robust_with_trend():
    """Robust with a trend: prior df of every probe, prior and posterior variance to 1e-9."""
    found = shrink_variances(FULL["sigma"] ** 2, 50, FULL["mean"], robust=True)
    lent, prior, posterior = FULL["robust"].T

    assert relative(found.prior_df[::10], lent) < 1e-9
    assert relative(found.prior_variance[::10], prior) < 1e-9
    assert relative(found.variance[::10], posterior) < 1e-9
    lower = found.prior_df[found.prior_df < found.prior_df.max()]
    assert relative(lower, FULL["outlier_df"]) < 1e-8


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("trend", [False, True])
def test_unequal_df_zeros_and_outliers_against_limma(trend, robust):
    """0 to 9 degrees of freedom, exact zeros, wild outliers: as limma, feature by feature."""
    variances, df, mean = EXCERPT["simulated"].T
    posterior, lent, prior = EXCERPT[
        "_".join(["simulated", str(trend).upper(), str(robust).upper()])
    ].T
    found = shrink_variances(np.nan_to_num(variances), df, mean if trend else None, robust)
    tolerance = SEARCH if robust else 1e-12

    assert relative(found.variance, posterior) < tolerance
    assert relative(found.prior_df, lent) < 5 * tolerance
    assert relative(found.prior_variance, prior) < tolerance


@pytest.mark.parametrize(
    ("trend", "uneven", "expected"),
    [
        (False, True, (1.08022048486696, 1.08022048486696, 1.1607798128833, 258.001205498119)),
        (False, False, (1.07841392502642, 1.07841392502642, 1.16062162974435, 252.866412904227)),
        (True, True, (1.06076118568263, 1.08204228544622, 1.16097698428779, 263.261412524695)),
        (True, False, (1.05986158678463, 1.08034623746865, 1.16079221842402, 258.36164075181)),
    ],
)
def test_a_wild_feature_among_alike_ones_is_lent_less_as_by_limma(trend, uneven, expected):
    """Where the others scatter as if all variances were one, a wild one is not judged by theirs.

    Expected are the variances of the first, twentieth and wild feature and the prior df of the
    last, of limma 3.54.1 (``squeezeVar(..., robust = TRUE)``).
    """
    variances = np.append(np.linspace(0.8, 1.25, 39), 2.2)
    df = np.tile([20.0, 20.0, 18.0, 20.0], 10) if uneven else 20.0
    mean = np.tile([1.0, 3.0, 2.0, 5.0, 4.0], 8) if trend else None
    found = shrink_variances(variances, df, mean, robust=True)

    assert np.isinf(shrink_variances(variances, df, mean).prior_df).all()
    assert np.isinf(found.prior_df[0])
    assert relative(found.variance[[0, 19, 39]], expected[:3]) < 1e-12
    assert relative(found.prior_df[39], expected[3]) < 1e-10


def test_planted_prior_is_recovered():
    """Variances drawn from d0 = 6, s0² = 2 give these back within their standard errors."""
    rng = np.random.default_rng(3)
    true = 2.0 * 6.0 / rng.chisquare(6.0, 40_000)
    observed = true * rng.chisquare(8, 40_000) / 8
    for robust in (False, True):
        found = shrink_variances(observed, 8, robust=robust)

        assert np.median(found.prior_df) == pytest.approx(6.0, rel=0.05)
        assert np.median(found.prior_variance) == pytest.approx(2.0, rel=0.02)


def test_shrinkage_brings_variances_nearer_to_the_truth():
    """The shrunken variances err less, on the log scale, than the raw ones."""
    rng = np.random.default_rng(4)
    true = 2.0 * 6.0 / rng.chisquare(6.0, 5000)
    observed = true * rng.chisquare(4, 5000) / 4
    shrunken = shrink_variances(observed, 4).variance

    assert np.std(np.log(shrunken / true)) < 0.7 * np.std(np.log(observed / true))


def test_robustness_spares_the_ordinary_features():
    """A hundred wild features halve the prior df of the moments, and hardly move the robust one."""
    rng = np.random.default_rng(5)
    observed = 20.0 / rng.chisquare(20.0, 2000) * rng.chisquare(10, 2000) / 10
    clean = np.median(shrink_variances(observed, 10).prior_df)
    observed[:100] *= np.exp(rng.uniform(2, 6, 100))
    robust = shrink_variances(observed, 10, robust=True)

    assert np.median(shrink_variances(observed, 10).prior_df) < 0.3 * clean
    assert np.median(robust.prior_df) > 0.6 * clean
    assert robust.prior_df[:100].max() <= robust.prior_df[100:].max()
    assert robust.prior_df[np.argmax(observed)] < 1.0


@pytest.mark.parametrize("x", [1e-12, 1e-5, 0.3, 7.0, 1e5, 1e12])
def test_trigamma_inverse(x):
    """ψ′ of the inverse gives the number back, from 1e-12 to 1e12."""
    from scipy.special import polygamma

    assert polygamma(1, trigamma_inverse(x)) == pytest.approx(x, rel=1e-6)


def test_lowess_keeps_lines_and_order():
    """A line comes back exactly, whatever the order of the points; ties share a value."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=500), 1)
    curve = lowess(x, 2 * x + 1, span=0.3)
    noisy = x + rng.normal(size=500)
    order = rng.permutation(500)

    assert np.allclose(curve, 2 * x + 1, atol=1e-10)
    assert np.allclose(
        lowess(x[order], noisy[order], 0.3)[np.argsort(order)], lowess(x, noisy, 0.3)
    )


@pytest.mark.parametrize(
    ("variances", "df", "error", "says"),
    [
        ([1.0, -1.0], 3, DataError, "not negative"),
        ([1.0, np.nan], 3, DataError, "finite"),
        ([1.0, 2.0], [3, 3, 3], DataError, "shape"),
        ([1.0, 2.0], [3, 0], UnresolvedError, "one feature has degrees"),
        ([0.0, 0.0], 3, UnresolvedError, "zero"),
    ],
)
def test_unusable_variances_are_refused(variances, df, error, says):
    """Negative, missing or too few variances: a typed error that says so."""
    with pytest.raises(error, match=says):
        shrink_variances(variances, df)


def test_a_curve_through_every_point_divides_by_nothing():
    """Where one value stands everywhere there are no outliers: no warning, the value itself."""
    assert lowess(np.repeat([1.0, 2.0, 3.0], 4), np.full(12, 5.0)).tolist() == [5.0] * 12
    assert lowess(np.ones(4), np.full(4, 5.0)).tolist() == [5.0] * 4
