"""Training jobs as users write them, and as nobody should."""

from __future__ import annotations

from pathlib import Path

import numpy as np

HEAD = """
import dataclasses, os, sys, threading, warnings
import torch, torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset
from batchsense.training import Workload

torch.manual_seed({seed})
x = torch.randn({examples}, 6)
y = (x[:, 0] > 0).long()
sgd = lambda p: torch.optim.SGD(p, lr=0.1)
"""
TAIL = """
def workload():
    {before}
    return Workload(model={model}, loss=loss, examples={data}, optimizer={optimizer}{more})
"""
PLAIN = "nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))"
MODELS = {
    "normed": "nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))",
    "dropping": "nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))",
    "scripted": f"torch.jit.script({PLAIN})",
    "meta": "nn.Linear(6, 3, device='meta')",
    "lazy": "nn.LazyLinear(3)",
    "frozen": "nn.Linear(6, 3).requires_grad_(False)",
    "empty": "nn.Identity()",
    "double": f"{PLAIN}.double()",
    "half": f"{PLAIN}.half()",
    "no module": "lambda x: x[:, :3]",
    "nan": "(lambda m: (m[0].weight.data.fill_(float('nan')), m)[1])(" + PLAIN + ")",
    "huge": "(lambda m: (m[0].weight.data.fill_(1e38), m)[1])(" + PLAIN + ")",
    "shared": "(lambda l: nn.Sequential(nn.Linear(6, 3), l, l))(nn.Linear(3, 3))",
    "complex": "nn.Linear(6, 3, dtype=torch.complex64)",
    "none": "None",
}
SOUND = "return F.cross_entropy(model(part[0]), part[1])"
LOSSES = {
    "sum": "return F.cross_entropy(model(part[0]), part[1], reduction='sum')",
    "vector": "return F.cross_entropy(model(part[0]), part[1], reduction='none')",
    "number": "return 1.0",
    "none": "pass",
    "detached": "return F.cross_entropy(model(part[0]), part[1]).detach()",
    "constant": "return 0 * model(part[0]).sum()",
    "nan": "return model(part[0]).sum() * float('nan')",
    "infinite": "return model(part[0]).sum() / 0.0",
    "raises": "raise ValueError('no\\nsuch thing')",
    "exits": "sys.exit(0)",
    "exits hard": "raise SystemExit",
    "prints": "print('step'); " + SOUND,
    "warns": "warnings.warn('careful'); " + SOUND,
    "asserts": "assert False",
    "stops": "raise StopIteration",
    "deep": "return loss(model, part)",
    "whole": "return model(part[0]).square().mean()",
    "masked": "k = part[1] > 0; return F.cross_entropy(model(part[0])[k], part[1][k])",
    "missing labels": "return F.cross_entropy(model(part[0]), part[1] * 101 - 100)",
    "pairs": "z = model(part[0]); return F.cross_entropy(z @ z.T, torch.arange(len(z)))",
    "spread": "return model(part[0]).std()",
    "random": SOUND + " * torch.rand(())",
    "in place": "part[0].mul_(2.0); " + SOUND,
    "no grad": "with torch.no_grad(): " + SOUND,
    "backward": "l = F.cross_entropy(model(part[0]), part[1]); l.backward(); return l",
    "complex": "return model(part[0]).to(torch.complex64).sum()",
    "double": SOUND + ".double()",
    "shape": "return F.cross_entropy(model(part[0]), part[1]).reshape(1)",
    "outside": "return F.cross_entropy(other(part[0]), part[1])",
    "tuple": "l = F.cross_entropy(model(part[0]), part[1]); return l, 3",
    "loses": "return F.mse_loss(model(part[0])[:, :1], part[1].float())",
}
DATA = {
    "stream": "iter([(x[0], y[0])])",
    "empty": "[]",
    "one": "TensorDataset(x[:1], y[:1])",
    "few": "TensorDataset(x[:5], y[:5])",
    "list": "[(a, b) for a, b in zip(x, y)]",
    "dicts": "[{'0': a} for a in x]",
    "none": "None",
    "ragged": "[(x[i, : i % 5 + 1], y[i]) for i in range(len(x))]",
    "raising": "type('D', (), {'__len__': lambda s: 300, '__getitem__': lambda s, i: 1 / 0})()",
    "long": "type('D', (), {'__len__': lambda s: 10**12, '__getitem__': "
    "lambda s, i: (x[i % len(x)], y[i % len(x)])})()",
    "nan": "TensorDataset(x * float('nan'), y)",
    "loader": "torch.utils.data.DataLoader(TensorDataset(x, y), batch_size=8)",
    "endless": "type('D', (), {'__getitem__': lambda s, i: (x[i % len(x)], y[i % len(x)])})()",
}
OPTIMIZERS = ("None", "lambda p: None", "lambda p: torch.optim.LBFGS(p)", "lambda p: 1 / 0")
MORE = (
    ", batch_size=0",
    ", batch_size=-5",
    ", batch_size='x'",
    ", batch_size=10**9",
    ", collate=lambda e: None",
    ", collate=lambda e: 1 / 0",
    ", collate=3",
    ", colour='red'",
)
FILES = (
    "",
    "\x00",
    "def workload(:\n",
    "import nowhere\n",
    "raise SystemExit(0)\n",
    "workload = 3\n",
    "def workload(): return 3\n",
    "def workload(x): return 3\n",
    "class workload:\n    pass\n",
    "def workload():\n    yield 1\n",
    "import os\nprint('hello')\nworkload = None\n",
    "from batchsense.training import digits_workload as workload\nprint('loaded')\n",
)


