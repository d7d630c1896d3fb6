"""Training jobs of the tests, in float64: path.py:function for the command line."""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from batchsense.training import Workload


def _sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def _numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def _model(width=6, outputs=3, dropout=0.0, seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(width, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, outputs)
        return nn.Sequential(*layers).double()


def _classes(count=53, width=6):
    x = torch.randn(count, width, dtype=torch.float64, generator=_numbers())
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()


def mean() -> Workload:
    """53 examples, which no number of processes divides."""

    def loss(model, minibatch):
        return cross_entropy(model(minibatch[0]), minibatch[1])

    return Workload(_model(), loss, TensorDataset(*_classes()), _sgd, batch_size=11)


def dropout() -> Workload:
    """The same with random numbers of the model's own."""
    job = mean()
    return Workload(_model(dropout=0.3), job.loss, job.examples, _sgd, batch_size=11)


def tokens() -> Workload:
    """Sequences of different lengths whose loss is the mean over all tokens of a minibatch."""
    numbers = _numbers(3)
    lengths = torch.randint(1, 9, (48,), generator=numbers).tolist()
    examples = [torch.randint(0, 7, (length,), generator=numbers) for length in lengths]

    def collate(some):
        longest = max(len(one) for one in some)
        ids = torch.zeros(len(some), longest, dtype=torch.long)
        labels = torch.full((len(some), longest), -100)
        for row, one in enumerate(some):
            ids[row, : len(one)], labels[row, : len(one)] = one, (one + 1) % 7
        return {"ids": ids, "labels": labels}

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(2)
                self.embedding, self.head = nn.Embedding(7, 5), nn.Linear(5, 7)
            self.double()

        def forward(self, ids):
            return self.head(self.embedding(ids))

    def loss(model, minibatch):
        scores = model(minibatch["ids"])
        return cross_entropy(scores.flatten(0, 1), minibatch["labels"].flatten())

    return Workload(Reader(), loss, examples, _sgd, collate, batch_size=11)


def coupled() -> Workload:
    """A loss that is no function of sums over its examples."""
    job = mean()

    def loss(model, minibatch):
        scores = model(minibatch[0])
        return torch.logsumexp(torch.cdist(scores, scores) / 3, (0, 1)) / len(scores)

    return Workload(_model(), loss, job.examples, _sgd, batch_size=12)


def partly() -> Workload:
    """The loss uses an attribute of the model, and leaves one parameter out."""
    job = mean()
    model = _model()
    model.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))

    def loss(model, minibatch):
        return cross_entropy(model[3](model[1](model[0](minibatch[0]))), minibatch[1])

    return Workload(model, loss, job.examples, _sgd, batch_size=11)


def differs() -> Workload:
    """Another width on the second process."""
    width = 6 if os.environ.get("RANK", "0") == "0" else 7
    x, y = _classes(width=width)
    return Workload(_model(width), mean().loss, TensorDataset(x, y), _sgd, batch_size=11)


def wider() -> Workload:
    """Another model than that of the first job."""
    job = mean()
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    return Workload(model, job.loss, job.examples, _sgd, batch_size=11)


def other_data() -> Workload:
    """One number of the first example is another."""
    x, y = _classes()
    x[0, 0] += 1
    job = mean()
    return Workload(_model(), job.loss, TensorDataset(x, y), _sgd, batch_size=11)


def not_finite() -> Workload:
    """After a few steps the loss is NaN, on the process that sees example 7."""
    job, x = mean(), _classes()[0]
    bad, calls = x[7], []

    def loss(model, minibatch):
        value = job.loss(model, minibatch)
        met = bool((minibatch[0] == bad).all(1).any()) and model.training
        calls.append(met)
        return value * float("nan") if met and len(calls) > 60 else value

    return Workload(_model(), loss, job.examples, _sgd, batch_size=11)


def silent_rank() -> Workload:
    """The second process never comes to the first exchange."""
    if os.environ.get("RANK") == "1":
        import time

        time.sleep(60)
    return mean()
