"""Ten public training scripts of small models, each planned, audited and metered.

Rewritten from the descriptions that their authors give, on small made data, with the optimizer,
loss and batch size that they name. What a question answers is recorded, and what it says where it
refuses: a refusal is right where the loss cannot be split, and in the way anywhere else.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from common.record import options, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from batchsense.errors import BatchsenseError, UnresolvedError
from batchsense.training import GradientNoiseMeter, LossForm, Workload, plan_training
from batchsense.training.separability import audit
from batchsense.training.trainers.workloads import workload_from_lightning, workload_from_loader

PLAN_SECONDS, METERED = 2.0, 24


def data(*shape: int, count: int = 640, kinds: int = 10) -> tuple[Tensor, Tensor]:
    """Inputs, and classes that depend on them."""
    x = torch.randn(count, *shape)
    return x, (x.flatten(1)[:, :4].sum(1) * 2).long().remainder(kinds)


def loop(model: nn.Module, loss: Any, tensors: Any, optimizer: Any, size: int) -> Workload:
    """What a plain loop has at hand."""
    loader = DataLoader(TensorDataset(*tensors), size, shuffle=True)
    return workload_from_loader(model, loss, loader, optimizer)


def classify(model: nn.Module, rows: Any) -> Tensor:
    """Cross-entropy of scores."""
    return F.cross_entropy(model(rows[0]), rows[1])


def mnist_convnet() -> Workload:
    """pytorch/examples, mnist: two convolutions, dropout, Adadelta at 1.0, 64 images."""
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(16 * 16, 32), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(32, 10),
    )
    return loop(net, classify, data(1, 12, 12), torch.optim.Adadelta(net.parameters(), lr=1.0), 64)


class Characters(nn.Module):
    """Predicts the next sign of a text."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(64, width), nn.Embedding(32, width)
        self.block = nn.TransformerEncoderLayer(width, 4, 64, 0.0, "gelu", batch_first=True)
        self.head = nn.Linear(width, 64, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, signs: Tensor) -> Tensor:
        length = signs.shape[1]
        ahead = torch.triu(torch.full((length, length), float("-inf")), 1)
        return self.head(self.block(self.tokens(signs) + self.places.weight[:length], ahead))


def next_sign(model: nn.Module, rows: Any) -> Tensor:
    """Mean over all places of all windows."""
    return F.cross_entropy(model(rows[0][:, :-1]).flatten(0, 1), rows[0][:, 1:].flatten())


def nano_gpt() -> Workload:
    """karpathy/nanoGPT: tied weights, AdamW that decays matrices only, betas 0.9 and 0.99."""
    net = Characters()
    matrices = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    return loop(net, next_sign, (torch.randint(64, (640, 33)),), adam, 64)


class Recurrent(nn.Module):
    """Embeds, runs an LSTM, and scores every next word; ``shape`` (places, examples) inside."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm, self.head = nn.Embedding(50, 24), nn.LSTM(24, 24), nn.Linear(24, 50)

    def forward(self, signs: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(signs.T))[0]).transpose(0, 1)


def word_language_model() -> Workload:
    """pytorch/examples, word_language_model: LSTM, SGD at 20, 20 sequences, gradients clipped."""
    net = Recurrent()
    sgd = torch.optim.SGD(net.parameters(), lr=2.0)
    return loop(net, next_sign, (torch.randint(50, (640, 16)),), sgd, 20)


class Variational(nn.Module):
    """Encodes an image into a distribution, draws, decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(64, 32), nn.Sequential(nn.Linear(8, 32), nn.ReLU())
        self.mean, self.log, self.image = nn.Linear(32, 8), nn.Linear(32, 8), nn.Linear(32, 64)

    def forward(self, x: Tensor) -> Any:
        hidden = self.into(x).relu()
        mean, log = self.mean(hidden), self.log(hidden)
        drawn = mean + torch.randn_like(mean) * (0.5 * log).exp()
        return self.image(self.out(drawn)), mean, log