def draw(rng: np.random.Generator) -> str:
    """The text of a file with a training job; one or two of its parts are odd."""
    if rng.random() < 0.1:
        return str(FILES[int(rng.integers(len(FILES)))])
    odd = set(rng.choice(["model", "loss", "loss", "data", "more"], size=2).tolist())
    loss = _one(rng, LOSSES) if "loss" in odd else SOUND
    head = HEAD.format(seed=int(rng.integers(100)), examples=int(rng.choice([16, 100, 300])))
    body = f"other = nn.Linear(6, 3)\ndef loss(model, part):\n    {loss}\n"
    sound = "TensorDataset(x, y)"
    return (
        head
        + body
        + TAIL.format(
            before=str(rng.choice(["pass", "print('made')", "torch.manual_seed(0)"])),
            model=_one(rng, MODELS) if "model" in odd else PLAIN,
            data=_one(rng, DATA) if "data" in odd else sound,
            optimizer=str(rng.choice(OPTIMIZERS)) if rng.random() < 0.1 else "sgd",
            more=str(rng.choice(MORE)) if "more" in odd else "",
        )
    )


def words(rng: np.random.Generator, folder: Path) -> tuple[list[str], dict[str, Path]]:
    """Words about the job, and the outputs that they name."""
    command = str(rng.choice(["audit", "noise", "plan"]))
    name = str(rng.choice(["workload"] * 20 + ["nowhere", ""]))
    asked = [command, f"{folder}/job.py:{name}"]
    if command == "audit":
        asked += ["--partitions", "6", "--minibatch", str(rng.choice(["16", "32", "64"]))]
        asked += ["--micro-batch", str(rng.choice(["1", "4", "8"]))]
    elif command == "noise":
        asked += ["--examples", str(rng.choice(["8", "64", "256"])), "--steps", "0"]
        asked += ["--micro-batches", str(rng.choice(["8", "16"]))]
    else:
        asked += ["--budget", "1"]
        if rng.random() < 0.3:
            asked += ["--tolerance", str(rng.choice(["0.5", "0", "1e-9", "100"]))]
    asked += ["--json"] if rng.random() < 0.7 else []
    outputs = {"-o": folder / "out.json"} if rng.random() < 0.5 else {}
    return [*asked, *(w for o, p in outputs.items() for w in (o, str(p)))], outputs


def _one(rng: np.random.Generator, known: dict[str, str]) -> str:
    return known[str(rng.choice(list(known)))]
