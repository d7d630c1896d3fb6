"""A zoo of losses, each with the kind that follows from its formula by hand.

Write L(S) for the loss over a set S of examples, l_i for a term that depends on example i (and the
parameters) alone. Then L(S) = (1/|S|) Σ l_i is a *mean*, Σ l_i (perhaps over a constant) a *sum*,
Σ l_i / w(S) with w free of the parameters a *ratio*, f(Σ l_i / w(S)) with a non-linear f, or a sum
plus a term without examples, a *composite*, and anything else *interacting*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as every user writes it)
from torch.utils.checkpoint import checkpoint

from batchsense.training.workload.workload import Workload

Build = Callable[[torch.Generator], tuple[nn.Module, Any, Any, Any]]


@dataclass(frozen=True)
class Animal:
    """A loss with its truth."""

    name: str
    kind: str
    build: Callable[[int], Workload]
    normaliser: str | None = None
    stochastic: bool = False
    exact: bool = True
    silent_kind: str | None = None
    biased: bool | None = None
    source: str | None = None


ZOO: list[Animal] = []
COUNT = 160


def animal(kind: str, **truth: Any) -> Callable[[Build], Build]:
    """Enter a loss into the zoo; the function gives model, loss, examples and collate."""

    def enter(build: Build) -> Build:
        def workload(seed: int = 0) -> Workload:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model, loss, examples, collate = build(torch.Generator().manual_seed(seed))
            return Workload(model, loss, examples, lambda p: torch.optim.SGD(p, 0.1), collate)

        ZOO.append(Animal(build.__name__, kind, workload, **truth))
        return build

    return enter


def named(name: str) -> Animal:
    """Find an animal by name."""
    return next(animal for animal in ZOO if animal.name == name)


# --- data ---------------------------------------------------------------------------------------


def points(g: torch.Generator, features: int = 6, classes: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Noisy points in classes of unequal size."""
    label = torch.multinomial(torch.arange(1.0, classes + 1), COUNT, True, generator=g)
    centre = torch.randn(classes, features, generator=g)
    x = centre[label] + torch.randn(COUNT, features, generator=g)
    return list(zip(x, label, strict=True))


def numbers(g: torch.Generator, features: int = 5) -> list[tuple[Tensor, Tensor]]:
    """Points with a real-valued target."""
    x = torch.randn(COUNT, features, generator=g)
    y = x[:, :1].sin() + 0.3 * torch.randn(COUNT, 1, generator=g)
    return list(zip(x, y, strict=True))


def sentences(g: torch.Generator, words: int = 11, equal: bool = False) -> list[Tensor]:
    """Sequences of word numbers 1 … words − 1, of unequal length; 0 is left for padding."""
    lengths = torch.randint(3, 10, (COUNT,), generator=g)
    return [
        torch.randint(1, words, (8 if equal else int(length),), generator=g) for length in lengths
    ]


def pad(examples: list[Tensor], value: int = 0) -> Tensor:
    """Pad sequences to the longest."""
    return nn.utils.rnn.pad_sequence(examples, batch_first=True, padding_value=value)


def pad_with_labels(examples: list[Tensor]) -> dict[str, Tensor]:
    """Inputs, and the next word as the label; −100 where there is none."""
    ids = pad(examples)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        labels[row, : len(example) - 1] = example[1:]
    return {"ids": ids, "labels": labels}


def mlp(inputs: int, outputs: int, *middle: nn.Module, width: int = 10) -> nn.Sequential:
    """Two layers with something between them."""
    return nn.Sequential(nn.Linear(inputs, width), *middle, nn.Tanh(), nn.Linear(width, outputs))


class Tagger(nn.Module):
    """A GRU that scores the next word at every place."""

    def __init__(self, words: int = 11, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.gru(self.embedding(ids))[0])


