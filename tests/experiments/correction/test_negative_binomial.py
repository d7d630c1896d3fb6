"""Counts: fits, dispersions and quantiles against slow twins, known truths and R."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from batchsense.errors import DataError
from batchsense.experiments.correction.combat_seq import negative_binomial
from batchsense.experiments.correction.combat_seq.count_quantiles import (
    map_counts,
    probability_below,
    quantile,
)
from batchsense.experiments.correction.combat_seq.dispersion import (
    adjusted_profile_likelihood,
    common_dispersion,
    feature_dispersions,
    spline_maxima,
)
from batchsense.experiments.correction.combat_seq.negative_binomial import (
    fit_log_linear,
    log_likelihood,
)

REFERENCE = Path(__file__).parents[2] / "references" / "counts" / "counts.npz"


def draw(rng, features=30, observations=14, phi=0.3, level=3.0):
    """Draw counts of a design with a constant, a group and a number, and unequal libraries."""
    group = np.arange(observations) % 2
    design = np.column_stack([np.ones(observations), group, rng.normal(size=observations)])
    offsets = rng.normal(scale=0.4, size=observations)
    beta = np.vstack([rng.normal(level, 1, features), rng.normal(size=(2, features)) * 0.5])
    means = np.exp(design @ beta + offsets[:, None])
    counts = rng.negative_binomial(1 / phi, 1 / (1 + phi * means)).astype(float)
    return counts, design, offsets, beta


def distribution(mean, phi):
    """Give scipy's distribution."""
    return stats.nbinom(1 / phi, 1 / (1 + phi * mean))


def test_the_fit_is_where_a_general_optimiser_ends():
    """Every feature's fit has the likelihood that a slow optimiser of scipy's finds, or more."""
    counts, design, offsets, _ = draw(np.random.default_rng(0))
    phi = np.random.default_rng(1).gamma(2, 0.2, 30)
    fitted = fit_log_linear(counts, design, offsets, phi)
    found = log_likelihood(counts, fitted.means, phi)

    for j in range(30):

        def loss(beta, j=j):
            means = np.exp(design @ beta + offsets)
            return -distribution(means, phi[j]).logpmf(counts[:, j]).sum()

        slow = optimize.minimize(loss, fitted.coefficients[:, j] + 0.1, method="BFGS")
        assert found[j] == pytest.approx(-loss(fitted.coefficients[:, j]), abs=1e-9)
        assert found[j] >= -slow.fun - 1e-9


def test_the_score_is_zero_at_the_fit():
    """The gradient of the likelihood vanishes to 1e-6 counts, whatever the dispersion."""
    counts, design, offsets, _ = draw(np.random.default_rng(2))
    for phi in (0.0, 1e-12, 1e-3, 1.0, 30.0):
        mu = fit_log_linear(counts, design, offsets, phi).means

        score = design.T @ ((counts - mu) / (1 + phi * mu))
        assert np.abs(score).max() < 1e-6 * counts.max()


def test_cells_without_counts_get_a_mean_of_zero():
    """A group without counts ends at a mean of zero, and the other is its weighted mean."""
    counts = np.array([[0.0], [0.0], [4.0], [6.0]])
    design = np.column_stack([np.ones(4), [0, 0, 1, 1]])
    fitted = fit_log_linear(counts, design, np.zeros(4), 0.5)

    assert fitted.means[:2].max() < 1e-7
    np.testing.assert_allclose(fitted.means[2:, 0], 5.0)


def test_blocks_and_starts_do_not_matter(monkeypatch):
    """Features fitted one by one, or from elsewhere, give the same coefficients to 1e-8."""
    counts, design, offsets, beta = draw(np.random.default_rng(3))
    whole = fit_log_linear(counts, design, offsets, 0.3).coefficients
    started = fit_log_linear(counts, design, offsets, 0.3, beta + 1.0).coefficients
    monkeypatch.setattr(negative_binomial, "_BLOCK", 1)

    np.testing.assert_allclose(whole, started, atol=1e-8)
    np.testing.assert_allclose(
        whole, fit_log_linear(counts, design, offsets, 0.3).coefficients, atol=1e-8
    )


@pytest.mark.parametrize(
    ("counts", "design", "says"),
    [
        ([[1.0], [-1.0]], np.ones((2, 1)), "not negative"),
        ([[1.0], [np.nan]], np.ones((2, 1)), "finite"),
        ([[1.0], [2.0]], np.ones((2, 3)), "3 terms cannot be fitted to 2"),
        ([[1.0], [2.0]], np.ones((3, 1)), "do not fit"),
        ([[1.0], [2.0]], np.ones((2, 2)), "say the same"),
    ],
)
def test_what_cannot_be_fitted(counts, design, says):
    """Negative or missing counts and unsuitable designs are typed errors."""
    with pytest.raises(DataError, match=says):
        fit_log_linear(counts, design, np.zeros(2), 0.1)


def test_the_adjustment_takes_the_bias_away():
    """Over 4,000 features of 8 observations and 3 terms the planted 0.4 comes back within 4 %.

    Without the adjustment it would come out near 0.4·5/8.
    """
    counts, design, offsets, _ = draw(np.random.default_rng(4), 4000, 8, 0.4)

    assert abs(common_dispersion(counts, design, offsets) - 0.4) < 0.016


