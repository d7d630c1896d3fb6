"""Nominal 95 % intervals of the noise scale contain a planted truth as often as they say."""

import numpy as np
import pytest

from batchsense.training.gradient_noise import NoiseReport, noise_report, pool_moments
from batchsense.training.gradient_noise.estimators import moments_of_layers
from batchsense.training.gradient_noise.layers import Layers, noise_of_micro_batches

REPEATS = 800
DIRECTIONS = 200
EXAMPLES = 2048
WHOLE = Layers.of([""], [DIRECTIONS])


def spectrum() -> np.ndarray:
    """Variances along the directions, falling as 1/k, with sum 1."""
    variances = 1 / np.arange(1, DIRECTIONS + 1)
    return variances / variances.sum()


@pytest.mark.parametrize("noise_scale", [10, 100, 1000, 10_000])
@pytest.mark.parametrize("groups", [8, 32])
def test_frozen_weights(noise_scale: int, groups: int) -> None:
    """At 2,048 examples coverage lies in [.92, .985], and up to 1 where nothing can be said.

    At a noise scale of 10,000 nearly all intervals are [L, ∞): these err on the safe side. An
    interval that misses the truth by more than a factor of two is rare (2 % at most).
    """
    rng = np.random.default_rng([noise_scale, groups])
    variances, size = spectrum(), EXAMPLES // groups
    mean = np.sqrt(variances / noise_scale)
    covered = unbounded = far_off = 0
    for _ in range(REPEATS):
        noise = rng.standard_normal((groups, DIRECTIONS)) * np.sqrt(variances / size)
        gram = (mean + noise) @ (mean + noise).T
        sizes = np.full(groups, size)
        report, _ = noise_of_micro_batches(gram[None], sizes, WHOLE, None)
        found = report.noise_scale
        covered += noise_scale in found
        unbounded += report.branch == "lower"
        far_off += found.low > 2 * noise_scale or found.high < noise_scale / 2

    assert 0.92 <= covered / REPEATS <= (0.985 if noise_scale <= 1000 else 1.0)
    assert far_off / REPEATS <= 0.02
    assert (unbounded > 0.9 * REPEATS) == (noise_scale == 10_000)


@pytest.mark.parametrize("noise_scale", [10, 100, 1000])
@pytest.mark.parametrize("micro_batches", [2, 8])
def test_pooled_steps(noise_scale: int, micro_batches: int) -> None:
    """Sixteen steps of 128 examples, each split in 2 or 8, pooled as a ratio of means."""
    rng = np.random.default_rng([noise_scale, micro_batches])
    variances, size = spectrum(), 128 // micro_batches
    mean = np.sqrt(variances / noise_scale)
    covered = far_off = 0
    for _ in range(REPEATS):
        taus, gammas = [], []
        for _ in range(16):
            noise = rng.standard_normal((micro_batches, DIRECTIONS)) * np.sqrt(variances / size)
            gram = (mean + noise) @ (mean + noise).T
            tau, gamma = moments_of_layers(gram[None], np.full(micro_batches, size))[0]
            taus.append(tau)
            gammas.append(gamma)
        found = noise_report(*pool_moments(taus, gammas), 15, 2048).noise_scale
        covered += noise_scale in found
        far_off += found.low > 2 * noise_scale or found.high < noise_scale / 2

    assert 0.92 <= covered / REPEATS <= 0.985
    assert far_off / REPEATS <= 0.02


def test_asking_for_what_is_needed_leads_to_an_answer() -> None:
    """Measuring again with as many more as the report asks for ends, and without great waste.

    Four rounds suffice nine times in ten, and half of the answers cost less than four times the
    8,192 examples at which most measurements of this noise scale are resolved.
    """
    rng = np.random.default_rng(5)
    variances, truth = spectrum(), 1000.0
    mean = np.sqrt(variances / truth)

    def measure(examples: int) -> NoiseReport:
        noise = rng.standard_normal((32, DIRECTIONS)) * np.sqrt(variances / (examples / 32))
        gram, sizes = (mean + noise) @ (mean + noise).T, np.full(32, examples / 32)
        return noise_of_micro_batches(gram[None], sizes, WHOLE, None)[0]

    rounds, spent = [], []
    for _ in range(200):
        report = measure(512)
        tries = 0
        while not report.resolved and tries < 10:
            report = measure(report.examples_used + report.examples_needed)
            tries += 1
        rounds.append(tries)
        spent.append(report.examples_used)

    assert np.mean([measure(8192).resolved for _ in range(100)]) > 0.5
    assert np.mean(np.array(rounds) <= 4) >= 0.9
    assert np.median(spent) <= 4 * 8192
