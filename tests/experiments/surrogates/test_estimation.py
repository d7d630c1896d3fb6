"""Surrogate variables: the hidden truth recovered, agreement with R, local rates calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments import PlantedEffects, plant
from batchsense.experiments.surrogates.estimation import (
    f_test,
    reweighted_surrogates,
    surrogate_count,
    two_step_surrogates,
)
from batchsense.experiments.surrogates.local_fdr import local_fdr, null_share

REFERENCES = Path(__file__).resolve().parents[2] / "references"
#: Share of treated in every other month, as tests/references/surrogates/pack.py has it.
SHARES = (0.5, 0.75, 0.9)


def experiment(share, repetition):
    """The simulated experiment that R was given."""
    planted = plant(
        specimens=42,
        features=2000,
        months=3,
        treated_share=share,
        effects=PlantedEffects(drug_share=0.1, month_share=0.5),
        seed=1000 * SHARES.index(share) + repetition,
    )
    treated = (np.array(planted.table.sheet["drug"]) == "yes").astype(float)[:, None]
    month = np.array(planted.table.sheet["month"])
    return planted, treated, (month[:, None] == np.unique(month)).astype(float)


def largest_angle(found, truth):
    """Largest principal angle in degrees, the constant taken out; 90 if a direction is missing."""
    bases = [np.linalg.svd(m - m.mean(axis=0), full_matrices=False) for m in (found, truth)]
    first, second = (u[:, s > 1e-9 * s[0]] for u, s, _ in bases)
    if first.shape[1] < second.shape[1]:
        return 90.0
    cosines = np.linalg.svd(first.T @ second, compute_uv=False)
    return float(np.degrees(np.arccos(min(1.0, cosines.min()))))


@pytest.fixture(scope="module")
def bladder():
    """The first 2,000 probes of the bladder data, with cancer, and what R found."""
    data = np.load(REFERENCES / "bladder" / "input.npz")
    cancer = data["cancer"]
    levels = np.unique(cancer)
    wanted = (cancer[:, None] == levels[1:]).astype(float)
    return data["expression"].T, wanted, np.load(REFERENCES / "surrogates" / "bladder.npz")


def test_reweighted_agrees_with_r(bladder):
    """The same space as R's iteratively re-weighted surrogates to 0.2 degrees, and its weights."""
    observations, wanted, r = bladder
    found = reweighted_surrogates(observations, wanted, np.ones((57, 1)), 3)
    posterior = r["posteriors"][:, 0] * (1 - r["posteriors"][:, 1])

    assert largest_angle(found.values, r["irw"]) < 0.2
    # The density of the p-values is smoothed on another grid: the weights differ by that.
    assert np.abs(found.weights - posterior).max() < 0.02


def test_two_step_agrees_with_r(bladder):
    """Within a degree of R's two-step surrogates."""
    observations, wanted, r = bladder
    found = two_step_surrogates(observations, wanted, np.ones((57, 1)), 3)

    assert largest_angle(found.values, r["two_step"]) < 1


def test_the_count_agrees_with_r(bladder):
    """Parallel analysis finds as many directions as R does."""
    observations, wanted, r = bladder
    design = np.hstack([np.ones((57, 1)), wanted])

    assert surrogate_count(observations, design, np.random.default_rng(0)).count == r["count"]


@pytest.mark.parametrize("share", SHARES)
def test_as_near_to_the_truth_as_r(share):
    """In simulated experiments the re-weighted surrogates span R's space, and the truth."""
    r = np.load(REFERENCES / "surrogates" / "simulation.npz")
    for repetition in (0, 1):
        planted, treated, months = experiment(share, repetition)
        found = reweighted_surrogates(planted.table.values, treated, np.ones((42, 1)), 2)
        theirs = r["irw"][SHARES.index(share), repetition]

        assert largest_angle(found.values, theirs) < 0.5
        assert largest_angle(found.values, months) < largest_angle(theirs, months) + 0.2
        assert largest_angle(found.values, months) < 8


def test_false_positives_are_near_the_level_where_batches_are_entangled():
    """R² = .17 and .71 of drug with month: 0.05 to within 0.01; without surrogates 0.09 or more."""
    for share in SHARES[1:]:
        rates = []
        for repetition in range(3):
            planted, treated, _ = experiment(share, repetition)
            observations = planted.table.values[:, planted.drug_effect == 0]
            constant = np.ones((42, 1))
            found = reweighted_surrogates(planted.table.values, treated, constant, 2)
            for base in (np.hstack([constant, found.values]), constant):
                p = f_test(observations, np.hstack([base, treated]), base)
                rates.append((p < 0.05).mean())
        with_surrogates, without = np.mean(rates[0::2]), np.mean(rates[1::2])

        assert abs(with_surrogates - 0.05) < 0.01
        assert without > 0.09


