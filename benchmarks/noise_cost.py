"""What a meter costs, as a ratio to the plain step.

Blocks of steps with and without a meter alternate; each ratio is that of two neighbouring blocks,
in CPU time of one thread, and the median of all is reported with its quartiles. Three questions:

- measuring every step from single examples, one pass a step;
- measuring every step from micro-batches, over the same accumulation of four passes;
- measuring every 20th step, which is the default, for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common.record import options, write
from torch import nn

from batchsense.datasets import ALPHABET
from batchsense.training import (
    GradientNoiseMeter,
    LossForm,
    Workload,
    charlm_workload,
    digits_workload,
)
from batchsense.training.workload.target import CharacterModel

PASSES = 4


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-4)


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-5)


def wide_net(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def transformer(width: int, layers: int) -> nn.Module:
    torch.manual_seed(0)
    return CharacterModel(len(ALPHABET) + 1, width, 4, layers, 64)


def jobs() -> list[tuple[str, Workload, int]]:
    """Name, job, examples per backward pass."""
    digits, text = digits_workload(), charlm_workload()
    return [
        ("MLP", replace(digits, model=wide_net(128), optimizer=sgd), 128),
        ("MLP", replace(digits, model=wide_net(512), optimizer=sgd), 128),
        ("MLP", replace(digits, model=wide_net(1024), optimizer=adam), 128),
        ("transformer", replace(text, model=transformer(64, 2), optimizer=adam), 16),
        ("transformer", replace(text, model=transformer(128, 6), optimizer=adam), 8),
    ]


def stepper(
    job: Workload, passes: int, size: int
) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    optimizer = job.fresh_optimizer(job.model)
    rng = np.random.default_rng(0)
    parts = [job.minibatch(rng.integers(len(job.examples), size=size)) for _ in range(passes)]

    def step() -> None:
        optimizer.zero_grad()
        for part in parts:
            (job.loss(job.model, part) / passes).backward()
        optimizer.step()

    return optimizer, step


def compared(
    job: Workload, mode: Any, passes: int, size: int, every: int, rounds: int
) -> dict[str, Any]:
    optimizer, step = stepper(job, passes, size)
    form = LossForm(loss_scale=1 / passes)
    meter = GradientNoiseMeter(job.model, optimizer, mode=mode, every=every, form=form)
    with meter:
        for _ in range(4 * every):  # warm up, the meter's own checks included
            step()
    one = timed(step, 5) / 5
    block = max(every, min(200, round(0.1 / one / every) * every))
    ratios, plain = [], []
    for number in range(rounds):
        found = {}
        for metered in (True, False) if number % 2 else (False, True):
            with meter if metered else nullcontext():
                found[metered] = timed(step, block)
        ratios.append(found[True] / found[False])
        plain.append(found[False] / block)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {
        "ratio": float(middle),
        "quartiles": [float(low), float(high)],
        "plain_step_ms": 1e3 * float(np.median(plain)),
        "measured": meter.measured,
    }


def timed(step: Callable[[], None], count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        step()
    return time.process_time() - began


def main() -> None:
    parser = options(__doc__ or "", "noise_cost")
    parser.add_argument("--rounds", type=int, default=41)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, cpu = time.time(), time.process_time()
    rows = []
    for name, job, size in jobs():
        numbers = sum(parameter.numel() for parameter in job.model.parameters())
        for mode, passes in (("per_example", 1), ("micro_batch", PASSES)):
            for every in (1, 20):
                found = compared(job, mode, passes, size, every, arguments.rounds)
                model = {"model": name, "parameters": numbers, "examples": size, "passes": passes}
                rows.append({**model, "mode": mode, "every": every, **found})
                print(rows[-1], flush=True)
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        rounds=arguments.rounds,
        wanted={"every_20th": 1.04, "micro_batches_every_step": 1.10},
        rows=rows,
    )


if __name__ == "__main__":
    main()
