"""What exact per-example norms cost, as a ratio to the plain training step.

Steps are run in short blocks, plain and measured in turn and in random order, in one process, so
that what else the machine does falls on both. Reported are the median over pairs of neighbouring
blocks (with quartiles) and the ratio of the fastest blocks, of wall time and of the process's CPU
time. A measured block runs inside ``PerExampleNorms``, and every step of it reads all norms;
entering and leaving count.

    python benchmarks/per_example_cost.py [-o benchmarks/results/per_example_cost.json]
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from common.record import options, write
from torch import Tensor, nn
from torch.nn import functional

from batchsense.training.example_gradients import PerExampleNorms, minibatch_squared_norms
from batchsense.training.workload.target import CharacterModel

#: Shortest block, in seconds, so that the clock's grain does not matter.
BLOCK_SECONDS = 0.02
SYMBOLS = 96


@dataclass(frozen=True)
class Job:
    """A model, one minibatch of it and what the ratio should not exceed."""

    name: str
    model: nn.Module
    loss: Callable[[nn.Module, Any], Tensor]
    minibatch: Any
    optimizer: Callable[[Any], torch.optim.Optimizer]
    wanted: float | None


def net(widths: list[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cross_entropy(model: nn.Module, minibatch: Any) -> Tensor:
    values, kinds = minibatch
    return functional.cross_entropy(model(values), kinds)


def next_symbol(model: nn.Module, minibatch: Any) -> Tensor:
    scores = model(minibatch[:, :-1])
    return functional.cross_entropy(scores.flatten(0, 1), minibatch[:, 1:].flatten())


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-3)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-4)


def mlp(name: str, widths: list[int], examples: int, wanted: float | None) -> Job:
    values = torch.randn(examples, widths[0])
    kinds = torch.randint(0, widths[-1], (examples,))
    return Job(name, net(widths), cross_entropy, (values, kinds), sgd, wanted)


def transformer(
    name: str, width: int, layers: int, places: int, examples: int, wanted: float | None
) -> Job:
    model = CharacterModel(SYMBOLS, width, width // 32, layers, places)
    symbols = torch.randint(0, SYMBOLS, (examples, places + 1))
    return Job(name, model, next_symbol, symbols, adamw, wanted)


def jobs(seed: int) -> list[Job]:
    torch.manual_seed(seed)
    return [
        mlp("MLP 784-512-512-10, 128 examples", [784, 512, 512, 10], 128, 1.6),
        mlp("digits MLP 64-128-128-10, 128 examples", [64, 128, 128, 10], 128, 1.6),
        mlp("digits MLP 64-128-128-10, 32 examples", [64, 128, 128, 10], 32, None),
        transformer("transformer, width 192, 4 layers, 16 × 64 places", 192, 4, 64, 16, 1.3),
        transformer("transformer, width 256, 4 layers, 8 × 128 places", 256, 4, 128, 8, 1.3),
        transformer("transformer, width 128, 6 layers, 8 × 64 places", 128, 6, 64, 8, 1.3),
        transformer("transformer, width 64, 2 layers, 16 × 64 places", 64, 2, 64, 16, None),
    ]


def loops_of(job: Job) -> dict[str, Callable[[int], None]]:
    """Make the plain and the measured loop of some steps; both train the same model."""
    optimizer = job.optimizer(job.model.parameters())
    norms = PerExampleNorms(job.model)

    def plain(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            job.loss(job.model, job.minibatch).backward()
            optimizer.step()

    def measured(steps: int) -> None:
        with norms:
            for _ in range(steps):
                optimizer.zero_grad()
                job.loss(job.model, job.minibatch).backward()
                assert norms.result().covered == 1
                optimizer.step()

    return {"plain": plain, "measured": measured}


def block(loop: Callable[[int], None], steps: int) -> tuple[float, float]:
    """Give wall and CPU seconds for each of some steps."""
    wall, cpu = time.perf_counter(), time.process_time()
    loop(steps)
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps


def measure(job: Job, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    """Time one job."""
    minibatch_squared_norms(job.model, job.loss, job.minibatch)
    loops = loops_of(job)
    for loop in loops.values():
        block(loop, 2)
    count = max(1, round(BLOCK_SECONDS / block(loops["plain"], 3)[0]))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name in rng.permutation(list(loops)).tolist():
            times[name].append(block(loops[name], count))
    found: dict[str, Any] = {
        "job": job.name,
        "parameters": sum(p.numel() for p in job.model.parameters()),
        "steps_in_a_block": count,
        "repeats": repeats,
        "wanted_ratio": job.wanted,
    }
    for column, clock in enumerate(("wall", "cpu")):
        plain = np.array([pair[column] for pair in times["plain"]])
        measured = np.array([pair[column] for pair in times["measured"]])
        low, middle, high = np.quantile(measured / plain, [0.25, 0.5, 0.75])
        found[clock] = {
            "plain_step_ms": round(1e3 * statistics.median(plain), 3),
            "fastest_plain_step_ms": round(1e3 * plain.min(), 3),
            "ratio_median": round(float(middle), 3),
            "ratio_quartiles": [round(float(low), 3), round(float(high), 3)],
            "ratio_of_fastest": round(float(measured.min() / plain.min()), 3),
            "every_20th_step": round(1 + (float(middle) - 1) / 20, 4),
        }
    if job.wanted is not None:
        found["met"] = bool(found["cpu"]["ratio_median"] <= job.wanted)
    return found


def main() -> None:
    parser = options(__doc__ or "", "per_example_cost")
    parser.add_argument("--repeats", type=int, default=60)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    began, cpu = time.time(), time.process_time()
    load = [round(value, 2) for value in os.getloadavg()]
    rng, found = np.random.default_rng(chosen.seed), []
    for job in jobs(chosen.seed):
        found.append(measure(job, chosen.repeats, rng))
        print(job.name, found[-1]["cpu"], flush=True)
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        what="seconds of a training step with exact per-example norms over those without",
        load_average_before=load,
        jobs=found,
    )


if __name__ == "__main__":
    main()
