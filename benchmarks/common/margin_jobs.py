"""Four training jobs as TARGETs, large enough to fill a limit of gigabytes."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense.training import Workload
from common.memory_jobs import Net, adamw


def _mean_square(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    return (model(minibatch[0]) - minibatch[1]).square().mean()


def _job(model: nn.Module, *shape: int) -> Workload:
    return Workload(
        model,
        _mean_square,
        TensorDataset(torch.randn(64, *shape), torch.randn(64, 1)),
        adamw,
    )


def encoder() -> Workload:
    layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
    net = Net(
        lambda net, x: net.head(net.layers(x).mean(1)),
        layers=nn.TransformerEncoder(layer, 3, enable_nested_tensor=False),
        head=nn.Linear(128, 1),
    )
    return _job(net, 32, 128)


def cnn() -> Workload:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1),
    )  # fmt: skip
    return _job(net, 3, 32, 32)


def lstm() -> Workload:
    net = Net(
        lambda net, x: net.head(net.cells(x)[0][:, -1]),
        cells=nn.LSTM(64, 256, 2, batch_first=True),
        head=nn.Linear(256, 1),
    )
    return _job(net, 50, 64)


def mlp() -> Workload:
    net = nn.Sequential(
        nn.Linear(500, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1)
    )
    return _job(net, 500)