class Reader(nn.Module):
    """Self-attention over a sequence, pooled to one score per class."""

    def __init__(self, masked: bool = True, words: int = 11, width: int = 8) -> None:
        super().__init__()
        self.masked = masked
        self.embedding = nn.Embedding(words, width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embedding(ids)
        padding = ids == 0 if self.masked else None
        h = h + self.attention(h, h, h, key_padding_mask=padding, need_weights=False)[0]
        real = (ids != 0).unsqueeze(-1).to(h)
        return self.head((h * real).sum(1) / real.sum(1))


def token_losses(model: nn.Module, minibatch: Any) -> Tensor:
    """Cross entropy of every place; 0 where the label is −100."""
    logits = model(minibatch["ids"])
    return F.cross_entropy(
        logits.transpose(1, 2), minibatch["labels"], ignore_index=-100, reduction="none"
    )


# --- means --------------------------------------------------------------------------------------


@animal("mean")
def cross_entropy(g):
    return mlp(6, 4), lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


@animal("mean")
def layer_norm(g):
    model = mlp(6, 4, nn.LayerNorm(10))
    return model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


@animal("mean")
def group_norm_convolution(g):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)
    )
    images = [(torch.randn(1, 6, 6, generator=g), label) for _, label in points(g)]
    return model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), images, None


@animal("mean")
def instance_norm_convolution(g):
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4, affine=True), nn.Flatten(), nn.Linear(24, 1)
    )
    signals = [(torch.randn(2, 8, generator=g), torch.randn(1, generator=g)) for _ in range(COUNT)]
    return model, lambda m, b: F.mse_loss(m(b[0]), b[1]), signals, None


@animal("mean")
def batch_norm_in_evaluation(g):
    model = mlp(6, 4, nn.BatchNorm1d(10))
    model(torch.randn(50, 6, generator=g))
    return model.eval(), lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


@animal("mean")
def tokens_of_equal_length(g):
    def loss(m, ids):
        return F.cross_entropy(m(ids[:, :-1]).transpose(1, 2), ids[:, 1:])

    return Tagger(), loss, sentences(g, equal=True), None


@animal("mean")
def mean_of_sentence_means(g):
    """Each sentence is averaged over its own words first: l_i is that average."""

    def loss(m, b):
        counted = (b["labels"] != -100).sum(1)
        return (token_losses(m, b).sum(1) / counted).mean()

    return Tagger(), loss, sentences(g), pad_with_labels


@animal("mean")
def masked_attention(g):
    examples = [(s, torch.randint(3, (), generator=g)) for s in sentences(g)]

    def collate(examples):
        return pad([s for s, _ in examples]), torch.stack([label for _, label in examples])

    return Reader(), lambda m, b: F.cross_entropy(m(b[0]), b[1]), examples, collate


