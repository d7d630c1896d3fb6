"""What tests of collocation share: a small problem, float64, and DeepXDE left as it was found."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from batchsense.training.collocation import Condition

os.environ.setdefault("DDE_BACKEND", "pytorch")  # else its import writes into the home folder
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def float64() -> Iterator[None]:
    """Work in double precision on one thread."""
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


@pytest.fixture
def dde(float64: None) -> Iterator[Any]:
    """DeepXDE in double precision, where it is installed."""
    deepxde = pytest.importorskip("deepxde")
    deepxde.config.set_default_float("float64")
    yield deepxde
    deepxde.config.set_default_float("float32")


def slope(values: Tensor, points: Tensor) -> Tensor:
    """Derivatives of a column of values by all coordinates."""
    return torch.autograd.grad(values.sum(), points, create_graph=True)[0]


def heat(model: nn.Module, points: Tensor) -> Tensor:
    """u_t - 0.4 u_xx."""
    first = slope(model(points), points)
    return first[:, 1:] - 0.4 * slope(first[:, :1], points)[:, :1]


def start(model: nn.Module, points: Tensor) -> Tensor:
    """The profile at the start."""
    return model(points) - torch.sin(torch.pi * points[:, :1])


@pytest.fixture
def net(float64: None) -> nn.Module:
    """A small tanh network of two inputs."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 10), nn.Tanh(), nn.Linear(10, 1))


@pytest.fixture
def conditions(float64: None) -> list[Condition]:
    """Three conditions with 53, 20 and 2 points, of different weights."""
    generator = torch.Generator().manual_seed(1)
    inside = torch.rand(53, 2, generator=generator)
    at_start = torch.cat([torch.rand(20, 1, generator=generator), torch.zeros(20, 1)], dim=1)
    corners = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    return [
        Condition("heat", heat, inside, weight=0.5),
        Condition("start", start, at_start, weight=3.0),
        Condition("corners", lambda model, points: model(points), corners),
    ]


@pytest.fixture
def gradient() -> Any:
    """Turn a loss into one vector of derivatives by all parameters."""

    def found(loss: Tensor, model: nn.Module) -> Tensor:
        parts = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    return found
