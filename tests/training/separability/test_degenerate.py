"""Evidence that could not have come out otherwise is no evidence; new members are drawn here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (as every user writes it)

from batchsense.training import Workload
from batchsense.training.separability import audit
from batchsense.training.separability.preparation import quick_audit

COUNT = 64


def job(loss, model, examples, collate=None):
    """A workload with plain SGD."""
    return Workload(model, loss, examples, torch.optim.SGD, collate)


def drawn(seed, features=6):
    """Random points, targets, classes and rare marks, as a list of examples; a small network."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(COUNT, features, generator=g)
    y = x[:, :1].sin() + 0.3 * torch.randn(COUNT, 1, generator=g)
    label = (torch.rand(COUNT, generator=g) < 0.4).long()
    rare = (torch.rand(COUNT, generator=g) < 0.15).float()
    rare[:3] = 1.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(features, 12), nn.Tanh(), nn.Linear(12, 1))
    return list(zip(x, y, label, rare, strict=True)), model


def terms(model, b):
    """Squared errors, one for each example."""
    return (model(b[0]) - b[1]).square().squeeze(1)


def weighted(model, b):
    """A ratio: class weights."""
    weight = torch.tensor([1.0, 7.0]).to(b[0])[b[2]]
    return (weight * terms(model, b)).sum() / weight.sum()


def softmax_of_terms(model, b):
    """An interaction that looks like a function of single losses."""
    r = terms(model, b)
    return (r.softmax(0) * r).sum()


def contrast(model, b):
    """In-batch negatives: one example alone has no gradient."""
    z = F.normalize(torch.cat([model(b[0]), b[0][:, :2]], dim=1), dim=1)
    return F.cross_entropy(5 * z @ z.T, torch.arange(len(z)))


