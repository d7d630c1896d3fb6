"""Small training loops with a meter, and slow loops that compute the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.training import GradientNoiseMeter
from batchsense.training.gradient_noise.meter.records import StepNoise

INPUTS = torch.randn(240, 5, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0]) + 0.5 * torch.randn(
    240, generator=torch.Generator().manual_seed(1)
)


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def parts_of_step(step: int, sizes: tuple[int, ...] = (8,)) -> list[np.ndarray]:
    """Disjoint examples of each micro-batch of a step."""
    order = np.random.default_rng(step).permutation(len(INPUTS))
    return np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])


def mean_loss(model: nn.Module, chosen: np.ndarray) -> Tensor:
    """Mean squared error over some examples."""
    dtype = next(model.parameters()).dtype
    values = model(INPUTS[chosen].to(dtype))[:, 0]
    return (values - TARGETS[chosen].to(dtype)).square().mean()


def train(
    model: nn.Module,
    steps: int = 40,
    sizes: tuple[int, ...] = (8,),
    factor: Callable[[int], float] = lambda size: 1.0,
    before_step: Callable[[nn.Module], Any] = lambda model: None,
    set_to_none: bool = True,
    learning_rate: float = 0.05,
    seen: list[nn.Module] | None = None,
    **options: Any,
) -> GradientNoiseMeter:
    """Train with a meter; ``factor`` scales the loss of a micro-batch of that size."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.5)
    with GradientNoiseMeter(model, optimizer, **{"every": 1, **options}) as meter:
        for step in range(steps):
            if seen is not None:
                seen.append(copy.deepcopy(model))
            optimizer.zero_grad(set_to_none=set_to_none)
            for chosen in parts_of_step(step, sizes):
                (mean_loss(model, chosen) * factor(len(chosen))).backward()
            before_step(model)
            optimizer.step()
    return meter


def rows(meter: GradientNoiseMeter) -> list[StepNoise]:
    """What was measured, step by step."""
    return meter._book.rows


def gradient(model: nn.Module, chosen: np.ndarray) -> np.ndarray:
    """The mean gradient over some examples, by plain autograd."""
    parts = torch.autograd.grad(mean_loss(model, chosen), list(model.parameters()))
    return torch.cat([part.reshape(-1) for part in parts]).double().numpy()


def from_single_examples(model: nn.Module, chosen: np.ndarray) -> tuple[float, float]:
    """The unbiased estimates from a loop over examples."""
    gradients = np.stack([gradient(model, np.array([one])) for one in chosen])
    count, mean = len(gradients), gradients.mean(axis=0)
    tau = ((gradients - mean) ** 2).sum() / (count - 1)
    return float(tau), float(mean @ mean - tau / count)


def from_parts(model: nn.Module, parts: list[np.ndarray]) -> tuple[float, float]:
    """The unbiased estimates from the means of micro-batches, weighted by their sizes."""
    sizes = np.array([len(part) for part in parts])
    gradients = np.stack([gradient(model, part) for part in parts])
    mean = sizes @ gradients / sizes.sum()
    tau = (sizes * ((gradients - mean) ** 2).sum(axis=1)).sum() / (len(parts) - 1)
    return float(tau), float(mean @ mean - tau / sizes.sum())


def assert_rows(
    meter: GradientNoiseMeter, expected: list[tuple[float, float]], rtol: float = 1e-8
) -> None:
    """The rows hold these τ̂ and γ̂."""
    found = [(row.trace_covariance, row.squared_gradient_norm) for row in rows(meter)]
    np.testing.assert_allclose(found, expected, rtol=rtol)
