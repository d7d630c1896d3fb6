"""What a thermometer forecasts, over what cooling the run then gains.

A small tanh network on the digits with a fifth of the labels replaced at random, so that it cannot
learn them all by heart, is trained with descent, without and with momentum, by shuffled epochs.
Then two copies go on: one whose learning rate falls to zero in half a window, one as before. The
gain is the mean loss of the second over that time less the last loss of the first. Forecasts are
judged at three moments, of which the earlier may be too early: then none is given. Wanted: forecast
over gain in [.85, 1.15] wherever one is given, and at least .8 of the gains in its 90 % interval.

    python benchmarks/cooling_forecast.py [-o benchmarks/results/cooling_forecast.json]
"""

from __future__ import annotations

import copy
import os
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common.record import options, write
from torch import nn

from batchsense.datasets import load_digits
from batchsense.training.running import EndlessOrder
from batchsense.training.temperature import Thermometer

SEEDS, BATCH_SIZE, HIDDEN, WRONG = 5, 32, 24, 0.2
WINDOW, MOMENTS = 1680, (8400, 20160, 40320)
SETTINGS = ((0.0, 0.5), (0.9, 0.05))


class Job:
    """One network on its own wrong labels."""

    def __init__(self, seed: int, momentum: float, rate: float) -> None:
        digits, rng = load_digits(), np.random.default_rng([seed, 0])
        labels = np.where(
            rng.random(len(digits.digit)) < WRONG,
            rng.integers(10, size=len(digits.digit)),
            digits.digit,
        )
        self.inputs = torch.tensor(digits.observations / 16, dtype=torch.float32)
        self.labels, self.rate, self.momentum = torch.tensor(labels), rate, momentum
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10))
        self.optimizer = self.fresh(self.net)

    def fresh(self, net: nn.Module) -> torch.optim.Optimizer:
        """Give the optimizer of a net."""
        return torch.optim.SGD(net.parameters(), lr=self.rate, momentum=self.momentum)

    def loss(self, net: nn.Module) -> float:
        """Give the loss on all examples."""
        with torch.no_grad():
            return float(nn.functional.cross_entropy(net(self.inputs), self.labels))

    def train(self, net: nn.Module, optimizer: Any, order: EndlessOrder, first: int, steps: int,
              after: Any, cool: bool = False) -> None:  # fmt: skip
        """Make steps, calling ``after`` each."""
        for step in range(first, first + steps):
            if cool:
                optimizer.param_groups[0]["lr"] = self.rate * (1 - (step - first) / steps)
            rows = torch.from_numpy(order.at(step * BATCH_SIZE, BATCH_SIZE))
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(self.inputs[rows]), self.labels[rows]).backward()
            optimizer.step()
            after()

    def gain(self, seed: int) -> float:
        """Cool a copy, let another go on, and give the difference."""
        ends, along = [], []
        for cool in (True, False):
            net = copy.deepcopy(self.net)
            optimizer = self.fresh(net)
            optimizer.load_state_dict(self.optimizer.state_dict())
            order = EndlessOrder(len(self.labels), [seed, 1 + cool])
            made = iter(range(10**9))

            def read(net: nn.Module = net, made: Any = made, cool: bool = cool) -> None:
                if not cool and next(made) % 20 == 0:
                    along.append(self.loss(net))

            self.train(net, optimizer, order, 0, WINDOW // 2, read, cool)
            if cool:
                ends.append(self.loss(net))
        return float(np.mean(along)) - ends[0]


def rows(seed: int, momentum: float, rate: float) -> list[dict[str, Any]]:
    """Judge one network at each moment."""
    job = Job(seed, momentum, rate)
    thermometer = Thermometer(job.net, job.optimizer, job.loss, window=WINDOW, steps_per_epoch=57)
    order, made, found = EndlessOrder(len(job.labels), [seed, 3]), 0, []
    for moment in MOMENTS:
        job.train(job.net, job.optimizer, order, made, moment - made, thermometer.step)
        made = moment
        reading, gain = thermometer.report(), job.gain(1000 * seed + moment)
        given = reading.forecast
        found.append(
            {
                "seed": seed,
                "momentum": momentum,
                "steps": moment,
                "ratio": reading.ratio,
                "withheld": reading.withheld,
                "heats": [window.heat for window in thermometer.windows],
                "heat": reading.heat.estimate,
                "gain": gain,
                "heat_over_gain": reading.heat.estimate / gain,
                "forecast": None if given is None else [given.low, given.estimate, given.high],
                "covered": None if given is None else bool(given.low <= gain <= given.high),
            }
        )
        print(found[-1], file=sys.stderr, flush=True)
    return found


def main() -> None:
    chosen = options(__doc__ or "", "cooling_forecast").parse_args()
    torch.set_num_threads(1)
    began, cpu, all_rows = time.time(), time.process_time(), []
    for momentum, rate in SETTINGS:
        for seed in range(SEEDS):
            all_rows += rows(chosen.seed + 10 * seed + round(momentum), momentum, rate)
    given = [row for row in all_rows if row["forecast"] is not None]
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        given=len(given),
        of=len(all_rows),
        extremes=[f(row["heat_over_gain"] for row in given) for f in (min, max)] if given else None,
        covered=sum(bool(row["covered"]) for row in given),
        moments=all_rows,
    )


if __name__ == "__main__":
    main()
