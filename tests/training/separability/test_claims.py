"""What is said beside the verdict follows from something that was measured."""

from __future__ import annotations

import pytest
import torch
from test_degenerate import drawn, job, terms
from torch import nn
from torch.nn import functional as F  # noqa: N812 (as every user writes it)
from torch.utils.checkpoint import checkpoint

from batchsense.errors import DataError, UnresolvedError
from batchsense.training import Workload
from batchsense.training.separability import accumulate, audit, audit_step
from batchsense.training.workload import loss_gradient

BROADCAST = {
    "a difference": lambda m, b: (m(b[0]) - b[1][:, 0]).square().mean(),
    "torch's own loss": lambda m, b: F.mse_loss(m(b[0]), b[1][:, 0]),
    "weights": lambda m, b: ((m(b[0]) - b[1]).square() * b[3]).mean(),
    "whole numbers": lambda m, b: (m(b[0]) - b[2]).abs().mean(),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("form", BROADCAST)
def test_shapes_that_were_broadcast_are_named(form):
    """(n, 1) with (n,) makes (n, n): the shapes and the line are told, and no chunking advised."""
    examples, model = drawn(50)
    report = audit(job(BROADCAST[form], model, examples), partitions=6)

    assert "shapes (64, 1) and (64,) were broadcast to (64, 64)" in report.sources[0].detail
    assert "test_claims.py" in report.sources[0].where
    assert "give both tensors one shape" in report.fix


def test_pairs_that_are_meant_are_not_called_broadcast():
    """All pairs by (n, 1) and (1, n) are written on purpose."""
    examples, model = drawn(51)

    def pairs(m, b):
        s = m(b[0])
        return (s - s.T).square().mean()

    report = audit(job(pairs, model, examples), partitions=6)

    assert not any("broadcast" in source.detail for source in report.sources)


def divided(power):
    """A weighted sum over a power of its weights: fixed scales exist."""

    def loss(model, b):
        weight = torch.tensor([1.0, 7.0]).to(b[0])[b[2]]
        return (weight * terms(model, b)).sum() / weight.sum() ** power

    return loss


@pytest.mark.parametrize("power", [0.5])
def test_a_fixed_scale_is_found_where_one_exists(power):
    """Division by a power of a count: parts weighed by that power make up the whole."""
    examples, model = drawn(60)
    weight = torch.tensor([1.0, 7.0])
    report = audit(
        job(divided(power), model, examples),
        partitions=6,
        normalisers={"weights": lambda b: float(weight[b[2]].sum())},
    )
    assert report.kind == "ratio"
    assert report.normaliser.name == f"(weights (given))^{power:.4g}"
    whole = [torch.stack([e[k] for e in examples]) for k in range(4)]
    parts = [[column[k : k + 16] for column in whole] for k in range(0, 64, 16)]
    scales = accumulate(report).scales(parts, whole=whole)
    assert scales == pytest.approx(
        [float(weight[p[2]].sum() / weight[whole[2]].sum()) ** power for p in parts]
    )


def test_no_scale_is_claimed_only_where_weights_move():
    """The root of a mean: its weights are seen to move, and that is said."""
    examples, model = drawn(61)
    report = audit(job(lambda m, b: terms(m, b).mean().sqrt(), model, examples), partitions=6)

    assert report.kind == "composite"
    assert report.fix.startswith("The weights of the parts move with the parameters")
    with pytest.raises(UnresolvedError, match="no fixed scales"):
        accumulate(report)


@pytest.mark.parametrize("seed", [0])
def test_two_denominators_are_named(seed):
    """A mean beside a mean over the marked: both counts are told, and what to do with them."""
    examples, model = drawn(seed + 70)

    def loss(m, b):
        marked = (terms(m, b) * b[3]).sum() / b[3].sum().clamp(min=1)
        return marked + m(b[0]).square().mean()

    report = audit(job(loss, model, examples), micro_batch=4, batch_size=32)

    assert (report.kind, report.verdict) == ("interacting", "no")
    assert report.conclusion.startswith("A sum of ratios")
    assert "the number of examples, and " in report.normaliser.name
    assert "by its own share" in report.fix


# --- accumulation loops -------------------------------------------------------------------------


def plain(model, b):
    """A mean."""
    return terms(model, b).mean()


def only(places):
    """A loop in which these micro-batches alone leave a gradient."""

    def step(model, parts):
        for place, part in enumerate(parts):
            if place in places:
                (plain(model, part) / len(parts)).backward()

    return step


def zeroed(model, parts):
    """Gradients are zeroed in the loop."""
    for part in parts:
        model.zero_grad()
        (plain(model, part) / len(parts)).backward()


def clipped(model, parts):
    """What was accumulated is clipped again and again."""
    for part in parts:
        (plain(model, part) / len(parts)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (zeroed, "only the last micro-batch is left"),
        (only({7}), "only the last micro-batch is left"),
        (only({0}), "only the first micro-batch is left"),
        (only({3}), "only the 4th micro-batch is left"),
        (only(set(range(8)) - {1, 6}), "these are missing: 2, 7"),
        (clipped, "count unequally"),
        (only(set(range(8))), None),
    ],
)
def test_micro_batches_that_a_loop_lost_are_named(step, words):
    """What is left in .grad is taken apart into the micro-batches; a sound loop has no cause."""
    examples, model = drawn(80)
    found = audit_step(job(plain, model, examples), step)

    assert found.equal == (words is None)
    assert (found.cause is None) if words is None else (words in found.cause)