def autoencoder_loss(model: nn.Module, rows: Any) -> Tensor:
    """The SUM over the minibatch, as the script has it."""
    image, mean, log = model(rows[0])
    missed = F.binary_cross_entropy_with_logits(image, rows[0], reduction="sum")
    return missed - 0.5 * (1 + log - mean.square() - log.exp()).sum()


def variational_autoencoder() -> Workload:
    """pytorch/examples, vae: Adam at 1e-3, 128 images, a loss that is a sum."""
    net = Variational()
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    return loop(net, autoencoder_loss, (torch.rand(640, 64),), adam, 128)


def contrast(model: nn.Module, rows: Any) -> Tensor:
    """Each view finds its other view among all others of the minibatch."""
    one, other = (F.normalize(model(rows[0] + 0.1 * torch.randn_like(rows[0]))) for _ in "ab")
    return F.cross_entropy(one @ other.T / 0.5, torch.arange(len(one)))


def sim_clr() -> Workload:
    """google-research/simclr: negatives from the same minibatch, temperature 0.5."""
    net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-6)
    return loop(net, contrast, (torch.randn(640, 32),), sgd, 64)


class Factors(nn.Module):
    """Users and films as vectors, with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.films = nn.Embedding(80, 8), nn.Embedding(60, 8)
        self.user_bias, self.film_bias = nn.Embedding(80, 1), nn.Embedding(60, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        user, film = pairs[:, 0], pairs[:, 1]
        own = (self.user_bias(user) + self.film_bias(film))[:, 0]
        return (self.users(user) * self.films(film)).sum(1) + own


def matrix_factorisation() -> Workload:
    """Films rated by users (MovieLens tutorials): embeddings, squared error, Adam, 128 ratings."""
    pairs = torch.stack([torch.randint(80, (2000,)), torch.randint(60, (2000,))], 1)
    net = Factors()
    return loop(
        net,
        lambda model, rows: (model(rows[0]) - rows[1]).square().mean(),
        (pairs, torch.randn(2000)),
        torch.optim.Adam(net.parameters(), lr=1e-2),
        128,
    )


class Residual(nn.Module):
    """One residual block with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head((x + self.second(x)).relu().mean((2, 3)))


def residual_net() -> Workload:
    """kuangliu/pytorch-cifar: ResNet with BatchNorm, SGD at 0.1 with momentum, 128 images."""
    net = Residual()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return loop(net, classify, data(3, 8, 8), sgd, 128)


class Graph(nn.Module):
    """Two graph convolutions over all nodes; an example is a labelled node."""

    def __init__(self, nodes: int = 120) -> None:
        super().__init__()
        edges = (torch.rand(nodes, nodes) < 0.05).float()
        joined = ((edges + edges.T) > 0).float() + torch.eye(nodes)
        self.register_buffer("links", joined / joined.sum(1, keepdim=True))
        self.register_buffer("content", torch.randn(nodes, 12))
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 7)

    def forward(self, nodes: Tensor) -> Tensor:
        hidden = (self.links @ self.first(self.content)).relu()
        return (self.links @ self.second(hidden))[nodes]


def graph_convolution() -> Workload:
    """tkipf/pygcn: every step sees the whole graph; the loss is about the labelled nodes."""
    net = Graph()
    adam = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=5e-4)
    return loop(net, classify, (torch.arange(120), torch.randint(7, (120,))), adam, 120)


def lightning_autoencoder() -> Workload:
    """Lightning in 15 minutes: an autoencoder as a LightningModule, Adam at 1e-3."""
    import lightning.pytorch as pl

    class Auto(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
            self.decoder = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 64))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, _ = batch
            x = x.view(x.size(0), -1)
            loss = F.mse_loss(self.decoder(self.encoder(x)), x)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    rows = TensorDataset(*data(1, 8, 8))
    return workload_from_lightning(Auto(), DataLoader(rows, 32, shuffle=True))