@animal("mean")
def physics_residual(g):
    """The squared residual of u'' = −sin x at collocation points."""

    def loss(m, x):
        x = x.detach().requires_grad_(True)
        u = m(x)
        (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (d2u,) = torch.autograd.grad(du.sum(), x, create_graph=True)
        return (d2u + x.sin()).square().mean()

    return mlp(1, 1), loss, list(torch.rand(COUNT, 1, generator=g) * 3), None


@animal("mean")
def binary_with_positive_weight(g):
    """pos_weight multiplies terms; the division is still by their number."""
    weight = torch.tensor([3.0])

    def loss(m, b):
        target = (b[1] == 1).to(b[0]).unsqueeze(1)
        return F.binary_cross_entropy_with_logits(m(b[0]), target, pos_weight=weight)

    return mlp(6, 1), loss, points(g), None


@animal("mean")
def class_weights_over_the_number_of_examples(g):
    """Σ w(y_i) l_i / n: the weights belong to the terms."""
    weight = torch.tensor([0.5, 1.0, 3.0, 0.2])

    def loss(m, b):
        terms = F.cross_entropy(m(b[0]), b[1], weight=weight, reduction="none")
        return terms.sum() / len(terms)

    return mlp(6, 4), loss, points(g), None


@animal("mean")
def mean_with_weight_decay(g):
    """The penalty is in every part alike, so averaging keeps it."""

    def loss(m, b):
        penalty = sum(p.square().sum() for p in m.parameters())
        return F.mse_loss(m(b[0]), b[1]) + 0.01 * penalty

    return mlp(5, 1), loss, numbers(g), None


@animal("mean")
def energies_of_configurations(g):
    """Predicted against true Lennard-Jones energy: one term per configuration."""
    clusters = 1.2 * torch.randn(COUNT, 5, 3, generator=g)

    def loss(m, b):
        gap = torch.cdist(b, b) + 2 * torch.eye(b.shape[1], dtype=b.dtype)
        energy = 0.5 * (gap.pow(-6).clamp(max=3.0)).sum((1, 2))
        return (m(b.flatten(1)).squeeze(1) - energy).square().mean()

    return mlp(15, 1), loss, list(clusters), None


@animal("mean")
def gradient_penalty(g):
    """|∇_x f(x_i)| is a property of one example."""

    def loss(m, b):
        x = b[0].detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(m(x).sum(), x, create_graph=True)
        return (slope.norm(dim=1) - 1).square().mean()

    return mlp(5, 1), loss, numbers(g), None


@animal("mean")
def triplets_of_one_example(g):
    triples = [tuple(torch.randn(3, 6, generator=g)) for _ in range(COUNT)]

    def loss(m, b):
        return F.triplet_margin_loss(m(b[0]), m(b[1]), m(b[2]), margin=5.0)

    return mlp(6, 3), loss, triples, None


@animal("mean", stochastic=True, silent_kind="mean")
def dropout(g):
    model = mlp(6, 4, nn.Dropout(0.4))
    return model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


@animal("mean", stochastic=True, silent_kind="mean")
def dropout_in_attention_and_recurrence(g):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 4, num_layers=2, dropout=0.3, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            h = self.gru(x)[0]
            h = h + self.attention(h, h, h, need_weights=False)[0]
            return self.head(F.dropout(h, 0.2, self.training).mean(1))

    signals = [(torch.randn(5, 3, generator=g), torch.randn(1, generator=g)) for _ in range(COUNT)]
    return Model(), lambda m, b: F.mse_loss(m(b[0]), b[1]), signals, None


@animal("mean", stochastic=True, silent_kind="mean")
def dropout_on_two_views(g):
    """Two views through the model at once: row k and row n + k belong together."""
    pairs = [(x, x + 0.2 * torch.randn(6, generator=g)) for x, _ in points(g)]

    def loss(m, b):
        one, other = m(torch.cat(b)).chunk(2)
        return (one - other.detach() - 0.1).square().mean()

    return mlp(6, 3, nn.Dropout(0.3)), loss, pairs, None


@animal("mean", stochastic=True, silent_kind="mean")
def checkpointed_dropout(g):
    """The backward pass draws the same masks again."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Tanh())
            self.last = nn.Linear(8, 4)

        def forward(self, x):
            return self.last(checkpoint(self.first, x, use_reentrant=False))

    return Model(), lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


@animal("mean", stochastic=True)
def variational_autoencoder(g):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(2, 6)

        def forward(self, x):
            mean, log_variance = self.encoder(x).chunk(2, dim=1)
            z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
            return self.decoder(z), divergence

    def loss(m, b):
        restored, divergence = m(b[0])
        return ((restored - b[0]).square().sum(1) + divergence).mean()

    return Model(), loss, points(g), None


@animal("mean", stochastic=True, exact=False)
def dropout_drawn_by_numpy(g):
    """Random numbers that torch does not see: judged by statistics."""

    def loss(m, b):
        kept = np.random.random(b[0].shape) < 0.7  # noqa: NPY002 (that is the point)
        return F.mse_loss(m(b[0] * torch.as_tensor(kept) / 0.7), b[1])

    return mlp(5, 1), loss, numbers(g), None


@animal("mean", stochastic=True, exact=False)
def noise_drawn_example_by_example(g):
    """A loop over the examples draws their noise in turn: its order is that of the minibatch."""

    def loss(m, b):
        noisy = torch.stack([x + 0.3 * torch.randn(5).to(x) for x in b[0]])
        return F.mse_loss(m(noisy), b[1])

    return mlp(5, 1), loss, numbers(g), None


# --- sums ---------------------------------------------------------------------------------------


@animal("sum")
def cross_entropy_sum(g):
    loss = nn.CrossEntropyLoss(reduction="sum")
    return mlp(6, 4), lambda m, b: loss(m(b[0]), b[1]), points(g), None


@animal("sum")
def over_a_constant(g):
    """Divided by the batch size that the author had in mind, whatever the minibatch."""

    def loss(m, b):
        return (m(b[0]) - b[1]).square().sum() / 64

    return mlp(5, 1), loss, numbers(g), None


@animal("sum")
def all_tokens_summed(g):
    return Tagger(), lambda m, b: token_losses(m, b).sum(), sentences(g), pad_with_labels


# --- ratios -------------------------------------------------------------------------------------


@animal("ratio", normaliser="weight[minibatch[1]]")
def class_weights(g):
    weight = torch.tensor([0.5, 1.0, 3.0, 0.2])
    return mlp(6, 4), lambda m, b: F.cross_entropy(m(b[0]), b[1], weight=weight), points(g), None


@animal("ratio", normaliser="class weights of minibatch[1] {0: 2.5, 1: 5, 2: 15, 3: 1}")
def hidden_class_weights(g):
    """The weights stand in the code, where no search finds them: 0.5, 1, 3, 0.2."""

    def loss(m, b):
        w = 0.5 * (b[1] == 0) + 1.0 * (b[1] == 1) + 3.0 * (b[1] == 2) + 0.2 * (b[1] == 3)
        return (w * F.cross_entropy(m(b[0]), b[1], reduction="none")).sum() / w.sum()

    return mlp(6, 4), loss, points(g), None


@animal("ratio", normaliser="minibatch['labels'] != -100")
def token_mean(g):
    def loss(m, b):
        return F.cross_entropy(m(b["ids"]).transpose(1, 2), b["labels"], ignore_index=-100)

    return Tagger(), loss, sentences(g), pad_with_labels


@animal("ratio", normaliser="minibatch[:, 1:] != 0")
def shifted_token_mean(g):
    """Labels are made inside the loss, as language models do."""

    def loss(m, ids):
        return F.cross_entropy(m(ids[:, :-1]).transpose(1, 2), ids[:, 1:], ignore_index=0)

    return Tagger(), loss, sentences(g), pad


@animal("ratio", normaliser="entries of minibatch['ids'], padding included")
def padded_token_mean(g):
    """Divided by all places, padding too: Σ l_i / (|S|·longest), and W is no sum of the w_k."""
    return Tagger(), lambda m, b: token_losses(m, b).mean(), sentences(g), pad_with_labels


@animal("ratio", normaliser="sum of minibatch[2]")
def importance_weights(g):
    weights = torch.rand(COUNT, generator=g).exponential_(generator=g)
    examples = [(*xy, w) for xy, w in zip(numbers(g), weights, strict=True)]

    def loss(m, b):
        return (b[2] * (m(b[0]) - b[1]).square().squeeze(1)).sum() / b[2].sum()

    return mlp(5, 1), loss, examples, None


@animal("ratio", normaliser="minibatch[1] == 1")
def over_positives(g):
    """As in detection: all terms count, divided by the number of positives."""

    def loss(m, b):
        positive = (b[1] == 1).to(b[0])
        terms = F.binary_cross_entropy_with_logits(m(b[0]).squeeze(1), positive, reduction="none")
        return terms.sum() / positive.sum().clamp(min=1)

    return mlp(6, 1), loss, points(g), None


@animal("ratio", normaliser="rows of minibatch['nodes']")
def graph_nodes(g):
    sizes = torch.randint(2, 7, (COUNT,), generator=g)
    graphs = [torch.randn(int(size), 4, generator=g) for size in sizes]

    def collate(graphs):
        owner = torch.cat([torch.full((len(x),), k) for k, x in enumerate(graphs)])
        return {"nodes": torch.cat(graphs), "owner": owner}

    def loss(m, b):
        return (m(b["nodes"]) - b["nodes"].square().sum(1, keepdim=True)).square().mean()

    return mlp(4, 1), loss, graphs, collate


@animal("ratio", normaliser="non-zero entries of minibatch['mask']")
def masked_pixels(g):
    examples = [
        {
            "image": torch.randn(12, generator=g),
            "mask": (torch.rand(12, generator=g) < torch.rand((), generator=g) + 0.1).float(),
        }
        for _ in range(COUNT)
    ]

    def loss(m, b):
        wrong = (m(b["image"] * (1 - b["mask"])) - b["image"]).square()
        return (wrong * b["mask"]).sum() / b["mask"].sum()

    return mlp(12, 12), loss, examples, None


@animal("ratio", normaliser="non-zero entries of minibatch[2] + 0.5")
def guarded_mean_over_a_mask(g):
    """Σ over a mask / (its count + 0.5): the guard makes the weights of the parts too large."""
    examples = [(*xy, (torch.rand((), generator=g) < 0.6).float()) for xy in numbers(g)]

    def loss(m, b):
        terms = (m(b[0]) - b[1]).square().squeeze(1)
        return (b[2] * terms).sum() / (b[2].sum() + 0.5)

    return mlp(5, 1), loss, examples, None


@animal("ratio", normaliser="examples^0.5")
def over_the_root_of_the_number(g):
    def loss(m, b):
        return (m(b[0]) - b[1]).square().sum() / math.sqrt(len(b[0]))

    return mlp(5, 1), loss, numbers(g), None


@animal("ratio", normaliser="examples -1")
def over_the_number_less_one(g):
    """Divided by n − 1, as a variance is."""

    def loss(m, b):
        return (m(b[0]) - b[1]).square().sum() / (len(b[0]) - 1)

    return mlp(5, 1), loss, numbers(g), None


@animal("ratio", normaliser="weight per example")
def weights_from_the_inputs(g):
    """w(x) = exp x_0: no count in the minibatch, but a sum over examples."""

    def loss(m, b):
        w = b[0][:, 0].exp()
        return (w * F.cross_entropy(m(b[0]), b[1], reduction="none")).sum() / w.sum()

    return mlp(6, 4), loss, points(g), None


@animal(
    "ratio",
    normaliser="minibatch['labels'] != -100",
    stochastic=True,
    silent_kind="ratio",
)
def token_mean_with_dropout(g):
    model = Tagger()
    model.head = nn.Sequential(nn.Dropout(0.3), model.head)

    def loss(m, b):
        logits = m(b["ids"]).flatten(0, 1)
        return F.cross_entropy(logits, b["labels"].flatten(), ignore_index=-100)

    return model, loss, sentences(g, equal=True), pad_with_fewer_labels


def pad_with_fewer_labels(examples: list[Tensor]) -> dict[str, Tensor]:
    """Equal lengths, of which only words above 3 are to be predicted."""
    ids = torch.stack(examples)
    return {"ids": ids, "labels": torch.where(ids > 3, ids, -100)}


# --- composites ---------------------------------------------------------------------------------


@animal("composite")
def root_mean_square(g):
    return mlp(5, 1), lambda m, b: F.mse_loss(m(b[0]), b[1]).sqrt(), numbers(g), None


@animal("composite")
def logarithm_of_a_mean(g):
    return mlp(5, 1), lambda m, b: (1 + F.mse_loss(m(b[0]), b[1])).log(), numbers(g), None


@animal("composite")
def perplexity(g):
    return mlp(6, 4), lambda m, b: F.cross_entropy(m(b[0]), b[1]).exp(), points(g), None


@animal("composite")
def root_of_a_token_mean(g):
    def loss(m, b):
        counted = (b["labels"] != -100).sum()
        return (token_losses(m, b).sum() / counted).sqrt()

    return Tagger(), loss, sentences(g), pad_with_labels


@animal("composite")
def sum_with_weight_decay(g):
    """The terms add up, but K parts hold the penalty K times."""

    def loss(m, b):
        penalty = sum(p.square().sum() for p in m.parameters())
        return (m(b[0]) - b[1]).square().sum() + 0.5 * penalty

    return mlp(5, 1), loss, numbers(g), None


@animal("composite")
def detached_softmax_of_residuals(g):
    """Σ w_i l_i / Σ w_i with w = exp l_i held fixed: the denominator moves with the parameters."""

    def loss(m, b):
        r = (m(b[0]) - b[1]).square().squeeze(1)
        return (r.detach().softmax(0) * r).sum()

    return mlp(5, 1), loss, numbers(g), None


# --- interactions -------------------------------------------------------------------------------


@animal("interacting", biased=True, source="1")
def batch_norm(g):
    model = mlp(6, 4, nn.BatchNorm1d(10))
    return model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


@animal("interacting", stochastic=True, silent_kind="interacting", source="1")
def batch_norm_and_dropout(g):
    model = mlp(6, 4, nn.BatchNorm1d(10), nn.Dropout(0.2))
    return model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


class Standardised(nn.Module):
    """Own batch statistics, outside the graph."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mean, deviation = x.mean(0), x.std(0)
        return (x - mean) / (deviation + 0.1)


@animal("interacting", source="1")
def detached_statistics(g):
    model = mlp(6, 4, Standardised())
    return model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), points(g), None