# --- gates --------------------------------------------------------------------------------------


def test_a_minibatch_without_labels_is_named():
    """0/0 over labels that a micro-batch lacks: which tensor, and the way out."""
    examples, model = drawn(90)
    kept = [(x, y if k % 16 == 0 else y * torch.nan) for k, (x, y, *_) in enumerate(examples)]

    def loss(m, b):
        there = ~b[1].isnan()
        return F.mse_loss(m(b[0])[there], b[1][there])

    with pytest.raises(DataError, match=r"minibatch\[1\] has no finite entry.*enlarge the micro"):
        audit(job(loss, model, kept))


def test_a_complex_loss_is_refused_alike():
    """The same words as in every other command."""
    examples, model = drawn(91)
    with pytest.raises(DataError, match=r"the loss is a complex number; return a real one"):
        audit(job(lambda m, b: torch.complex(plain(m, b), plain(m, b)), model, examples))


class Checkpointed(nn.Module):
    """Saves memory the old way."""

    def __init__(self, model):
        super().__init__()
        self.first, self.rest = nn.Linear(6, 6), model

    def forward(self, x):
        """Run the rest again in the backward pass."""
        return checkpoint(self.rest, self.first(x), use_reentrant=True)


def test_reentrant_checkpoints_are_differentiated():
    """The gradient is that without a checkpoint, and nobody's .grad is touched."""
    examples, model = drawn(92)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        saving = Checkpointed(model)
    x = torch.stack([e[0] for e in examples])
    parameters = list(saving.parameters())
    mine = torch.ones(3, requires_grad=True)
    mine.grad = torch.full((3,), 5.0)
    parameters[0].grad = torch.ones_like(parameters[0])
    found = loss_gradient(saving(x).square().mean() + mine.sum(), parameters)
    wanted = torch.autograd.grad(model(saving.first(x)).square().mean(), parameters)

    assert all(torch.allclose(a, b) for a, b in zip(found, wanted, strict=True))
    assert torch.equal(mine.grad, torch.full((3,), 5.0))
    assert torch.equal(parameters[0].grad, torch.ones_like(parameters[0]))
    assert all(p.grad is None for p in parameters[1:])
    workload = Workload(saving, plain, examples, torch.optim.SGD)
    assert audit(workload, partitions=6).verdict == "yes"