def physics() -> Workload:
    """Raissi et al. (2019): collocation points of an equation, and its walls as a second term."""
    net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))

    def loss(model: nn.Module, rows: Any) -> Tensor:
        points = rows[0].detach().requires_grad_(True)
        values = model(points)
        slope = torch.autograd.grad(values.sum(), points, create_graph=True)[0]
        bend = torch.autograd.grad(slope.sum(), points, create_graph=True)[0]
        walls = model(torch.tensor([[0.0], [3.1415927]])).square().mean()
        return (bend + points.sin()).square().mean() + walls

    points = torch.rand(640, 1) * 3.1415927
    return loop(net, loss, (points,), torch.optim.Adam(net.parameters(), lr=1e-3), 64)


#: The script, and whether the mean of its parts is the whole.
SCRIPTS: dict[Callable[[], Workload], str] = {
    mnist_convnet: "yes",
    nano_gpt: "yes",
    word_language_model: "yes",
    variational_autoencoder: "no",  # a sum: add, do not average
    sim_clr: "no",
    matrix_factorisation: "yes",
    residual_net: "no",
    graph_convolution: "yes",
    lightning_autoencoder: "yes",
    physics: "yes",
}


def planned(job: Workload) -> dict[str, Any]:
    """The advice and the codes of its doubts."""
    plan = plan_training(job, seconds=PLAN_SECONDS)
    doubts = [doubt.code for doubt in plan.doubts]
    return {"batch_size": plan.advice.batch_size, "doubts": doubts}


def audited(job: Workload) -> dict[str, Any]:
    """Verdict and kind."""
    report = audit(job)
    return {"verdict": report.verdict, "kind": report.kind}


def metered(job: Workload, interacting: bool) -> dict[str, Any]:
    """The noise scale over a few steps of the loop, and what the meter had to be told.

    Where single examples have no gradient that can be seen, it asks for micro-batches.
    """
    if not interacting:
        try:
            return {"told": "nothing", **_noise(job, "auto", 1)}
        except UnresolvedError as error:
            return {"told": "micro-batches", "asked": str(error), **_noise(job, "micro_batch", 4)}
    return {"told": "micro-batches", **_noise(job, "micro_batch", 4)}


def _noise(job: Workload, mode: Any, parts: int) -> dict[str, Any]:
    model = job.fresh_model()
    optimizer = job.fresh_optimizer(model)
    form = LossForm(reduction="sum" if job.loss is autoencoder_loss else "mean")
    size = job.batch_size or 32
    rows = torch.Generator().manual_seed(1)
    with GradientNoiseMeter(model, optimizer, every=1, mode=mode, form=form) as meter:
        for _ in range(METERED):
            optimizer.zero_grad()
            for _ in range(parts):
                drawn = torch.randint(len(job.examples), (size,), generator=rows).tolist()
                with meter.watching(size):
                    loss = job.loss(model, job.minibatch(drawn))
                loss.backward()
            optimizer.step()
    report = meter.report()
    return {"noise_scale": report.noise_scale.estimate, "measured": report.measured}


def main() -> None:
    arguments = options(__doc__ or "", "public_scripts").parse_args()
    began, cpu, scripts = time.time(), time.process_time(), {}
    warnings.simplefilter("ignore")
    for make, splits in SCRIPTS.items():
        torch.manual_seed(arguments.seed)
        job = make()
        row: dict[str, Any] = {"may_be_split": splits}
        row["audit"] = audited(job)
        try:
            row["plan"] = planned(job)
        except BatchsenseError as error:
            row["plan"] = {"refused": str(error)}
        row["meter"] = metered(job, row["audit"]["kind"] == "interacting")
        print(make.__name__, row, flush=True)
        scripts[make.__name__] = row
    seconds = time.process_time() - cpu
    write(arguments.output, arguments.seed, began, seconds, scripts=scripts)
    print(f"{seconds:.0f} CPU seconds")


if __name__ == "__main__":
    main()
