"""Scene: a gradient over n examples has variance ~1/n, so there is a smallest batch."""

import math

import numpy as np
import torch

from batchsense.training import digits_workload
from batchsense.variation import chebyshev_need, pinelis_need


def gradients_of_the_output_bias() -> np.ndarray:
    """Give every digit's gradient with respect to the ten output biases, exactly: p - y."""
    workload = digits_workload(seed=0)
    pixels, digit = workload.minibatch(range(len(workload.examples)))
    with torch.no_grad():
        probabilities = torch.softmax(workload.model(pixels), dim=1)
    return (probabilities - torch.nn.functional.one_hot(digit, 10)).double().numpy()


def test_ten_times_the_examples_leave_a_tenth_of_the_variance() -> None:
    """|g_B - G|² averages to tr Σ / B: at four sizes, its product with B is the same number."""
    gradients = gradients_of_the_output_bias()
    mean, rng = gradients.mean(axis=0), np.random.default_rng(7)
    trace = ((gradients - mean) ** 2).sum(axis=1).mean()

    for batch_size in (1, 10, 100, 1000):
        drawn = rng.integers(len(gradients), size=(400, batch_size))
        errors = ((gradients[drawn].mean(axis=1) - mean) ** 2).sum(axis=1)
        ratios = errors * batch_size / trace
        assert abs(ratios.mean() - 1) < 4 * ratios.std() / np.sqrt(len(ratios))


def test_the_smallest_batch_for_a_precision_keeps_its_promise() -> None:
    """Asked for an error above ε in at most 5 of 100 minibatches, either number delivers that."""
    gradients = gradients_of_the_output_bias()
    mean, rng = gradients.mean(axis=0), np.random.default_rng(8)
    furthest = np.linalg.norm(gradients - mean, axis=1).max()

    trace = float(((gradients - mean) ** 2).sum(axis=1).mean())
    needs = chebyshev_need(trace, 0.1, 0.05), pinelis_need(trace, 0.1, 0.05, float(furthest))
    for batch_size in map(math.ceil, needs):
        drawn = rng.integers(len(gradients), size=(2000, batch_size))
        errors = np.linalg.norm(gradients[drawn].mean(axis=1) - mean, axis=1)
        misses = (errors > 0.1).sum()
        # 5 % of 2,000 are 100; four standard errors of chance are 39.
        assert misses <= 139