def test_poisson_counts_have_no_dispersion():
    """Counts without extra variation give a common dispersion near zero."""
    counts = np.random.default_rng(5).poisson(40, size=(10, 500)).astype(float)

    assert common_dispersion(counts, np.ones((10, 1)), np.zeros(10)) < 2e-3


def test_the_likelihood_does_not_depend_on_the_coding():
    """Another coding of the terms shifts the adjusted likelihood by nothing that depends on φ."""
    counts, design, offsets, _ = draw(np.random.default_rng(6))
    recoded = design @ np.array([[1.0, 2.0, 0.0], [0.0, 1e-3, 0.0], [0.0, 5.0, 100.0]])
    at = [
        [adjusted_profile_likelihood(counts, X, offsets, phi)[0] for phi in (0.1, 1.0)]
        for X in (design, recoded)
    ]

    np.testing.assert_allclose(at[0][1] - at[0][0], at[1][1] - at[1][0], atol=1e-8)


def test_features_with_few_counts_get_the_common_dispersion():
    """Fewer than five counts say nothing of a feature's own dispersion."""
    counts = np.array([[2.0, 50.0], [0.0, 9.0], [1.0, 20.0], [1.0, 33.0]])
    found = feature_dispersions(counts, np.ones((4, 1)), np.zeros(4), 0.2)

    assert found[0] == 0.2
    assert found[1] != 0.2


@pytest.mark.parametrize("degree", [2, 3])
def test_splines_reproduce_cubics(degree):
    """The maximum of a parabola or cubic is found exactly; at an end where it rises to the end."""
    x = np.linspace(-6, 6, 11)
    peaks = np.random.default_rng(7).uniform(-5, 5, 50)
    y = -((x[:, None] - peaks) ** 2) * (1 + (degree - 2) * 0.01 * (x[:, None] - peaks))

    np.testing.assert_allclose(spline_maxima(x, y), peaks, atol=1e-9)
    np.testing.assert_array_equal(spline_maxima(x, np.column_stack([x, -x])), [6.0, -6.0])


def test_dispersions_equal_those_of_edger():
    """Common dispersion of each batch to 1e-8, and those of 3 × 300 features to 1e-7, relative."""
    with np.load(REFERENCE) as stored:
        counts = stored["simulated_counts"].astype(float)
        batch_labels, group = stored["simulated_batch"], stored["simulated_group"]
        common, wanted = stored["simulated_common_dispersion"], stored["simulated_dispersions"]
    used = np.all([counts[batch_labels == b].sum(axis=0) > 0 for b in (1, 2, 3)], axis=0)
    for place, level in enumerate((1, 2, 3)):
        rows = batch_labels == level
        y = counts[np.ix_(rows, used)]
        design = np.column_stack([np.ones(rows.sum()), group[rows]])
        offsets = np.log(y.sum(axis=1))

        assert common_dispersion(y, design, offsets) == pytest.approx(common[place], rel=1e-8)
        found = feature_dispersions(y[:, :300], design, offsets, common[place])
        np.testing.assert_allclose(found, wanted[place], rtol=1e-7)


def test_probabilities_and_quantiles_equal_scipy_s():
    """From means of 0.1 to 100,000 and dispersions of 1e-4 to 10, quantiles are the same."""
    rng = np.random.default_rng(8)
    mean, phi = np.exp(rng.uniform(-2, 11, 3000)), np.exp(rng.uniform(-9, 2.3, 3000))
    p = rng.uniform(1e-6, 1 - 1e-4, 3000)
    wanted = distribution(mean, phi).ppf(p)

    np.testing.assert_array_equal(quantile(p, mean, phi), wanted)
    np.testing.assert_allclose(
        probability_below(wanted, mean, phi), distribution(mean, phi).cdf(wanted), rtol=1e-9
    )


def test_poisson_quantiles():
    """Without dispersion the quantiles are those of the Poisson distribution."""
    p = np.random.default_rng(9).uniform(0, 0.9999, 500)

    np.testing.assert_array_equal(quantile(p, 17.0, 0.0), stats.poisson(17).ppf(p))


def test_counts_mapped_to_their_own_distribution_stay():
    """Source and target alike: nothing changes. Order is kept, zeros and ones stay."""
    rng = np.random.default_rng(10)
    mean, phi = np.exp(rng.uniform(0, 9, 2000)), np.exp(rng.uniform(-5, 1, 2000))
    counts = rng.negative_binomial(1 / phi, 1 / (1 + phi * mean)).astype(float)
    ladder = np.arange(200.0)
    mapped = map_counts(ladder, 60.0, 0.1, 20.0, 0.4)

    np.testing.assert_array_equal(map_counts(counts, mean, phi, mean, phi), counts)
    assert (np.diff(mapped[mapped < ladder]) >= 0).all()
    assert mapped[:2].tolist() == [0.0, 1.0]
    assert (mapped[1:] >= 1).all()


def test_counts_far_in_the_tail_stay():
    """A count whose quantile exceeds 0.9999 is left as it is."""
    assert map_counts([1000.0], 10.0, 0.1, 20.0, 0.1).tolist() == [1000.0]