@animal("interacting", biased=True, source="loss")
def contrastive_of_pairs(g):
    """In-batch negatives: every example is in the denominator of every other."""
    pairs = [(x, x + 0.2 * torch.randn(6, generator=g)) for x, _ in points(g)]

    def loss(m, b):
        one, other = F.normalize(m(b[0]), dim=1), F.normalize(m(b[1]), dim=1)
        return F.cross_entropy(one @ other.T / 0.2, torch.arange(len(one)))

    return mlp(6, 3), loss, pairs, None


@animal("interacting", biased=True, source="loss")
def nt_xent(g):
    pairs = [(x, x + 0.2 * torch.randn(6, generator=g)) for x, _ in points(g)]

    def loss(m, b):
        z = F.normalize(m(torch.cat(b)), dim=1)
        alike = z @ z.T / 0.5
        alike = alike.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
        n = len(b[0])
        return F.cross_entropy(alike, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))

    return mlp(6, 3), loss, pairs, None


@animal("interacting", biased=True, source="loss")
def mean_discrepancy(g):
    """MMD as a V-statistic: pairs of an example with itself make it biased."""
    pairs = [(x, torch.randn(6, generator=g)) for x, _ in points(g)]

    def loss(m, b):
        z, w = m(b[0]), b[1][:, :2]

        def kernel(p, q):
            return (-torch.cdist(p, q).square() / 4).exp().mean()

        return kernel(z, z) + kernel(w, w) - 2 * kernel(z, w)

    return mlp(6, 2), loss, pairs, None


