"""What cannot be audited is refused in words, never called safe."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from torch import nn

from batchsense.errors import BatchsenseError, DataError, UnresolvedError
from batchsense.training import Workload
from batchsense.training.separability import assert_minibatch_safe, audit, audit_step, leakage
from batchsense.training.separability.preparation import quick_audit

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def linear(outputs=1):
    """A small model."""
    torch.manual_seed(0)
    return nn.Linear(4, outputs)


def job(loss=None, model=None, examples=X, collate=None):
    """A workload with one thing wrong."""
    if loss is None:
        loss = squared
    return Workload(model or linear(), loss, examples, torch.optim.SGD, collate)


def squared(model, x):
    """An innocent loss."""
    return (model(x) - 1).square().mean()


class Counting(nn.Linear):
    """Weighs the loss by how often it was called, kept in a Python attribute."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class Queue(nn.Linear):
    """Compares with outputs of the minibatch before, kept in a buffer."""

    def __init__(self):
        super().__init__(4, 2)
        self.register_buffer("queue", torch.ones(3, 2))

    def forward(self, x):
        h = super().forward(x)
        similarity = h @ self.queue.clone().T
        self.queue.copy_(h[:3].detach())
        return similarity


class Clipping(nn.Linear):
    """Changes its own parameters in every forward pass."""

    def forward(self, x):
        with torch.no_grad():
            self.weight.mul_(0.9)
        return super().forward(x)


class Unrepeatable(torch.utils.data.Dataset):
    """Augments with a generator of its own, which no seed reaches."""

    def __init__(self):
        self.generator = np.random.default_rng()

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return X[index] + float(self.generator.normal())


class Locked(nn.Linear):
    """Cannot be copied."""

    def __init__(self):
        super().__init__(4, 1)
        self.lock = threading.Lock()


def own_generator_loss():
    """Draw noise from a generator that no seed reaches."""
    generator = torch.Generator()

    def loss(model, x):
        return squared(model, x + torch.randn(x.shape, generator=generator))

    return loss


def other_model_loss():
    """Use a model from outside instead of the one passed in."""
    other = linear()
    return lambda model, x: squared(other, x)


def frozen_model():
    """Nothing to train."""
    return linear().requires_grad_(False)


def drifting_loss():
    """Change only after many calls: the annealing of a weight by a step counter."""
    calls = [0]

    def loss(model, x):
        calls[0] += 1
        return squared(model, x).sqrt() * (2.0 if calls[0] > 60 else 1.0)

    return loss


def raising(model, x):
    """Fail in the user's code."""
    raise RuntimeError("shapes do not match")


CASES = {
    "counter in an attribute": (lambda: job(model=Counting(4, 1)), "from call to call"),
    "queue in a buffer": (lambda: job(model=Queue()), "each call changes queue"),
    "parameters changed in forward": (lambda: job(model=Clipping(4, 1)), "the parameters"),
    "own generator in the loss": (lambda: job(own_generator_loss()), "from call to call"),
    "drift after many calls": (lambda: job(drifting_loss()), "from call to call"),
    "examples that differ": (lambda: job(examples=Unrepeatable()), "two readings"),
    "no gradient": (lambda: job(lambda m, x: squared(m, x).detach()), "no gradient"),
    "another model": (lambda: job(other_model_loss()), "use that model"),
    "nothing to train": (lambda: job(model=frozen_model()), "nothing to train"),
    "a vector": (lambda: job(lambda m, x: m(x).square().mean(1)), "return a scalar"),
    "a number": (lambda: job(lambda m, x: squared(m, x).item()), "it returned float"),
    "nan": (lambda: job(lambda m, x: squared(m, x) * math.nan), "nan"),
    "a failing loss": (lambda: job(raising), "shapes do not match"),
    "a failing gradient": (
        lambda: job(lambda m, x: (m(x) * 0).sqrt().mean()), "not finite"),
    "one example": (lambda: job(examples=X[:1]), "fewer than four"),
    "three examples": (lambda: job(examples=X[:3]), "fewer than four"),
    "no copy": (lambda: job(model=Locked()), "cannot be copied"),
    "a failing collate": (lambda: job(collate=lambda rows: rows[9999]), "collate"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_entry_refuses(case):
    """Audit, assertion and quick audit raise a typed error that says what is wrong."""
    build, words = CASES[case]
    with pytest.raises(DataError, match=words):
        audit(build(), partitions=8)
    with pytest.raises(DataError, match=words):
        assert_minibatch_safe(build(), partitions=8)
    if case != "drift after many calls":
        with pytest.raises(DataError, match=words):
            quick_audit(build())


def test_a_vanishing_gradient_is_not_safe():
    """At an exact optimum nothing can be compared: unresolved, with what would help."""
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)
    nn.init.ones_(model.bias)

    with pytest.raises(UnresolvedError, match="vanishes at these parameters"):
        audit(job(model=model))
    with pytest.raises(UnresolvedError, match="perturb"):
        quick_audit(job(model=model))


def test_a_cancelling_gradient_is_not_safe():
    """Gradients of the examples that cancel to rounding leave nothing to compare with."""
    signs = torch.tensor([1.0, -1.0]).repeat(32)

    with pytest.raises(UnresolvedError, match="vanishes"):
        audit(lambda m, b: (m(b[0]).squeeze(1) * b[1]).mean(), linear(), (torch.ones(64, 4), signs))


def test_an_empty_micro_batch_is_named():
    """A mean over nothing in one micro-batch: the error says 0/0, which one, and what to do."""
    label = torch.zeros(64, dtype=torch.long)
    label[:3] = 1

    def positives(model, b):
        return model(b[0])[b[1] == 1].square().mean()

    with pytest.raises(DataError, match=r"not on micro-batch \d+, with 8 of them.*0/0"):
        audit(positives, linear(), (X, label))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"micro_batch": 0}, "at least one example"),
        ({"micro_batch": 20}, "fewer than four"),
        ({"partitions": 3}, "at least 6"),
        ({"alpha": 0.7}, "alpha"),
        ({"bias_tolerance": 0.0}, "bias_tolerance"),
        ({"precision": "float8"}, "float64, float32, bfloat16"),
        ({"world_size": 1}, "fewer than two"),
        ({"normalisers": {"broken": lambda b: 1 / 0}}, "ZeroDivisionError"),
        ({"normalisers": {"endless": lambda b: math.inf}}, "inf"),
    ],
)
def test_wrong_settings_are_refused(options, word):
    """Settings that cannot give an answer are refused before any is claimed."""
    with pytest.raises(DataError, match=word):
        audit(lambda m, x: squared(m, x).sqrt(), linear(), X, **options)


