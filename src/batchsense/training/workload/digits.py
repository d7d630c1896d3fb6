"""The built-in workload ``digits``: a small net on real handwriting, trained in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.datasets import load_digits
from batchsense.training.workload.workload import Workload

#: Width of the two hidden layers: 26,122 parameters.
HIDDEN = 128
#: Best for 32 examples of a grid of factors of two, by steps to a loss of 0.15.
LEARNING_RATE = 0.4
BATCH_SIZE = 32


def digits_workload(seed: int = 0) -> Workload:
    """Make the classification of 1,797 handwritten digits by a net with two hidden layers.

    Rows are those of :func:`batchsense.datasets.load_digits`, in the order of the file, scaled to
    0–1; the loss is the mean cross-entropy in nats; plain SGD.

    Parameters
    ----------
    seed : int
        Seed of the initial weights.

    Returns
    -------
    Workload
        With ``examples`` a ``TensorDataset`` of (64 pixels, digit).

    Examples
    --------
    >>> workload = digits_workload()
    >>> pixels, digit = workload.minibatch([0, 1])
    >>> pixels.shape, digit.tolist()
    (torch.Size([2, 64]), [0, 1])
    """
    digits = load_digits()
    pixels = torch.tensor(digits.observations / 16, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(64, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 10),
        )
    return Workload(
        model=model,
        loss=_cross_entropy,
        examples=TensorDataset(pixels, torch.tensor(digits.digit)),
        optimizer=_sgd,
        batch_size=BATCH_SIZE,
    )


def _cross_entropy(model: nn.Module, minibatch: Any) -> Tensor:
    """Give the mean cross-entropy of the predicted digit."""
    pixels, digit = minibatch
    return functional.cross_entropy(model(pixels), digit)


def _sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make plain stochastic gradient descent."""
    return torch.optim.SGD(parameters, lr=LEARNING_RATE)
