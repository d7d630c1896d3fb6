"""Scene: one mathematics for gradients on two workers and genes in two months."""

import numpy as np
import pytest
import torch

from batchsense.datasets import load_digits
from batchsense.experiments import variance_components
from batchsense.training import digits_workload
from batchsense.variation import Moments


def gradients(rows: np.ndarray) -> np.ndarray:
    """Give the gradients of the output biases for these rows of the digits."""
    workload = digits_workload(seed=0)
    pixels, digit = workload.minibatch(rows.tolist())
    with torch.no_grad():
        probabilities = torch.softmax(workload.model(pixels), dim=1)
    return (probabilities - torch.nn.functional.one_hot(digit, 10)).double().numpy()


def test_the_same_object_merges_workers_and_months() -> None:
    """Two workers' gradients and two forms' pixels merge by one function, equal to one pass."""
    digits = load_digits()
    first, second = (np.flatnonzero(digits.form_labels == form) for form in (0, 1))

    for observations in (gradients, lambda rows: digits.observations[rows]):
        merged = Moments.of(observations(first)) + Moments.of(observations(second))
        at_once = Moments.of(observations(np.concatenate([first, second])))
        assert merged.count == at_once.count
        np.testing.assert_allclose(merged.variance(), at_once.variance(), rtol=1e-12, atol=1e-15)


def test_the_design_effect_of_a_form_is_the_noise_of_minibatches_in_file_order() -> None:
    """Two readings of one number: 1 + (n - 1) ICC, and the extra variance of minibatch means.

    Rows of one form resemble each other. A scientist computes the design effect of groups of 64
    specimens; a trainer sees how much noisier minibatches of 64 in file order are.
    """
    digits = load_digits()
    rows = np.arange(len(digits.digit) // 64 * 64)
    ink = digits.observations[rows].sum(axis=1)

    icc = variance_components(ink, rows // 64).icc
    means = ink.reshape(-1, 64).mean(axis=1)
    inflation = means.var(ddof=1) / (ink.var(ddof=1) / 64)

    assert icc.low > 0
    assert 1 + 63 * icc.estimate == pytest.approx(inflation, rel=0.1)
