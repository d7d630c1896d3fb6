"""What a thermometer costs a training loop, as a ratio to the loop without.

One window of steps with and one without alternate in random order, in CPU time of one thread.
``thermometer`` is its own work: its losses are read on 16 examples. ``with losses`` reads the nine
losses of a window on 512, which is what they cost in a window of this length; in longer ones it is
less. ``same`` is the loop without against itself. The weights after equal windows must agree to the
bit. Wanted: 1.03 from 100,000 trained numbers on, 1.10 on the digits, .98 to 1.02 for ``same``.

    python benchmarks/thermometer_cost.py [-o benchmarks/results/thermometer_cost.json]
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common.record import options, write
from torch import nn
from torch.utils.data import TensorDataset

from batchsense.training import Workload, charlm_workload, digits_workload
from batchsense.training.running import optimizer_step
from batchsense.training.temperature import Thermometer

PAIRS, JUDGED = 24, {"thermometer": 16, "with losses": 512, "same": None}


def wide_digits() -> Workload:
    """Give the digits with a net of 337,000 numbers."""
    job = digits_workload()
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    return Workload(net, job.loss, job.examples, job.optimizer, batch_size=32)


def shortened(job: Workload, count: int) -> Workload:
    """Keep so many examples, so that both loops see the same few."""
    assert isinstance(job.examples, TensorDataset)
    kept = TensorDataset(*(part[:count] for part in job.examples.tensors))
    return Workload(job.model, job.loss, kept, job.optimizer, batch_size=job.batch_size)


class Loop:
    """One copy in training, with or without a thermometer."""

    def __init__(self, job: Workload, size: int, window: int, judged_on: int | None) -> None:
        self.job, self.size, self.window = job, size, window
        self.model = job.fresh_model()
        self.optimizer = job.fresh_optimizer(self.model)
        self.made = 0
        self.after: Any = lambda: None
        if judged_on is not None:
            judged = job.minibatch(range(judged_on))

            def evaluate(net: nn.Module) -> float:
                return float(job.loss(net, judged).detach())

            self.after = Thermometer(self.model, self.optimizer, evaluate, window=window).step

    def block(self) -> float:
        """Make a window of steps; CPU seconds."""
        rows = np.random.default_rng(self.made).integers(
            len(self.job.examples), size=(self.window, self.size)
        )
        began = time.process_time()
        for part in rows:
            optimizer_step(self.job, self.model, self.optimizer, [self.job.minibatch(part)])
            self.after()
        self.made += 1
        return time.process_time() - began


def compared(
    job: Workload, size: int, window: int, judged_on: int | None, seed: int
) -> dict[str, Any]:
    """Ratios of neighbouring windows, and whether the weights agree."""
    rng = np.random.default_rng(seed)
    plain, other = Loop(job, size, window, None), Loop(job, size, window, judged_on)
    plain.block(), other.block()
    found = []
    for _ in range(PAIRS):
        if rng.integers(2):
            a, b = plain.block(), other.block()
        else:
            b, a = other.block(), plain.block()
        found.append(b / a)
    pairs = zip(plain.model.parameters(), other.model.parameters(), strict=True)
    half = round(0.98 * np.sqrt(PAIRS))
    found.sort()
    return {
        "ratio": float(np.median(found)),
        "low": found[PAIRS // 2 - half],
        "high": found[PAIRS // 2 + half],
        "equal_weights": all(torch.equal(one, two) for one, two in pairs),
    }


def main() -> None:
    chosen = options(__doc__ or "", "thermometer_cost").parse_args()
    torch.set_num_threads(1)
    began, cpu, rows = time.time(), time.process_time(), []
    text = shortened(charlm_workload(), 2000)
    jobs = [("digits", digits_workload(), 32, 600), ("wide digits", wide_digits(), 32, 600)]
    for name, job, size, window in [*jobs, ("charlm", text, 8, 200)]:
        for kind, judged_on in JUDGED.items():
            row = {
                "job": name,
                "parameters": sum(p.numel() for p in job.model.parameters()),
                "kind": kind,
                "batch_size": size,
                "window": window,
                **compared(job, size, window, judged_on, chosen.seed + len(rows)),
            }
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    write(chosen.output, chosen.seed, began, time.process_time() - cpu, rows=rows)


if __name__ == "__main__":
    main()