class Experts(nn.Module):
    """Two experts with a router and Switch-style balance: f·P, a product of batch averages."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 4) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        share = self.router(x).softmax(1)
        chosen = F.one_hot(share.argmax(1), 3).to(x)
        balance = 3 * (chosen.mean(0) * share.mean(0)).sum()
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (outputs * (chosen * share).unsqueeze(2)).sum(1), balance


@animal("interacting", biased=True)
def mixture_of_experts_with_balance(g):
    def loss(m, b):
        logits, balance = m(b[0])
        return F.cross_entropy(logits, b[1]) + balance

    return Experts(), loss, points(g), None


@animal("interacting", biased=False, source="loss")
def pairwise_ranking(g):
    """A U-statistic over pairs of different examples: noise, no bias."""

    def loss(m, b):
        s, y = m(b[0]).squeeze(1), b[1].squeeze(1)
        i, j = torch.triu_indices(len(s), len(s), 1)
        return F.softplus(-(s[i] - s[j]) * (y[i] - y[j]).sign()).mean()

    return mlp(5, 1), loss, numbers(g), None


@animal("interacting", biased=False, source="loss")
def unbiased_mean_discrepancy(g):
    """MMD as a U-statistic: pairs of different examples only, so no bias."""
    pairs = [(x, torch.randn(6, generator=g)) for x, _ in points(g)]

    def loss(m, b):
        z, w = m(b[0]), b[1][:, :2]
        different = 1 - torch.eye(len(z), dtype=z.dtype)

        def kernel(p, q):
            near = (-torch.cdist(p, q).square() / 4).exp()
            return (near * different).sum() / different.sum()

        return kernel(z, z) + kernel(w, w) - 2 * kernel(z, w)

    return mlp(6, 2), loss, pairs, None


@animal("interacting", biased=True, source="loss")
def pair_sum_over_the_number(g):
    """Σ_{i≠j} k(i, j) / n grows with n: relative bias 1 − (m − 1)/(n − 1)."""

    def loss(m, b):
        z = m(b[0])
        return (-torch.cdist(z, z).square()).exp().sum() / len(z)

    return mlp(5, 2), loss, numbers(g), None


@animal("interacting")
def softmax_of_residuals(g):
    """Residuals weigh themselves, relative to the others in the minibatch."""

    def loss(m, b):
        r = (m(b[0]) - b[1]).square().squeeze(1)
        return (r.softmax(0) * r).sum()

    return mlp(5, 1), loss, numbers(g), None


@animal("interacting")
def two_conditions_in_one_minibatch(g):
    """Two ratios with different counts: no single weight per part."""

    def loss(m, b):
        r, inside = (m(b[0]) - b[1]).square().squeeze(1), b[0][:, 0] > 0.3
        return sum(
            w * r[chosen].sum() / chosen.sum().clamp(min=1)
            for w, chosen in ((1, inside), (2, ~inside))
        )

    return mlp(5, 1), loss, numbers(g), None


@animal("interacting", biased=True, source="loss")
def barlow_twins(g):
    pairs = [(x, x + 0.3 * torch.randn(6, generator=g)) for x, _ in points(g)]

    def loss(m, b):
        one, other = m(b[0]), m(b[1])
        one, other = (one - one.mean(0)) / one.std(0), (other - other.mean(0)) / other.std(0)
        c = one.T @ other / len(one)
        return (c - torch.eye(3)).square().sum()

    return mlp(6, 3), loss, pairs, None


@animal("interacting", source="loss")
def hardest_triplet(g):
    def loss(m, b):
        z, y = m(b[0]), b[1]
        gap = torch.cdist(z, z)
        same = y[:, None] == y[None, :]
        far = (gap * same).amax(1)
        near = gap.masked_fill(same, torch.inf).amin(1)
        return F.relu(far - near + 1)[torch.isfinite(near)].mean()

    return mlp(6, 3), loss, points(g), None


@animal("interacting", biased=True)
def dice_over_the_minibatch(g):
    def loss(m, b):
        p, y = m(b[0]).squeeze(1).sigmoid(), (b[1] == 3).to(b[0])
        return 1 - 2 * (p * y).sum() / (p.sum() + y.sum())

    return mlp(6, 1), loss, points(g), None


@animal("interacting", biased=True)
def correlation(g):
    def loss(m, b):
        s, y = m(b[0]).squeeze(1), b[1].squeeze(1)
        s, y = s - s.mean(), y - y.mean()
        return 1 - (s * y).sum() / (s.norm() * y.norm())

    return mlp(5, 1), loss, numbers(g), None


@animal("interacting", biased=True, source="loss")
def cox_partial_likelihood(g):
    """Each death is compared with everybody at risk in the minibatch."""

    def loss(m, b):
        order = b[1].squeeze(1).argsort(descending=True)
        risk = m(b[0]).squeeze(1)[order]
        return -(risk - risk.logcumsumexp(0)).mean()

    return mlp(5, 1), loss, numbers(g), None


@animal("interacting")
def neighbours_in_order(g):
    """Consecutive rows are compared, so their order matters."""

    def loss(m, b):
        z = m(b[0])
        return F.mse_loss(z, b[1]) + (z[1:] - z[:-1]).square().mean()

    return mlp(5, 1), loss, numbers(g), None


@animal("interacting", source="loss")
def worst_quarter(g):
    """Hard-example mining: who is among the worst depends on the others."""

    def loss(m, b):
        terms = F.cross_entropy(m(b[0]), b[1], reduction="none")
        return terms.topk(len(terms) // 4).values.mean()

    return mlp(6, 4), loss, points(g), None


@animal("interacting", stochastic=True, exact=False)
def mixup(g):
    """A random partner from the same minibatch."""

    def loss(m, b):
        partner = torch.randperm(len(b[0]))
        return F.mse_loss(m(0.6 * b[0] + 0.4 * b[0][partner]), 0.6 * b[1] + 0.4 * b[1][partner])

    return mlp(5, 1), loss, numbers(g), None
