"""A training job whose computing is sleep: exact overlap of real buckets, cores idle.

Each layer sleeps a third of its time in the forward pass and two thirds in the backward pass, so
that gradients become ready one after another as on a machine that computes, and eight workers fit
on two cores. The gradients and their exchange are real.
"""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from batchsense.training import Workload

#: Seconds an example and a step take; of the order of a small convolutional net on one core.
PER_EXAMPLE, FIXED = 3e-4, 9e-3


class Slept(torch.autograd.Function):
    """Sleep, and pass the numbers on."""

    @staticmethod
    def forward(ctx: Any, numbers: torch.Tensor, seconds: float) -> torch.Tensor:
        """Sleep a third."""
        ctx.seconds = seconds
        time.sleep(seconds / 3)
        return numbers.view_as(numbers)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        """Sleep two thirds."""
        time.sleep(2 * ctx.seconds / 3)
        return gradient, None


class SleepingNet(nn.Module):
    """Linear layers of equal width; the loss sees one row, its time goes with the examples."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.width = width

    def forward(self, examples: int) -> torch.Tensor:
        """Go through all layers, each with its share of the time."""
        share = (FIXED + PER_EXAMPLE * examples) / len(self.layers)
        numbers = torch.ones(1, self.width, requires_grad=True)
        for layer in self.layers:
            numbers = Slept.apply(torch.tanh(layer(numbers)), share)
        return numbers


class Counted(Dataset[int]):
    """Examples without content."""

    def __len__(self) -> int:
        return 1 << 16

    def __getitem__(self, index: int) -> int:
        return index

    def __getitems__(self, indices: list[int]) -> list[int]:
        return indices


def workload() -> Workload:
    """4.2 MB of gradients in 16 layers, or as NETLAB_WIDTH and NETLAB_LAYERS say."""
    torch.set_num_threads(1)
    width, layers = (
        int(os.environ.get(f"NETLAB_{n}", d)) for n, d in (("WIDTH", 256), ("LAYERS", 16))
    )
    return Workload(
        model=SleepingNet(width, layers),
        loss=lambda model, minibatch: model(len(minibatch)).mean(),
        examples=Counted(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01),
        collate=lambda examples: examples,
        batch_size=512,
    )
