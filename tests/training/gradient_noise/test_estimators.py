"""The estimators are unbiased: exactly so over all possible draws, and on a real net."""

import itertools

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.training.gradient_noise.estimators import (
    moments_of_examples,
    moments_of_layers,
    pseudo_values,
)


def truth(vectors: np.ndarray) -> tuple[float, float]:
    """Give tr Σ (divided by N) and |G|² of a finite population."""
    mean = vectors.mean(axis=0)
    return float(((vectors - mean) ** 2).sum(axis=1).mean()), float(mean @ mean)


@pytest.fixture(name="vectors")
def _vectors() -> np.ndarray:
    """Six "gradients" in four dimensions, of very different length."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((6, 4)) * np.array([[0.1], [1], [1], [2], [5], [1]]) + 1


def test_examples_without_replacement_are_unbiased_over_all_draws(vectors: np.ndarray) -> None:
    """The mean over all draws of 3 of 6 equals the truth to rounding."""
    found = []
    for draw in itertools.combinations(range(6), 3):
        drawn = vectors[list(draw)]
        mean = drawn.mean(axis=0)
        found.append(moments_of_examples((drawn**2).sum() / 3, mean @ mean, 3, population=6))
    expected = truth(vectors)

    assert expected[0] == pytest.approx(np.mean([m.trace_covariance for m in found]), rel=1e-12)
    assert expected[1] == pytest.approx(
        np.mean([m.squared_gradient_norm for m in found]), rel=1e-12
    )


def test_examples_with_replacement_are_unbiased_over_all_draws(vectors: np.ndarray) -> None:
    """The mean over all 216 ordered draws of 3 with replacement equals the truth to rounding."""
    found = []
    for draw in itertools.product(range(6), repeat=3):
        drawn = vectors[list(draw)]
        mean = drawn.mean(axis=0)
        found.append(moments_of_examples((drawn**2).sum() / 3, mean @ mean, 3))
    expected = truth(vectors)

    assert expected[0] == pytest.approx(np.mean([m.trace_covariance for m in found]), rel=1e-12)
    assert expected[1] == pytest.approx(
        np.mean([m.squared_gradient_norm for m in found]), rel=1e-12
    )


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 2), (2, 2, 2)])
def test_micro_batches_are_unbiased_over_all_draws(
    vectors: np.ndarray, sizes: tuple[int, ...]
) -> None:
    """Also with unequal sizes, and when the micro-batches use up the whole population."""
    found = []
    for draw in itertools.permutations(range(6), sum(sizes)):
        parts = np.split(np.array(draw), np.cumsum(sizes)[:-1])
        means = np.stack([vectors[part].mean(axis=0) for part in parts])
        found.append(moments_of_layers([means @ means.T], sizes, population=6)[0])

    assert truth(vectors) == pytest.approx(np.mean(found, axis=0), rel=1e-12)


def test_all_examples_give_the_exact_answer(vectors: np.ndarray) -> None:
    """With n = N nothing is left to chance."""
    mean = vectors.mean(axis=0)
    found = moments_of_examples((vectors**2).sum() / 6, mean @ mean, 6, population=6)

    assert truth(vectors) == pytest.approx((found.trace_covariance, found.squared_gradient_norm))


def test_estimates_are_never_clamped() -> None:
    """Pure noise gives a negative squared norm about half of the time, and it is passed on."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        means = rng.standard_normal((8, 30))
        found.append(moments_of_layers([means @ means.T], [4] * 8)[0, 1])

    assert 0.3 < np.mean(np.array(found) < 0) < 0.7


def test_jackknife_tells_the_scatter_of_the_estimates() -> None:
    """The mean estimated variance is within 15 % of the scatter over 2,000 simulated draws."""
    rng = np.random.default_rng(1)
    scale = np.arange(1, 41.0) ** -0.5
    found, covariances = [], []
    for _ in range(2000):
        means = 0.6 * scale + rng.standard_normal((16, 40)) * scale / 2
        gram = means @ means.T
        found.append(moments_of_layers([gram], [4] * 16)[0])
        covariances.append(np.cov(pseudo_values([gram], [4] * 16)[:, 0].T) / 16)

    np.testing.assert_allclose(
        np.diag(np.mean(covariances, axis=0)), np.var(found, axis=0), rtol=0.15
    )


def test_one_micro_batch_is_refused_with_what_is_needed() -> None:
    """One micro-batch says nothing about differences; the error says what would."""
    with pytest.raises(UnresolvedError, match="two or more micro-batches"):
        moments_of_layers([[[1.0]]], [32])
    with pytest.raises(UnresolvedError, match="one example"):
        moments_of_examples(1.0, 1.0, 1)
