"""Whether growing the batch size does what decaying the learning rate does, at equal examples.

Three pairs, each run with seeds of its own. *rugged*: descent on a rippled bowl of ten weights; the
learning rate halves six times, or the batch size doubles. *digits*: a small tanh network with a
fifth of the labels wrong, descent; four times. *charlm*: a character transformer with AdamW; a
cosine schedule, or ``seesaw`` in its place. Wanted: losses within two standard errors, at no more
than .35, .55 and .70 of the updates. Then, on charlm, a constant learning rate: the batch size that
a short run plans, against ``"noise"``, which begins there and follows the measured noise scale;
wanted: no worse, at no more than .70 of the updates. Losses of charlm are on windows that were not
trained on.

As many seeds of the transformer as ``--minutes`` of CPU allow, eight of the others; ``--only``
adds one pair to an earlier result.

    python benchmarks/growth_against_decay.py [-o benchmarks/results/growth_against_decay.json]
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common.record import options, write
from torch import nn
from torch.utils.data import Subset

from batchsense.arrays import Floats
from batchsense.datasets import load_digits
from batchsense.training import GradientNoiseMeter, Workload, charlm_workload, rescale
from batchsense.training.gradient_noise import critical_batch_size_of_path, record_short_run
from batchsense.training.schedule import BatchSizeSchedule, FollowNoise, doubling, seesaw
from batchsense.training.simulate import MinibatchDraws, example_tilts
from batchsense.training.temperature import SgdSetting

SEEDS, CHARLM_SEEDS = 8, 8
COSINE_EXAMPLES, NOISE_EXAMPLES, HELD_OUT = 10_000, 40_000, 512


@dataclass(frozen=True)
class RuggedBowl:
    r"""Ripples on a bowl: :math:`U(w) = \sum_i \frac{λ}{2} w_i^2 + a(1 - \cos(2π w_i/p))`."""

    curvature: float
    ripple: float
    period: float

    def loss(self, weights: Floats) -> Floats:
        """Give U; weights have shape (replicas, weights), the result (replicas,)."""
        ripples = self.ripple * (1 - np.cos(2 * np.pi * weights / self.period))
        return (self.curvature / 2 * weights**2 + ripples).sum(axis=-1)

    def gradient(self, weights: Floats) -> Floats:
        """Give the gradient of U, in the shape of the weights."""
        waves = 2 * np.pi / self.period
        return self.curvature * weights + self.ripple * waves * np.sin(waves * weights)


def descend(
    bowl: RuggedBowl,
    tilts: Floats,
    start: Floats,
    schedule: Callable[[int], tuple[float, int]],
    *,
    setting: SgdSetting,
    examples: int,
    seed: int,
) -> tuple[Floats, int]:
    """Train replicas by a schedule of rate and batch size; give last weights and steps."""
    draws = MinibatchDraws(setting, len(start), np.random.default_rng(seed))
    weights, buffer = start.copy(), np.zeros_like(start)
    consumed = steps = 0
    while consumed < examples:
        rate, size = schedule(consumed)
        noise = tilts[draws.rows(size)].mean(axis=1)
        buffer = setting.momentum * buffer + bowl.gradient(weights) + noise
        weights = weights - rate * buffer
        consumed += size
        steps += 1
    return weights, steps


def rugged(seed: int, grow: bool, cold: bool = False) -> tuple[float, int]:
    """Anneal 96 replicas on the rippled bowl, or begin as cold as they end."""
    bowl, start, rate, size = RuggedBowl(1.0, 0.05, 0.5), 2.0, 0.02, 4
    examples, stages = 56_000, 7
    own = np.random.SeedSequence([seed, int(grow)]).generate_state(3)
    tilts = example_tilts(1024, 10, 60.0, int(own[0]))

    def schedule(consumed: int) -> tuple[float, int]:
        stage = stages - 1 if cold else min(consumed * stages // examples, stages - 1)
        return (rate, size << stage) if grow else (rate / (1 << stage), size)

    begin = start * np.random.default_rng(own[1]).normal(size=(96, 10))
    setting = SgdSetting(rate, size, examples=1024, sampling="replacement")
    weights, steps = descend(
        bowl, tilts, begin, schedule, setting=setting, examples=examples, seed=int(own[2])
    )
    return float(bowl.loss(weights).mean()), steps


def digits(seed: int, grow: bool) -> tuple[float, int]:
    """Anneal a network that cannot learn all of its labels."""
    found, rng = load_digits(), np.random.default_rng(seed)
    wrong = rng.random(len(found.digit)) < 0.2
    labels = torch.tensor(np.where(wrong, rng.integers(10, size=len(wrong)), found.digit))
    inputs = torch.tensor(found.observations / 16, dtype=torch.float32)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
    sgd = torch.optim.SGD(net.parameters(), lr=0.25)
    data = torch.utils.data.TensorDataset(inputs, labels)
    epochs, size = 60, 16
    total = epochs * len(data)
    milestones = [round(share * total) for share in (1 / 3, 1 / 2, 2 / 3, 5 / 6)]
    plan = doubling(size, milestones if grow else [])
    schedule = BatchSizeSchedule(sgd, plan, mode="loader")
    loader = schedule.loader(data, epochs=epochs, seed=2 * seed + grow, collate_fn=_stacked)
    for _ in range(epochs):
        for x, y in loader:
            if not grow:
                sgd.param_groups[0]["lr"] = 0.25 / 2 ** sum(
                    schedule.examples >= place for place in milestones
                )
            schedule.backward(nn.functional.cross_entropy(net(x), y))
            schedule.step()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(net(inputs), labels)), schedule.steps


def _stacked(rows: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = zip(*rows, strict=True)
    return torch.stack(x), torch.stack(y)


class Characters:
    """One transformer, its own order, and windows that are held out."""

    def __init__(self, seed: int) -> None:
        job = charlm_workload(seed)
        rows = np.random.default_rng(0).permutation(len(job.examples))
        self.held = job.minibatch(rows[:HELD_OUT])
        examples = Subset(job.examples, rows[HELD_OUT:].tolist())
        self.job = Workload(job.model, job.loss, examples, job.optimizer, batch_size=job.batch_size)

    def train(
        self,
        order: int,
        examples: int,
        make: Callable[[nn.Module, torch.optim.Optimizer], BatchSizeSchedule],
        size: int,
        rate: Callable[[float], float] | None = None,
        annealed: bool = False,
    ) -> tuple[float, int, list[int]]:
        """Train a copy from ``size`` on; ``rate`` is the share of the peak after a share of it."""
        model = self.job.fresh_model()
        optimizer = self.job.fresh_optimizer(model)
        rescale(optimizer, size / (self.job.batch_size or size))
        peak = optimizer.param_groups[0]["lr"]
        schedule = make(model, optimizer)
        losses: list[float] = []
        for minibatch in schedule.loader(self.job.examples, seed=order):
            if rate is not None:
                optimizer.param_groups[0]["lr"] = peak * rate(schedule.examples / examples)
            schedule.backward(self.job.loss(model, minibatch))
            schedule.step()
            # Five looks within the last tenth, so that one lucky moment decides nothing.
            if schedule.examples >= examples * (0.9 + 0.025 * len(losses)):
                with torch.no_grad():
                    losses.append(float(self.job.loss(model, self.held)))
            if schedule.examples >= examples:
                break
        last = losses[-1] if annealed else float(np.mean(losses))
        return last, schedule.steps, [one.batch_size for one in schedule.switches]


def cosine_pair(seed: int, seesawed: bool) -> tuple[float, int]:
    """A cosine schedule, or growth in its place."""
    job, size, total = Characters(seed), 16, COSINE_EXAMPLES
    if not seesawed:
        loss, steps, _ = job.train(
            2 * seed,
            total,
            lambda model, adam: BatchSizeSchedule(adam, str(size), mode="loader"),
            size,
            lambda share: 0.5 * (1 + math.cos(math.pi * min(share, 1.0))),
            annealed=True,
        )
        return loss, steps
    plan = seesaw(size, total, doublings=5)
    loss, steps, _ = job.train(
        2 * seed + 1,
        total,
        lambda model, adam: BatchSizeSchedule(adam, plan, "seesaw", "loader"),
        size,
        annealed=True,
    )
    return loss, steps


def summary(
    name: str, plain: list[tuple[float, int]], grown: list[tuple[float, int]], most: float
) -> dict[str, Any]:
    """Compare losses and updates of two ways, over seeds."""
    one, other = (np.array([loss for loss, _ in way]) for way in (plain, grown))
    error = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    apart = float(other.mean() - one.mean())
    updates = float(np.mean([n for _, n in grown]) / np.mean([n for _, n in plain]))
    row = {
        "pair": name,
        "seeds": len(one),
        "plain": {"mean": float(one.mean()), "losses": one.tolist()},
        "growth": {"mean": float(other.mean()), "losses": other.tolist()},
        "difference": apart,
        "standard_error": error,
        "difference_in_errors": apart / error,
        "updates": updates,
        "wanted_updates": most,
        "met": bool(abs(apart) <= 2 * error and updates <= most),
    }
    print(row, file=sys.stderr, flush=True)
    return row


@functools.cache
def planned_size(seed: int) -> int:
    """The power of two nearest to the critical batch size of a short run."""
    records, _ = record_short_run(charlm_workload(), 200, 16, seed=seed)
    critical = critical_batch_size_of_path(records).critical_batch_size
    return 1 << round(math.log2(critical.estimate))


def noise_pair(seed: int, following: bool) -> tuple[float, int]:
    """The planned constant size, or the one that follows the noise from there on."""
    planned, meters = planned_size(0), list[GradientNoiseMeter]()

    def constantly(model: nn.Module, adam: Any) -> BatchSizeSchedule:
        return BatchSizeSchedule(adam, str(planned), mode="loader")

    def follow(model: nn.Module, adam: Any) -> BatchSizeSchedule:
        meters.append(GradientNoiseMeter(model, adam))
        meters[0].attach()
        return BatchSizeSchedule(adam, FollowNoise(meters[0], planned), "temperature", "loader")

    make = follow if following else constantly
    loss, steps, sizes = Characters(seed).train(2 * seed + following, NOISE_EXAMPLES, make, planned)
    print("sizes", sizes, file=sys.stderr)
    return loss, steps


def main() -> None:
    parser = options(__doc__ or "", "growth_against_decay")
    parser.add_argument("--minutes", type=float, default=15.0, help="of CPU, for each of charlm")
    parser.add_argument("--only", choices=("rugged", "digits", "cosine", "noise"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "step .* was not measured", RuntimeWarning)
    began, cpu = time.time(), time.process_time()
    before = json.loads(chosen.output.read_text()) if chosen.only and chosen.output.exists() else {}
    rows = {row["pair"]: row for row in before.get("pairs", [])}

    def keep() -> None:
        spent = before.get("cpu_seconds", 0.0) + time.process_time() - cpu
        met = {name: row["met"] for name, row in rows.items()}
        write(chosen.output, chosen.seed, began, spent, met=met, pairs=list(rows.values()))

    for name, way, most in (("rugged", rugged, 0.35), ("digits", digits, 0.55)):
        if chosen.only in (None, name):
            both = [[way(chosen.seed + k, grow) for k in range(SEEDS)] for grow in (False, True)]
            rows[name] = summary(name, both[0], both[1], most)
            if name == "rugged":
                cold = [rugged(chosen.seed + 100 + k, True, cold=True)[0] for k in range(SEEDS)]
                rows[name]["cold_from_the_start"] = float(np.mean(cold))
            keep()
    for name, way in (("cosine", cosine_pair), ("noise", noise_pair)):
        if chosen.only not in (None, name):
            continue
        # As many seeds as the time allows: what is there is written after each.
        found: tuple[list[Any], list[Any]] = ([], [])
        start = time.process_time()
        for k in range(CHARLM_SEEDS):
            if time.process_time() - start > 60 * chosen.minutes:
                break
            for place, kept in enumerate(found):
                kept.append(way(chosen.seed + k, bool(place)))
            if k > 0:
                row = rows[name] = summary(name, *found, 0.70)
                # To follow the noise, a lower loss is as welcome.
                if name == "noise":
                    fine = row["difference"] <= 2 * row["standard_error"]
                    row["met"] = bool(fine and row["updates"] <= 0.70)
                keep()


if __name__ == "__main__":
    main()
