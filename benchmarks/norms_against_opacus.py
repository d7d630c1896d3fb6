"""Gradient norms of single examples: a training step with them over one without, and peak memory.

Beside Opacus' ghost clipping, whose first backward pass computes the same norms. Each model is
copied for each way; blocks of steps without norms, with ours and with Opacus' are run in turn and
in random order in one process, and ratios are medians over blocks, of CPU time. Memory is what a
process of its own takes more at its peak than before its first step.

    python benchmarks/norms_against_opacus.py --opacus FOLDER [-o FILE]

FOLDER holds Opacus (``pip install --no-deps --target FOLDER opacus==1.6.0 opt_einsum==3.4.0``).
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.record import options, write
from torch import Tensor, nn
from torch.nn import functional

from batchsense.training.example_gradients import PerExampleNorms

#: Shortest block in CPU seconds, and blocks of each way.
BLOCK_SECONDS, BLOCKS = 0.15, 20
WAYS = ("plain", "ours", "opacus")
Loss = Callable[[nn.Module], Tensor]


def mlp(widths: list[int], examples: int) -> tuple[nn.Module, Loss]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    values, kinds = torch.randn(examples, widths[0]), torch.randint(0, widths[-1], (examples,))
    net = nn.Sequential(*layers[:-1])
    return net, lambda model: functional.cross_entropy(model(values), kinds)


def pictures(net: nn.Module, shape: tuple[int, ...], examples: int) -> tuple[nn.Module, Loss]:
    values, kinds = torch.randn(examples, *shape), torch.randint(0, 10, (examples,))
    return net, lambda model: functional.cross_entropy(model(values), kinds)


def colour_cnn() -> nn.Module:
    """The network of Opacus' example for CIFAR-10."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def digit_cnn() -> nn.Module:
    """The network of Opacus' example for MNIST."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


class Block(nn.Module):
    """Causal attention and two layers, each after a normalization."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then transform each place."""
        examples, places, _ = x.shape
        parts = self.into(self.first(x)).view(examples, places, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        return x + self.narrow(functional.gelu(self.wide(self.second(x))))


class Transformer(nn.Module):
    """Symbols to scores of the next one, with layers that Opacus knows, no weight used twice."""

    def __init__(self, width: int, layers: int, symbols: int = 96) -> None:
        super().__init__()
        self.table = nn.Embedding(symbols, width)
        self.blocks = nn.Sequential(*[Block(width, width // 32) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols)

    def forward(self, symbols: Tensor) -> Tensor:
        """Scores of the next symbol at each place."""
        found: Tensor = self.head(self.norm(self.blocks(self.table(symbols))))
        return found


def transformer(width: int, layers: int, places: int, examples: int) -> tuple[nn.Module, Loss]:
    symbols = torch.randint(0, 96, (examples, places + 1))

    def loss(model: nn.Module) -> Tensor:
        scores = model(symbols[:, :-1].contiguous())
        each = functional.cross_entropy(scores.mT, symbols[:, 1:], reduction="none")
        return each.mean(dim=1).mean()

    return Transformer(width, layers), loss


JOBS: dict[str, Callable[[], tuple[nn.Module, Loss]]] = {
    "MLP 784-512-512-10, 128 examples": lambda: mlp([784, 512, 512, 10], 128),
    "MLP 64-128-128-10, 128 examples": lambda: mlp([64, 128, 128, 10], 128),
    "CNN of four layers, 32 × 32 in colour, 64 examples": lambda: pictures(
        colour_cnn(), (3, 32, 32), 64
    ),
    "CNN of two layers, 28 × 28 in grey, 64 examples": lambda: pictures(
        digit_cnn(), (1, 28, 28), 64
    ),
    "transformer, width 192, 4 layers, 16 × 64 places": lambda: transformer(192, 4, 64, 16),
    "transformer, width 128, 6 layers, 8 × 64 places": lambda: transformer(128, 6, 64, 8),
}


def way_of(way: str, model: nn.Module, loss: Loss) -> Callable[[], Any]:
    """A step: forward and backward, the norms if there are any, and the update."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    if way == "ours":
        norms = PerExampleNorms(model)
        norms.__enter__()
    if way == "opacus":
        from opacus.grad_sample import GradSampleModuleFastGradientClipping

        model = GradSampleModuleFastGradientClipping(
            model, max_grad_norm=1.0, use_ghost_clipping=True, loss_reduction="mean"
        )

    def step() -> Any:
        optimizer.zero_grad()
        loss(model).backward()
        found = None
        if way == "ours":
            found = norms.result().values
        if way == "opacus":
            found = model.get_norm_sample().double().square().numpy()
        optimizer.step()
        return found

    return step


def cpu_seconds(step: Callable[[], Any], times: int) -> float:
    """CPU seconds of one step."""
    began = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - began) / times


def measure(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Time one model, and compare the norms of both."""
    model, loss = JOBS[name]()
    steps = {way: way_of(way, model, loss) for way in WAYS}
    first = {way: step() for way, step in steps.items()}
    apart = float(np.max(np.abs(first["ours"] / first["opacus"] - 1)))
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    count = max(1, round(BLOCK_SECONDS / cpu_seconds(steps["plain"], 3)))
    for _ in range(BLOCKS):
        for way in rng.permutation(WAYS).tolist():
            times[way].append(cpu_seconds(steps[way], count))
    found: dict[str, Any] = {"largest_relative_difference_of_squares": apart}
    for way in WAYS[1:]:
        ratios = np.array(times[way]) / np.array(times["plain"])
        found[way] = {
            "ratio_median": float(np.median(ratios)),
            "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
            "ratio_of_fastest": min(times[way]) / min(times["plain"]),
        }
    found["plain_step_ms"] = 1e3 * float(np.median(times["plain"]))
    found["ours_over_opacus"] = float(np.median(np.array(times["ours"]) / times["opacus"]))
    return found


def peak(name: str, way: str) -> float:
    """MiB that five steps take at their peak, beside what is there before them."""
    import opacus.grad_sample  # noqa: F401  What is loaded is the same for all.

    step = way_of(way, *JOBS[name]())
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Begins a new peak.
    for _ in range(5):
        step()
    return resident("VmHWM") - before


def resident(line: str) -> float:
    """MiB of this process, at present or at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def main() -> None:
    parser = options(__doc__ or "", "norms_against_opacus")
    parser.add_argument("--opacus", required=True)
    parser.add_argument("--peak", nargs=2)
    chosen = parser.parse_args()
    sys.path.append(chosen.opacus)
    warnings.filterwarnings("ignore", module="torch")
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    if chosen.peak:
        print(peak(*chosen.peak))
        return
    began, rng, found = time.time(), np.random.default_rng(chosen.seed), {}
    load = os.getloadavg()[0]
    for name in JOBS:
        found[name] = measure(name, rng)
        memory = {}
        for way in WAYS:
            words = [sys.executable, __file__, "--opacus", chosen.opacus, "--peak", name, way]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            memory[way] = float(done.stdout)
        found[name]["peak_mib"] = memory
        print(name, found[name], flush=True)
    times = os.times()
    write(
        chosen.output,
        chosen.seed,
        began,
        times.user + times.system + times.children_user + times.children_system,
        opacus="1.6.0",
        load_average_before=load,
        models=found,
    )


if __name__ == "__main__":
    main()
