"""Peak memory of training on 10,000 and on 1,000,000 collocation points, minibatches of 256.

Each case is a process of its own: a tanh network 2-20-20-20-1, Burgers' equation, 30 steps.
``peak_mib`` is the largest resident set, ``above_mib`` that above training on 500 points, and the
envelope is that of a step; ``all at once`` is the gradient of all points together.

    python benchmarks/collocation_memory.py [-o benchmarks/results/collocation_memory.json]
"""

from __future__ import annotations

import itertools
import json
import math
import os
import resource
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from common.record import options, write

POINTS, STEPS = 256, 30
CASES = [
    (way, count)
    for way in ("uniform", "importance", "as_workload")
    for count in (10_000, 1_000_000)
] + [("all at once", 10_000), ("all at once", 100_000)]


def case(way: str, count: int) -> dict[str, Any]:
    """Train in this process and say what it took."""
    import torch
    from torch import Tensor, nn

    from batchsense.training import fit_memory_envelope
    from batchsense.training.collocation import (
        Box,
        CollocationMinibatches,
        Condition,
        DrawnPoints,
        as_workload,
        collocation_loss,
    )

    def burgers(model: nn.Module, points: Tensor) -> Tensor:
        u = model(points)
        first = torch.autograd.grad(u.sum(), points, create_graph=True)[0]
        second = torch.autograd.grad(first[:, 0].sum(), points, create_graph=True)[0][:, :1]
        return first[:, 1:] + u * first[:, :1] - 0.01 / math.pi * second

    def net() -> nn.Module:
        torch.manual_seed(0)
        sizes = (2, 20, 20, 20)
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.Tanh())]
        return nn.Sequential(*layers, nn.Linear(20, 1))

    def train(pool: Tensor, how: str) -> None:
        model, conditions = net(), [Condition("pde", burgers, pool)]
        optimizer = torch.optim.Adam(model.parameters())
        draws = None
        if how in ("uniform", "importance"):
            draws = CollocationMinibatches(conditions, POINTS, how)  # type: ignore[arg-type]
        job = as_workload((conditions, model)) if how == "as_workload" else None
        for step in range(STEPS):
            if how == "importance" and step % 10 == 0 and draws is not None:
                draws.refresh(model)
            if draws is not None:
                loss = collocation_loss(model, conditions, draws.draw())
            elif job is not None:
                loss = job.loss(model, job.minibatch(range(step * POINTS, (step + 1) * POINTS)))
            else:
                everything = DrawnPoints(pool, torch.full((len(pool),), 1 / len(pool)))
                loss = collocation_loss(model, conditions, {"pde": everything})
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if how == "all at once":
                return

    box = Box((-1.0, 0.0), (1.0, 1.0))
    train(box(500, 0), "uniform")  # what torch itself takes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train(box(count, 0), way)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    job = as_workload(([Condition("pde", burgers, box(min(count, 200_000), 0))], net()))
    step = fit_memory_envelope(job).peak_bytes(POINTS if way != "all at once" else count)
    return {
        "way": way, "points": count, "peak_mib": after / 1024, "above_mib": (after - before) / 1024,
        "pool_mib": 8 * count / 2**20, "envelope_of_a_step_mib": step / 2**20,
    }  # fmt: skip


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] == "--case":
        print(json.dumps(case(sys.argv[2], int(sys.argv[3]))))
        return
    chosen = options(__doc__ or "", "collocation_memory").parse_args()
    began, rows = time.time(), []
    for way, count in CASES:
        command = [sys.executable, __file__, "--case", way, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr, flush=True)
    ratios = {
        way: {
            what: rows[2 * place + 1][what] / rows[2 * place][what]
            for what in ("peak_mib", "envelope_of_a_step_mib")
        }
        for place, way in enumerate(("uniform", "importance", "as_workload"))
    }
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    write(
        chosen.output, chosen.seed, began, spent.ru_utime + spent.ru_stime,
        points_of_a_minibatch=POINTS, ratios=ratios, cases=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
