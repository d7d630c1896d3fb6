"""Layer by layer: noise adds up, its errors are those of the whole, shares contain the truth."""

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.training.gradient_noise.estimators import (
    moments_of_examples,
    moments_of_layers,
    pseudo_values,
)
from batchsense.training.gradient_noise.layers import Layers, noise_of_layers


def grams_of(vectors: np.ndarray, widths: list[int]) -> np.ndarray:
    """Inner products of the rows for consecutive columns."""
    parts = np.split(vectors, np.cumsum(widths)[:-1], axis=1)
    return np.stack([part @ part.T for part in parts])


def test_layers_add_up_to_the_whole() -> None:
    """Estimates and covariance of the sum over layers are those of the flat gradient."""
    rng = np.random.default_rng(1)
    vectors, sizes = rng.standard_normal((9, 7)) + 0.5, np.array([3, 3, 3, 3, 2, 4, 3, 3, 3])
    grams, flat = grams_of(vectors, [2, 4, 1]), grams_of(vectors, [7])

    np.testing.assert_allclose(
        moments_of_layers(grams, sizes, population=100).sum(axis=0),
        moments_of_layers(flat, sizes, population=100)[0],
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        pseudo_values(grams, sizes).sum(axis=1), pseudo_values(flat, sizes)[:, 0], rtol=1e-10
    )


def test_single_examples_give_the_estimator_for_examples() -> None:
    """With Σ|gᵢ|² the noise comes from them; where it is NaN, from the micro-batches."""
    rng = np.random.default_rng(2)
    gradients = rng.standard_normal((24, 5)) + 0.3
    means = gradients.reshape(8, 3, 5).mean(axis=1)
    squares = np.stack(
        [(gradients[:, :3] ** 2).sum(axis=1).reshape(8, 3).sum(axis=1), np.full(8, np.nan)]
    )
    found = moments_of_layers(grams_of(means, [3, 2]), np.full(8, 3), squares)

    first = gradients[:, :3]
    whole = first.mean(axis=0)
    expected = moments_of_examples((first**2).sum(axis=1).mean(), whole @ whole, 24)
    np.testing.assert_allclose(
        found[0], [expected.trace_covariance, expected.squared_gradient_norm], rtol=1e-12
    )
    rest = moments_of_layers(grams_of(means[:, 3:], [2]), np.full(8, 3))[0]
    np.testing.assert_allclose(found[1], rest, rtol=1e-12)


def test_pseudo_values_average_to_the_estimate_with_examples() -> None:
    """Leaving one micro-batch out changes nothing on average: the mean has no bias to remove."""
    rng = np.random.default_rng(3)
    gradients = rng.standard_normal((400, 4)) + 0.5
    means = gradients.reshape(40, 10, 4).mean(axis=1)
    squares = (gradients**2).sum(axis=1).reshape(1, 40, 10).sum(axis=2)
    grams, sizes = grams_of(means, [4]), np.full(40, 10)

    values = pseudo_values(grams, sizes, squares)[:, 0]
    estimate = moments_of_layers(grams, sizes, squares)[0]
    np.testing.assert_allclose(values.mean(axis=0), estimate, rtol=0.02)


@pytest.mark.parametrize("examples_seen", [True, False])
def test_the_share_of_a_layer_is_covered(examples_seen: bool) -> None:
    """95 % intervals of shares and of layers' scales contain the truth in 92 to 98.5 %."""
    rng = np.random.default_rng([4, examples_seen])
    spread = np.repeat([3.0, 1.0, 0.5], [8, 12, 20])
    mean = 0.15 * rng.standard_normal(40)
    layers = Layers.of(["a.weight", "a.bias", "b.weight"], [8, 12, 20])
    share = float((spread[:20] ** 2).sum() / (spread**2).sum())
    scale = float((spread[:20] ** 2).sum() / (mean[:20] ** 2).sum())
    covered = np.zeros(2)
    repeats = 500
    for _ in range(repeats):
        gradients = mean + spread * rng.standard_normal((512, 40))
        means = gradients.reshape(32, 16, 40).mean(axis=1)
        squares = None
        if examples_seen:
            parts = (gradients[:, :20] ** 2, gradients[:, 20:] ** 2)
            squares = np.stack([p.sum(axis=1).reshape(32, 16).sum(axis=1) for p in parts])
        sizes = np.full(32, 16)
        grams = grams_of(means, [20, 20])
        first, second = noise_of_layers(
            pseudo_values(grams, sizes, squares),
            layers,
            estimates=moments_of_layers(grams, sizes, squares),
        )
        covered += [share in first.noise_share, scale in first.noise_scale]

    assert first.noise_share.estimate + second.noise_share.estimate == pytest.approx(1.0)
    assert (covered / repeats >= 0.92).all(), covered / repeats
    assert (covered / repeats <= 0.985).all(), covered / repeats


def test_too_few_micro_batches() -> None:
    """Two leave no interval, and one no estimate."""
    with pytest.raises(UnresolvedError, match="three or more"):
        pseudo_values(np.eye(2)[None], [4, 4])
    with pytest.raises(UnresolvedError, match="differences"):
        moments_of_layers(np.ones((1, 1, 1)), [4])
