"""Noise and signal from parts and their whole: unbiased, for any sizes and weights."""

from itertools import permutations

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.training.gradient_noise.estimators import (
    moments_of_examples,
    moments_of_layers,
    noise_of_two_sizes,
)

GRADIENTS = np.array([[2.0, 0.0], [1.0, 3.0], [0.0, -1.0], [4.0, 1.0], [-1.0, 1.0]])


def truth() -> tuple[float, float]:
    """Variance and squared mean of the five gradients that are all there are."""
    mean = GRADIENTS.mean(axis=0)
    return float(((GRADIENTS - mean) ** 2).sum() / len(GRADIENTS)), float(mean @ mean)


def test_without_replacement_it_is_unbiased_over_all_draws() -> None:
    """Over every ordered draw of 4 of 5 as two pairs, the estimates average to the truth."""
    found = []
    for drawn in permutations(range(5), 4):
        pairs = GRADIENTS[list(drawn)].reshape(2, 2, 2).mean(axis=1)
        whole = pairs.mean(axis=0)
        small = (pairs**2).sum(axis=1).mean()
        found.append(noise_of_two_sizes(small, 2, whole @ whole, 4, population=5))

    np.testing.assert_allclose(np.mean(found, axis=0), truth(), rtol=1e-12)


def test_with_replacement_unequal_parts_and_weights_it_is_unbiased() -> None:
    """A mean weighted unlike the sizes of its parts has its own effective size."""
    found = []
    for a in range(5):
        for b in range(5):
            for c in range(5):
                one, two = GRADIENTS[a], GRADIENTS[[b, c]].mean(axis=0)
                sizes, weights = np.array([1.0, 2.0]), np.array([0.75, 0.25])
                small = (sizes @ [one @ one, two @ two]) / 3
                whole = weights @ np.stack([one, two])
                size = 1 / (weights**2 / sizes).sum()
                found.append(noise_of_two_sizes(small, 1.5, whole @ whole, size))

    np.testing.assert_allclose(np.mean(found, axis=0), truth(), rtol=1e-12)


def test_it_agrees_with_the_formulas_for_examples_and_for_equal_micro_batches() -> None:
    """Single examples are parts of size one; equal parts are the usual estimator."""
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((12, 3)) + 1
    mean = gradients.mean(axis=0)
    parts = gradients.reshape(3, 4, 3).mean(axis=1)

    of_examples = moments_of_examples((gradients**2).sum(axis=1).mean(), mean @ mean, 12, 40)
    of_parts = moments_of_layers([parts @ parts.T], [4, 4, 4])[0]
    single = noise_of_two_sizes((gradients**2).sum(axis=1).mean(), 1, mean @ mean, 12, 40)
    several = noise_of_two_sizes((parts**2).sum(axis=1).mean(), 4, mean @ mean, 12)
    np.testing.assert_allclose(
        single, [of_examples.trace_covariance, of_examples.squared_gradient_norm], rtol=1e-12
    )
    np.testing.assert_allclose(several, of_parts, rtol=1e-12)


def test_one_part_says_nothing() -> None:
    """A whole that is its own only part is refused, not divided by zero."""
    with pytest.raises(UnresolvedError, match="two or more parts"):
        noise_of_two_sizes(3.0, 8, 3.0, 8)
