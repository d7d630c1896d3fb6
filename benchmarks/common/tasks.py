"""Small training jobs, each with a learning rate that suits batch size 16."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.datasets import ALPHABET, load_digits, python_source
from batchsense.training import Workload
from batchsense.training.workload.target import CharacterModel

#: The batch size that every learning rate here belongs to.
BATCH_SIZE = 16


@dataclass(frozen=True)
class Task:
    """A training job and the losses it is trained to."""

    name: str
    build: Callable[[], Workload]
    targets: tuple[float, ...]
    optimizer: str


def _sgd(rate: float, momentum: float = 0.0) -> Callable[..., torch.optim.Optimizer]:
    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=rate, momentum=momentum)

    return make


def _adam(rate: float) -> Callable[..., torch.optim.Optimizer]:
    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=rate)

    return make


def _cross_entropy(model: nn.Module, minibatch: Any) -> Tensor:
    inputs, classes = minibatch
    return functional.cross_entropy(model(inputs), classes)


def _squared_error(model: nn.Module, minibatch: Any) -> Tensor:
    inputs, values = minibatch
    return functional.mse_loss(model(inputs).squeeze(1), values)


def _next_character(model: nn.Module, minibatch: Any) -> Tensor:
    (windows,) = minibatch
    return functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    pixels = torch.tensor(digits.observations / 16, dtype=torch.float32)
    return pixels, torch.tensor(digits.digit)


@functools.cache
def _windows(context: int) -> Tensor:
    symbols = torch.tensor(python_source().symbols, dtype=torch.long)
    count = min((len(symbols) - 1) // context, 20_000)
    return symbols[: count * context + 1].unfold(0, context + 1, context)


def digits_mlp(optimizer: Callable[..., torch.optim.Optimizer]) -> Workload:
    pixels, classes = _digits()
    model = _seeded(
        lambda: nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
        )
    )
    data = TensorDataset(pixels, classes)
    return Workload(model, _cross_entropy, data, optimizer, batch_size=BATCH_SIZE)


def digits_convolution() -> Workload:
    pixels, classes = _digits()
    model = _seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
    )
    data = TensorDataset(pixels.reshape(-1, 1, 8, 8), classes)
    return Workload(model, _cross_entropy, data, _sgd(0.05, 0.9), batch_size=BATCH_SIZE)


def teacher_regression() -> Workload:
    """Learn a random net's answers, with noise as large as half their spread."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(10_000, 20, generator=generator)
    teacher = _seeded(lambda: nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 1)))
    with torch.no_grad():
        clean = teacher(inputs).squeeze(1)
    clean = (clean - clean.mean()) / clean.std()
    values = clean + 0.5 * torch.randn(10_000, generator=generator)
    model = _seeded(lambda: nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1)))
    data = TensorDataset(inputs, values)
    return Workload(model, _squared_error, data, _sgd(0.05), batch_size=BATCH_SIZE)


def characters() -> Workload:
    context = 32
    model = _seeded(lambda: CharacterModel(len(ALPHABET) + 1, 32, 2, 2, context))
    data = TensorDataset(_windows(context))
    return Workload(model, _next_character, data, _adam(6e-3), batch_size=BATCH_SIZE)


DIGITS_SGD = Task(
    "digits, MLP, SGD", lambda: digits_mlp(_sgd(0.3)), (1.0, 0.5, 0.3, 0.2, 0.15), "sgd"
)
DIGITS_ADAM = Task("digits, MLP, Adam", lambda: digits_mlp(_adam(4e-3)), (0.3,), "adam")
DIGITS_CONVOLUTION = Task(
    "digits, convolutions, SGD with momentum", digits_convolution, (0.3,), "sgd"
)
TEACHER = Task("regression on a teacher net, MLP, SGD", teacher_regression, (0.4, 0.33, 0.3), "sgd")
CHARACTERS = Task("characters, transformer, Adam", characters, (2.8, 2.4), "adam")

TASKS = (DIGITS_SGD, CHARACTERS, TEACHER, DIGITS_ADAM, DIGITS_CONVOLUTION)
