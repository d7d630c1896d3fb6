"""The same changes of batch size by bs-scheduler and torch's learning rate schedulers, and by ours.

Three epochs of 53 numbered examples; the size goes from 8 to 16 and the learning rate doubles at
the first step that begins at or after 24 examples, in the middle of an epoch. Counted are the
minibatches of another size or learning rate than wanted, the examples that did not come once an
epoch, what ``len()`` promised and what came, and, when the run is stopped after five steps and goes
on from its state, the steps that differ from those of the undisturbed run. bs-scheduler is used as
its documentation says, by steps, and needs to be importable (``pip install bs-scheduler==1.0.2``).

    python benchmarks/schedule_peers.py [-o benchmarks/results/schedule_peers.json]
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from importlib import metadata
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from bs_scheduler import LambdaBS
from common.record import options, write
from torch.utils.data import DataLoader, Dataset

from batchsense.training.schedule import BatchSizeSchedule

COUNT, EPOCHS, SMALL, LARGE, CHANGE, STOP = 53, 3, 8, 16, 24, 5
#: Rows, learning rate.
Trace = list[tuple[list[int], float]]


class Numbers(Dataset[int]):
    """Examples that are their own number."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> int:
        return row


def optimizer() -> torch.optim.Optimizer:
    """One number."""
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)


class Peer:
    """A DataLoader whose size bs-scheduler changes, and LambdaLR beside it; both step by step."""

    def __init__(self, drop_last: bool, workers: int) -> None:
        torch.manual_seed(0)
        self.sgd = optimizer()
        self.loader = DataLoader(
            Numbers(), batch_size=SMALL, shuffle=True, drop_last=drop_last, num_workers=workers
        )
        steps = CHANGE // SMALL
        self.sizes = LambdaBS(self.loader, lambda k: 1.0 if k < steps else LARGE / SMALL)
        self.rates = torch.optim.lr_scheduler.LambdaLR(
            self.sgd, lambda k: 1.0 if k < steps else LARGE / SMALL
        )
        self.trace: Trace = []
        self.lengths: list[tuple[int, int]] = []
        self.epoch = 0

    def run(self, steps: int | None = None) -> Peer:
        """Go on to the end, or until so many steps are made."""
        for epoch in range(self.epoch, EPOCHS):
            self.epoch, came, promised = epoch, 0, len(self.loader)
            for rows in self.loader:
                self.trace.append((rows.tolist(), self.sgd.param_groups[0]["lr"]))
                self.sgd.step()
                self.sizes.step()
                self.rates.step()
                came += 1
                if len(self.trace) == steps:
                    return self
            self.lengths.append((promised, came))
        return self

    def state(self) -> Any:
        """What these libraries let one keep; a loader has no state."""
        parts = (self.sgd, self.sizes, self.rates)
        return [part.state_dict() for part in parts], self.epoch, torch.get_rng_state()

    def load(self, state: Any) -> Peer:
        """Go on from it."""
        for part, own in zip((self.sgd, self.sizes, self.rates), state[0], strict=True):
            part.load_state_dict(own)
        self.epoch = state[1]
        torch.set_rng_state(state[2])
        return self


class Ours:
    """BatchSizeSchedule, whose loader is one epoch each time."""

    def __init__(self, drop_last: bool, workers: int) -> None:
        self.sgd = optimizer()
        self.schedule = BatchSizeSchedule(
            self.sgd, f"{SMALL}, {LARGE} at {CHANGE}", "lr", mode="loader"
        )
        self.loader = self.schedule.loader(
            Numbers(), epochs=EPOCHS, drop_last=drop_last, num_workers=workers
        )
        self.trace: Trace = []
        self.lengths: list[tuple[int, int]] = []

    def run(self, steps: int | None = None) -> Ours:
        """Go on to the end, or until so many steps are made."""
        for _ in range(self.loader.epoch, EPOCHS):
            promised, came = len(self.loader), 0
            for rows in self.loader:
                self.trace.append((rows.tolist(), self.sgd.param_groups[0]["lr"]))
                self.schedule.step()
                came += 1
                if len(self.trace) == steps:
                    return self
            self.lengths.append((promised, came))
        return self

    def state(self) -> Any:
        """State of the schedule and the optimizer."""
        return self.sgd.state_dict(), self.schedule.state_dict()

    def load(self, state: Any) -> Ours:
        """Go on from it."""
        self.sgd.load_state_dict(state[0])
        self.schedule.load_state_dict(state[1])
        return self


def judged(kind: type[Peer] | type[Ours], drop_last: bool, workers: int) -> dict[str, Any]:
    """Count what went wrong in one scenario."""
    whole = kind(drop_last, workers).run()
    sizes, rates, seen, late = 0, 0, 0, 0
    for rows, rate in whole.trace:
        wanted = SMALL if seen < CHANGE else LARGE
        # The last minibatch of an epoch or of the run may be smaller.
        wrong = len(rows) != wanted and len(rows) in (SMALL, LARGE)
        sizes, rates = sizes + wrong, rates + (abs(rate - 0.1 * wanted / SMALL) > 1e-9)
        late += len(rows) * (abs(rate / 0.1 * SMALL - len(rows)) > 1e-9) * (len(rows) >= SMALL)
        seen += len(rows)
    counted = np.bincount([row for rows, _ in whole.trace for row in rows], minlength=COUNT)
    stopped = kind(drop_last, workers).run(STOP)
    state = stopped.state()
    again = kind(drop_last, workers).load(state)
    with contextlib.suppress(StopIteration):
        again.run()
    apart = [*stopped.trace, *again.trace]
    differs = sum(one != other for one, other in zip(apart, whole.trace, strict=False))
    return {
        "way": "bs-scheduler and torch" if kind is Peer else "batchsense",
        "drop_last": drop_last,
        "workers": workers,
        "steps": len(whole.trace),
        "steps_of_the_wrong_size": int(sizes),
        "steps_at_the_wrong_learning_rate": int(rates),
        "examples_at_the_rate_of_another_size": int(late),
        "examples_missed": int((EPOCHS - counted).clip(min=0).sum()),
        "lengths_promised_and_came": whole.lengths,
        "steps_that_differ_after_resuming": int(differs + abs(len(apart) - len(whole.trace))),
    }


def main() -> None:
    chosen = options(__doc__ or "", "schedule_peers").parse_args()
    torch.set_num_threads(1)
    began, cpu = time.time(), time.process_time()
    rows = [
        judged(kind, drop_last, workers)
        for kind in (Peer, Ours)
        for drop_last in (False, True)
        for workers in (0, 2)
    ]
    for row in rows:
        print(row, file=sys.stderr)
    cpu = time.process_time() - cpu
    peer = metadata.version("bs-scheduler")
    write(chosen.output, chosen.seed, began, cpu, bs_scheduler=peer, scenarios=rows)


if __name__ == "__main__":
    main()
