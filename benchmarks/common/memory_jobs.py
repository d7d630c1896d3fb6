"""Small training jobs whose memory grows in different ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset, TensorDataset

from batchsense.training import Workload

COUNT = 64
Forward = Callable[[Tensor], Tensor]


class Tutorial(Dataset[Any]):
    """A data set as tutorials write it: a new tensor for each example."""

    def __init__(self, examples: Any) -> None:
        self._rows = [[part.numpy() for part in examples[k]] for k in range(len(examples))]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return tuple(torch.tensor(part) for part in self._rows[index])


def as_tutorial(workload: Workload) -> Workload:
    """The same job with a data set that makes tensors."""
    return replace(workload, examples=Tutorial(workload.examples))


class Net(nn.Module):
    """Modules by name and a function that joins them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self._join = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._join(self, x)


def kinds(model: nn.Module, minibatch: Any) -> Tensor:
    return functional.cross_entropy(model(minibatch[0]), minibatch[1])


def next_token(model: nn.Module, minibatch: Any) -> Tensor:
    tokens = minibatch[0]
    logits = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def contrastive(model: nn.Module, minibatch: Any) -> Tensor:
    similar = model(minibatch[0])
    return functional.cross_entropy(similar @ similar.T, torch.arange(len(similar)))


def autocast(model: nn.Module, minibatch: Any) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return functional.cross_entropy(model(minibatch[0]).float(), minibatch[1])


def residual(model: nn.Module, minibatch: Any) -> Tensor:
    points = minibatch[0].detach().requires_grad_()
    value = model(points)
    first = torch.autograd.grad(value.sum(), points, create_graph=True)[0]
    second = torch.autograd.grad(first[:, 0].sum(), points, create_graph=True)[0]
    return (first[:, 1] - second[:, 0]).square().mean()


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3)


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def adafactor(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(parameters, lr=1e-3)


def labelled(*shape: int) -> TensorDataset:
    return TensorDataset(torch.randn(COUNT, *shape), torch.arange(COUNT) % 10)


def tokens(length: int = 33) -> TensorDataset:
    return TensorDataset(torch.randint(0, 50, (COUNT, length)))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(200, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def images(norm: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def recurrent(kind: type[nn.RNNBase]) -> nn.Module:
    return Net(
        lambda net, x: net.head(net.cells(x)[0][:, -1]),
        cells=kind(16, 64, batch_first=True),
        head=nn.Linear(64, 10),
    )


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return Net(
        lambda net, x: net.head(net.layers(x).mean(1)),
        layers=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        head=nn.Linear(64, 10),
    )


def decoder(tied: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)

    def forward(net: Any, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        hidden = net.layers(net.embed(x), mask=mask, is_causal=True)
        return functional.linear(hidden, net.embed.weight) if tied else net.head(hidden)

    return Net(
        forward,
        embed=nn.Embedding(50, 64),
        layers=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        head=nn.Identity() if tied else nn.Linear(64, 50),
    )


def checkpointed() -> nn.Module:
    return Net(
        lambda net, x: net.last(
            checkpoint(net.second, checkpoint(net.first, x, use_reentrant=False),
                       use_reentrant=False)
        ),
        first=nn.Sequential(nn.Linear(200, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()),
        second=nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()),
        last=nn.Linear(512, 10),
    )  # fmt: skip


def ragged() -> Workload:
    lengths = [5 + (k * 7) % 30 for k in range(COUNT)]

    def padded(examples: list[Any]) -> Tensor:
        return nn.utils.rnn.pad_sequence([one[0] for one in examples], batch_first=True)

    return Workload(
        nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1)),
        lambda model, minibatch: model(minibatch).square().mean(),
        [(torch.randn(length, 32),) for length in lengths],
        adamw,
        collate=padded,
    )


def physics() -> Workload:
    net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    return Workload(net, residual, TensorDataset(torch.rand(COUNT, 2)), adamw)


#: Name and what makes the job.
JOBS: dict[str, Callable[[], Workload]] = {
    "MLP, AdamW": lambda: Workload(mlp(), kinds, labelled(200), adamw),
    "MLP, momentum": lambda: Workload(mlp(), kinds, labelled(200), momentum),
    "MLP, Adafactor": lambda: Workload(mlp(), kinds, labelled(200), adafactor),
    "CNN, BatchNorm": lambda: Workload(
        images(nn.BatchNorm2d(16)), kinds, labelled(3, 16, 16), adamw
    ),
    "CNN, GroupNorm": lambda: Workload(
        images(nn.GroupNorm(4, 16)), kinds, labelled(3, 16, 16), momentum
    ),
    "LSTM": lambda: Workload(recurrent(nn.LSTM), kinds, labelled(12, 16), adamw),
    "GRU": lambda: Workload(recurrent(nn.GRU), kinds, labelled(12, 16), adamw),
    "encoder": lambda: Workload(encoder(), kinds, labelled(12, 64), adamw),
    "encoder, momentum": lambda: Workload(encoder(), kinds, labelled(12, 64), momentum),
    "decoder": lambda: Workload(decoder(), next_token, tokens(), adamw),
    "tied": lambda: Workload(decoder(tied=True), next_token, tokens(), adafactor),
    "checkpointed": lambda: Workload(checkpointed(), kinds, labelled(200), adamw),
    "autocast": lambda: Workload(mlp(), autocast, labelled(200), adamw),
    "contrastive": lambda: Workload(nn.Linear(200, 32), contrastive, labelled(200), adamw),
    "ragged": ragged,
    "PINN": physics,
}