OF_ONE = {
    "sum": lambda m, b: terms(m, b).sum(),
    "ratio": weighted,
    "composite": lambda m, b: terms(m, b).mean().sqrt(),
    "interacting": softmax_of_terms,
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", OF_ONE)
def test_parts_of_one_example_show_no_bias(kind, seed):
    """One partition into single examples: the kind is found elsewhere, a bias is not stated."""
    examples, model = drawn(seed)
    report = audit(job(OF_ONE[kind], model, examples), micro_batch=1, batch_size=8, partitions=6)

    assert report.kind == kind
    assert report.verdict == ("unresolved" if kind == "interacting" else "no")
    assert (report.bias is None) == (kind != "sum")
    assert ("one partition" in report.conclusion) == (kind != "sum")


def test_parts_without_a_gradient_are_no_sum():
    """One example has no negatives and no gradient: that says nothing about a term without any."""
    examples, model = drawn(3)
    report = audit(job(contrast, model, examples), micro_batch=1, batch_size=8, partitions=6)

    assert (report.kind, report.bias) == ("interacting", None)


def guards(loss_sum, count):
    """The ways in which users guard a division by a count that may be zero."""
    yield lambda m, b: loss_sum(m, b) / count(b).clamp(min=1)
    yield lambda m, b: loss_sum(m, b) / (count(b) + 1e-8)
    yield lambda m, b: loss_sum(m, b) / torch.where(count(b) > 0, count(b), 1.0)


@pytest.mark.parametrize("seed", range(2))
def test_a_part_without_a_term_makes_no_bias_explode(seed):
    """Whatever the guard, a stated bias is no larger than a deviation that parts can have."""
    examples, model = drawn(seed + 10)
    for loss in guards(lambda m, b: (terms(m, b) * b[3]).sum(), lambda b: b[3].sum()):
        report = audit(job(loss, model, examples), partitions=18 if seed else 8)
        assert report.kind == "ratio"
        assert report.bias is None or abs(report.bias.size.estimate) < 3
        assert report.bias is None or report.bias.size.high > report.bias.size.low


def test_an_interval_is_never_of_no_width():
    """A sum is off by the same factor in every partition, which is said instead of an interval."""
    examples, model = drawn(20)
    report = audit(job(lambda m, b: terms(m, b).sum(), model, examples), partitions=6)

    assert report.bias.size.high > report.bias.size.low
    assert "off by 87.50% of the full one, alike in all 6 partitions" in report.conclusion
    assert "(87.50% to 87.50%" not in report.conclusion


class InSingle(torch.autograd.Function):
    """A product in float32, whatever is asked for: other code than torch's, or a script."""

    modulus = 5

    @staticmethod
    def forward(ctx, x, w):
        """Multiply, rounding as a kernel does that depends on the number of rows."""
        ctx.save_for_backward(x, w)
        return x @ w * (1 + 3e-8 * (len(x) % InSingle.modulus))

    @staticmethod
    def backward(ctx, grad):
        """Differentiate, with the same rounding."""
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad * (1 + 3e-8 * (len(x) % InSingle.modulus))


class Foreign(nn.Module):
    """A layer in code of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 1))

    def forward(self, x):
        """Multiply in float32."""
        return InSingle.apply(x, self.weight)


@pytest.mark.parametrize(
    ("reduce", "kind", "modulus"),
    [(torch.mean, "mean", 5), (torch.mean, "mean", 7), (torch.sum, "sum", 5)],
)
def test_what_float32_rounds_is_no_interaction(reduce, kind, modulus, monkeypatch):
    """Differences of 1e-8 are significant and nothing: the kind is that of the equalities."""
    monkeypatch.setattr(InSingle, "modulus", modulus)
    examples, _ = drawn(30)
    report = audit(job(lambda m, b: reduce(terms(m, b)), Foreign(), examples), partitions=6)

    assert report.kind == kind
    assert report.verdict == ("yes" if kind == "mean" else "no")
    assert any("computes in float32" in note for note in report.notes)


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_model_is_a_mean():
    """torch.jit rounds by itself; a plain mean stays one."""
    examples, model = drawn(31)
    scripted = torch.jit.script(model)

    assert audit(job(lambda m, b: terms(m, b).mean(), scripted, examples)).verdict == "yes"


def equal_counts(model, b):
    """A ratio whose count is the same in every part that is drawn by chance from few."""
    return (terms(model, b) * b[3]).sum() / b[3].sum().clamp(min=1)


def test_one_partition_that_agrees_by_chance_decides_nothing():
    """Parts with one mark each agree with the whole; halves of a part do not."""
    examples, model = drawn(40)
    fooled = 0
    for seed in range(12):
        marks = torch.zeros(32)
        order = np.random.default_rng([seed, 10]).permutation(32)
        marks[order[::8]] = 1.0  # one in each part of the partition that is measured first
        taken = np.random.default_rng([seed, 9]).permutation(32)
        kept = [None] * 32
        for place, index in enumerate(taken):
            kept[index] = (*examples[place][:3], marks[place])
        quick = quick_audit(job(equal_counts, model, kept), seed=seed, batch_size=32)
        fooled += quick.verdict == "yes"

    assert fooled == 0


def test_processes_that_got_equal_shares_prove_nothing():
    """A ratio whose shards may agree: several splits are measured, and none is called proof."""
    examples, model = drawn(41)
    marks = [1.0] * 4 + [0.0] * 60
    kept = [(*e[:3], torch.tensor(m)) for e, m in zip(examples, marks, strict=True)]
    found = audit(job(equal_counts, model, kept), partitions=6).consequences.ddp

    assert found.splits == 4
    assert found.low < found.high
    assert "is the full gradient." not in found.message


# --- lengths ------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Reads sequences of unequal length; perhaps it forgets the padding."""

    def __init__(self, masked=True, dropout=0.0, attends=False):
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.attention = nn.MultiheadAttention(4, 2, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4, 1)
        self.masked, self.attends = masked, attends

    def forward(self, x, lengths):
        """Average over the places that are read."""
        real = torch.arange(x.shape[1])[None] < lengths[:, None]
        h = self.dropout(self.inner(x).tanh())
        if self.attends:
            h = h + self.attention(h, h, h, key_padding_mask=~real, need_weights=False)[0]
        if not self.masked:
            return self.head(h.mean(1))
        return self.head((h * real[..., None]).sum(1) / lengths[:, None])


def padded(examples):
    """Pad at the end."""
    x, y = zip(*examples, strict=True)
    lengths = torch.tensor([len(one) for one in x])
    return nn.utils.rnn.pad_sequence(x, batch_first=True), lengths, torch.stack(y)


def padded_in_front(examples):
    """Pad at the front, where noise of one place meets another."""
    x, lengths, y = padded([(one.flip(0), target) for one, target in examples])
    return x.flip(1), lengths, y


def sequences(seed, longest=9, often=0.5):
    """Sequences, many of them of the longest kind, so that most minibatches are padded alike."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest, (COUNT,), generator=g)
    lengths[torch.rand(COUNT, generator=g) < often] = longest
    return [
        (torch.randn(int(n), 3, generator=g), torch.randn(1, generator=g)) for n in lengths.tolist()
    ]


def error(model, b):
    """The mean squared error."""
    return F.mse_loss(model(b[0], b[1]), b[2])


@pytest.mark.parametrize("seed", range(4))
def test_padding_that_leaks_is_seen_where_most_parts_are_padded_alike(seed):
    """Short and long examples are put apart once; a forgotten mask is no mean, and is named."""
    torch.manual_seed(seed)
    report = audit(job(error, Reader(masked=False), sequences(seed), padded), partitions=6)

    assert report.kind == "interacting"
    assert report.verdict != "yes"
    assert report.sources[0].name == "Reader"


@pytest.mark.parametrize(
    ("dropout", "attends", "seed"), [*itertools.product((0.0, 0.4), (False, True), (5,))]
)
def test_random_numbers_are_tied_also_where_padding_changes_their_shape(dropout, attends, seed):
    """A part that is padded to less draws the beginning of the noise of the whole."""
    torch.manual_seed(seed)
    model = Reader(dropout=dropout, attends=attends)
    report = audit(job(error, model, sequences(seed, often=0.05), padded), partitions=6)

    assert (report.kind, report.verdict, report.exact) == ("mean", "yes", True)
    assert report.stochastic == (dropout > 0)


class FromTheEnd(Reader):
    """Reads sequences that are padded in front."""

    def forward(self, x, lengths):
        """Average over the last places."""
        real = torch.arange(x.shape[1])[None] >= x.shape[1] - lengths[:, None]
        h = self.dropout(self.inner(x).tanh())
        return self.head((h * real[..., None]).sum(1) / lengths[:, None])


class InSteps(Reader):
    """Draws once for every step, so that short minibatches draw less often."""

    def forward(self, x, lengths):
        """Add up the steps that are there."""
        total = torch.zeros(len(x), 4)
        for step in range(x.shape[1]):
            real = (step < lengths).to(x)[:, None]
            total = total + real * F.dropout(self.inner(x[:, step]).tanh(), 0.4)
        return self.head(F.dropout(total / lengths[:, None], 0.2))


@pytest.mark.parametrize("member", ["front", "steps"])
def test_noise_that_cannot_follow_its_example_is_left_to_statistics(member):
    """Padding in front, or draws whose number follows the length: never called an interaction."""
    model, collate = (
        (FromTheEnd(dropout=0.4), padded_in_front) if member == "front" else (InSteps(), padded)
    )
    report = audit(job(error, model, sequences(7, often=0.0), collate), partitions=6)

    assert not report.exact
    assert report.kind == "mean"
    assert any("could not be tied" in note for note in report.notes)
