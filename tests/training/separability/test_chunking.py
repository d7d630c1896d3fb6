"""Chunked gradients of holistic losses: exact, in bounded memory, refused where they would lie."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.separability import chunked_gradient


def info_nce(h, b):
    """In-batch negatives over two views."""
    one, other = (F.normalize(part, dim=1) for part in h)
    return F.cross_entropy(one @ other.T / 0.2, torch.arange(len(one)))


def barlow(h, b):
    """Cross-correlation of two views."""
    one, other = ((part - part.mean(0)) / part.std(0) for part in h)
    c = one.T @ other / len(one)
    return (c - torch.eye(len(c), dtype=c.dtype)).square().sum()


def root_mean_square(h, b):
    """A composite."""
    return (h[0] - h[1]).square().mean().sqrt()


def mean_discrepancy(h, b):
    """A V-statistic."""

    def kernel(p, q):
        return (-(p[:, None] - q[None]).square().sum(2)).exp().mean()

    return kernel(h[0], h[0]) + kernel(h[1], h[1]) - 2 * kernel(h[0], h[1])


def weighted_ratio(h, b):
    """A ratio: weights over their sum."""
    w = b[0][:, 0].exp()
    return (w * (h[0] - h[1]).square().sum(1)).sum() / w.sum()


def triplets(h, b):
    """Hardest negatives."""
    gap = torch.cdist(h[0], h[1])
    own = gap.diagonal()
    others = gap + 1e3 * torch.eye(len(gap), dtype=gap.dtype)
    return F.relu(own - others.amin(1) + 1).mean()


HEADS = [info_nce, barlow, root_mean_square, mean_discrepancy, weighted_ratio, triplets]


class Towers(nn.Module):
    """One encoder for two views."""

    def __init__(self, dropout: float = 0.0, width: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, width),
            nn.Tanh(), nn.Linear(width, 4),
        )  # fmt: skip

    def forward(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.net(views[0]), self.net(views[1])


@pytest.fixture
def views():
    """Two views of 96 examples, in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 6, generator=generator, dtype=torch.float64)
    return [x, x + 0.2 * torch.randn(96, 6, generator=generator, dtype=torch.float64)]


def towers(**options):
    """Build an encoder in float64."""
    torch.manual_seed(1)
    return Towers(**options).double()


def relative_error(chunked, parameters, gradients):
    """Compare with the gradient of the whole."""
    whole = torch.cat([g.reshape(-1) for g in gradients])
    found = torch.cat([chunked.gradients[name].reshape(-1) for name in parameters])
    return float((found - whole).norm() / whole.norm())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("micro_batch", [16, 29])
def test_the_gradient_is_exact(head, micro_batch, views):
    """Six holistic losses, also with an uneven last micro-batch: error below 1e-12."""
    encoder = towers()
    named = {f"encoder.{name}": p for name, p in encoder.named_parameters()}
    loss = head(encoder(views), views)
    whole = torch.autograd.grad(loss, list(named.values()))
    chunked = chunked_gradient(encoder, head, views, micro_batch)

    assert relative_error(chunked, named, whole) < 1e-12
    assert chunked.loss == pytest.approx(loss.item(), rel=1e-12)


def test_a_head_with_parameters_gets_its_gradient(views):
    """A learned temperature in the head is differentiated as well."""

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.heat = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, h, b):
            one, other = (F.normalize(part, dim=1) for part in h)
            return F.cross_entropy(one @ other.T / self.heat, torch.arange(len(one)))

    encoder, head = towers(), Head()
    (wanted,) = torch.autograd.grad(head(encoder(views), views), [head.heat])
    chunked = chunked_gradient(encoder, head, views, 16)

    assert float(chunked.gradients["head.heat"]) == pytest.approx(float(wanted), rel=1e-12)
    chunked.add_to_grad()
    chunked.add_to_grad()
    assert float(head.heat.grad) == pytest.approx(2 * float(wanted), rel=1e-12)
    assert all(p.grad is not None for p in encoder.parameters())


def test_dropout_repeats_itself(views):
    """Both passes meet the same dropout masks, so the gradient is that of one real loss."""
    encoder = towers(dropout=0.5)
    torch.manual_seed(5)
    chunked = chunked_gradient(encoder, info_nce, views, 96)
    torch.manual_seed(5)
    loss = info_nce(encoder(views), views)
    named = {f"encoder.{name}": p for name, p in encoder.named_parameters()}
    whole = torch.autograd.grad(loss, list(named.values()))

    assert relative_error(chunked, named, whole) < 1e-12


class Meter:
    """Counts the bytes that autograd keeps alive for backward."""

    def __init__(self) -> None:
        self.alive = self.peak = 0

    def watching(self):
        """Hook what autograd saves."""
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor)

    def _pack(self, tensor):
        """Hold a tensor and count it while it is held."""
        meter, size = self, tensor.numel() * tensor.element_size()

        class Kept:
            def __init__(self):
                self.tensor = tensor
                meter.alive += size
                meter.peak = max(meter.peak, meter.alive)

            def __del__(self):
                meter.alive -= size

        return Kept()


@pytest.mark.parametrize("head", [info_nce, root_mean_square, barlow, weighted_ratio, triplets])
def test_activation_memory_is_a_third_or_less(head, views):
    """Saved activations peak at a third or less of those of the whole minibatch."""
    encoder = towers()
    whole, parts = Meter(), Meter()
    with whole.watching():
        loss = head(encoder(views), views)
        torch.autograd.grad(loss, list(encoder.parameters()))
    with parts.watching():
        chunked_gradient(encoder, head, views, 12, verify=False)

    assert parts.peak <= whole.peak / 3


def test_an_encoder_that_mixes_examples_is_refused_by_name(views):
    """Batch normalisation inside the encoder: no parts make up the whole."""
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).double()

    def head(h, b):
        return h.square().mean().sqrt()

    with pytest.raises(
        UnresolvedError, match="mixes the examples of a micro-batch in 1: BatchNorm"
    ):
        chunked_gradient(encoder, head, views[0], 16)
    chunked_gradient(encoder.eval(), head, views[0], 16)


def test_buffers_and_random_numbers_end_where_one_pass_ends(views):
    """A counting buffer is advanced once per micro-batch, and torch's generator moves on."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 2)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += len(x)
            return self.net(x)

    encoder = Counting().double()
    chunked_gradient(encoder, lambda h, b: h.square().mean(), views[0], 32, verify=False)

    assert float(encoder.seen) == 96


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (lambda h, b: h.sum(1), "scalar"),
        (lambda h, b: h.detach().sum(), "depends on the embeddings"),
        (lambda h, b: h.sum() * math.nan, "not a finite number"),
    ],
)
def test_wrong_heads_are_refused(head, word, views):
    """A vector, a detached loss and NaN are refused in words."""
    with pytest.raises(DataError, match=word):
        chunked_gradient(nn.Linear(6, 2).double(), head, views[0], 16)


def test_embeddings_must_have_rows(views):
    """An encoder that pools over the minibatch gives nothing to join."""

    class Pool(nn.Linear):
        def forward(self, x):
            return super().forward(x).mean(0)

    with pytest.raises(DataError, match="one row per example"):
        chunked_gradient(Pool(6, 2).double(), lambda h, b: h.sum(), views[0], 16, verify=False)