def test_wrong_arguments_are_refused():
    """A loss without model and minibatch, or a minibatch that cannot be cut, is refused."""
    with pytest.raises(DataError, match="with a model and a collated minibatch"):
        audit(squared)
    with pytest.raises(DataError, match="leave them out"):
        audit(job(), linear(), X)
    with pytest.raises(DataError, match="no tensor with rows"):
        audit(squared, linear(), {"name": "nothing"})
    with pytest.raises(DataError, match="cannot be cut into examples"):
        audit(squared, linear(), [torch.ones(3), torch.ones(4), torch.ones(5)])


def test_buffers_that_do_not_matter_are_no_reason_to_refuse():
    """Running statistics change in every pass, but in training mode nothing reads them."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))

    assert audit(job(model=model), partitions=8).kind == "interacting"


def test_augmentation_from_seeded_generators_is_accepted():
    """Examples drawn from the global generators repeat under a seed: no reason to refuse."""

    class Augmented(Unrepeatable):
        def __getitem__(self, index):
            return X[index] + torch.randn(4)

    assert audit(job(examples=Augmented())).verdict == "yes"


def test_leakage_refuses_what_it_cannot_test():
    """No examples, no rows in the output, a failing function, a moving state: typed errors."""
    with pytest.raises(DataError, match="at least two examples"):
        leakage(linear(), X[:1], X[1:])
    with pytest.raises(DataError, match="at least two examples"):
        leakage(linear(), X[:4], [])
    with pytest.raises(DataError, match="no output has an axis of 8 examples"):
        leakage(lambda m, x: m(x).mean(), X[:8], X[8:], model=linear())
    with pytest.raises(DataError, match="shapes do not match"):
        leakage(raising, X[:8], X[8:], model=linear())
    with pytest.raises(DataError, match="together with model="):
        leakage(lambda x: x, X[:8], X[8:])
    with pytest.raises(DataError, match="two runs on the same examples differ"):
        leakage(Counting(4, 1), X[:8], X[8:])


def test_a_step_without_gradients_is_refused():
    """An accumulation loop that zeroes its gradients, or fails, leaves nothing to compare."""

    def forgets(model, parts):
        for part in parts:
            squared(model, part).backward()
        model.zero_grad()

    with pytest.raises(DataError, match="leaves no gradient"):
        audit_step(job(), forgets)
    with pytest.raises(DataError, match="shapes do not match"):
        audit_step(job(), lambda model, parts: raising(model, parts))


def test_all_refusals_are_typed():
    """One base class catches them all."""
    assert issubclass(DataError, BatchsenseError)
    assert issubclass(UnresolvedError, BatchsenseError)