def test_signs_and_order_of_specimens():
    """Another order of the specimens gives the same surrogates in that order."""
    planted, treated, _ = experiment(0.75, 0)
    observations, constant = planted.table.values, np.ones((42, 1))
    order = np.random.default_rng(5).permutation(42)
    first = reweighted_surrogates(observations, treated, constant, 2).values
    second = reweighted_surrogates(observations[order], treated[order], constant, 2).values

    assert np.abs(first[order] - second).max() < 1e-8


def test_noise_has_no_surrogates():
    """Independent noise shows a direction in at most a fifth of the runs (nominal a tenth)."""
    rng = np.random.default_rng(6)
    design = np.column_stack([np.ones(20), np.arange(20) % 2])
    counts = [
        surrogate_count(rng.normal(size=(20, 200)), design, rng, permutations=30).count
        for _ in range(40)
    ]

    assert np.mean(np.array(counts) > 0) <= 0.2


def test_known_directions_are_not_found_again():
    """What is given as known is no surrogate: one of two hidden factors is left."""
    rng = np.random.default_rng(7)
    hidden = rng.normal(size=(30, 2))
    observations = hidden @ rng.normal(size=(2, 500)) + rng.normal(size=(30, 500))
    known = np.column_stack([np.ones(30), hidden[:, 0]])
    found = reweighted_surrogates(observations, (np.arange(30) % 2.0)[:, None], known, 1)

    left = hidden[:, 1] - known @ np.linalg.lstsq(known, hidden[:, 1], rcond=None)[0]
    sv = found.values[:, 0] - known @ np.linalg.lstsq(known, found.values[:, 0], rcond=None)[0]
    assert abs(np.corrcoef(sv, left)[0, 1]) > 0.98


def test_too_many_surrogates_are_refused():
    """A model without a residual degree of freedom is not asked for."""
    rng = np.random.default_rng(8)
    with pytest.raises(DataError, match="at most 3 leave"):
        reweighted_surrogates(
            rng.normal(size=(6, 200)), np.eye(2)[np.arange(6) % 2][:, 1:], np.ones((6, 1)), 4
        )


def test_f_test_against_a_loop():
    """p-values equal those of a plain loop with scipy's F distribution."""
    from scipy import stats

    rng = np.random.default_rng(9)
    smaller = np.column_stack([np.ones(15), rng.normal(size=15)])
    larger = np.column_stack([smaller, rng.normal(size=(15, 2))])
    observations = rng.normal(size=(15, 6))
    expected = []
    for y in observations.T:
        rss = [np.linalg.lstsq(design, y, rcond=None)[1][0] for design in (larger, smaller)]
        expected.append(stats.f.sf((rss[1] - rss[0]) / 2 / (rss[0] / 11), 2, 11))

    assert f_test(observations, larger, smaller) == pytest.approx(expected, rel=1e-9)
    constant = np.ones((15, 1))
    assert f_test(np.full((15, 1), 3.0), smaller, constant).tolist() == [1.0]


def test_local_fdr_is_calibrated():
    """Among tests with local rates near q, a share q are true nulls."""
    rng = np.random.default_rng(10)
    null = rng.random(40_000) < 0.7
    p = np.where(null, rng.random(40_000), rng.beta(0.2, 5, 40_000))
    found = local_fdr(p)

    assert abs(null_share(p) - 0.7) < 0.02
    for low, high in ((0.05, 0.2), (0.3, 0.5), (0.5, 0.7)):
        here = (found > low) & (found < high)
        assert abs(null[here].mean() - found[here].mean()) < 0.08
    assert (np.diff(found[np.argsort(p)]) >= 0).all()


def test_p_values_are_checked():
    """Anything outside [0, 1] is refused."""
    with pytest.raises(DataError, match="between 0 and 1"):
        local_fdr([0.5, 1.5])


@pytest.mark.parametrize("p", [1.0, 1e-300])
def test_local_fdr_of_equal_p_values(p):
    """Heaps of one p-value, equal or but for rounding: all null at 1, none near 0."""
    jitter = 1 - 1e-16 * np.arange(200)
    for p_values in (np.full(200, p), np.clip(p * jitter, 0, 1)):
        found = local_fdr(p_values)
        assert ((found >= 0) & (found <= 1)).all()
        assert found[p_values == 1.0].tolist() == [1.0] * int((p_values == 1.0).sum())
        assert (found < 1e-6).all() == (p < 1e-3)
