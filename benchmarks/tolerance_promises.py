"""Whether the promises for a tolerance hold, and what they cost.

At several moments of a training run the gradients of all examples are formed, so that the chance
of a miss is known for every batch size. From each of many pilots the ladder is made, and counted:
how often it has a calibrated size, how often the chance of a miss at its batch size is at most 1.2
times the promised one, and how much larger the batch size is than the least that keeps the promise.
A pilot is what the product measures of a large data set: the lengths of 4,096 gradients, and the
inner products of 256 of them drawn by length. ``few`` is what is left where time does not allow the
lengths: 256 random ones alone. The tolerance is absolute, chosen so that the mean-square size is
40; surveys and minibatches are drawn with replacement, so that no answer profits from a small data
set. ``whole`` is the calibrated rung when all examples are measured.
Wanted: promise kept in at least 90 % of pilots, at no more than 1.6 times the least size.

    python benchmarks/tolerance_promises.py [-o benchmarks/results/tolerance_promises.json]
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from common.record import options, write
from common.tasks import CHARACTERS, DIGITS_SGD, Task
from torch.utils.data import TensorDataset

from batchsense.training import Workload
from batchsense.training.tolerance import certify_tolerance, tolerance_ladder
from batchsense.training.tolerance.ladder import calibrated_bound
from batchsense.training.tolerance.moments import drawn_by_length, moments_of_rows
from batchsense.training.tolerance.pilot import WHOLE_SET, GradientSource
from batchsense.training.tolerance.pilot_noise import PilotNoise, pilot_noise, surveyed_noise

PILOTS, EXAMPLES = 200, 256
MEAN_SQUARE_SIZE = 40
DRAWS = {0.05: 4000, 0.01: 12000}
MOMENTS = ((DIGITS_SGD, (0, 100, 300, 1000)), (CHARACTERS, (0, 200)))
MOST_EXAMPLES = 1797


def trained(task: Task, steps: int, seed: int) -> Workload:
    """Train a copy, and keep at most as many examples as the digits have."""
    workload = task.build()
    model, rng = workload.fresh_model(), np.random.default_rng(seed)
    optimizer = workload.fresh_optimizer(model)
    for _ in range(steps):
        optimizer.zero_grad()
        rows = rng.integers(len(workload.examples), size=16)
        workload.loss(model, workload.minibatch(rows)).backward()
        optimizer.step()
    assert isinstance(workload.examples, TensorDataset)
    kept = TensorDataset(*(part[:MOST_EXAMPLES] for part in workload.examples.tensors))
    return replace(workload, model=model, examples=kept)


@dataclass(frozen=True)
class Population:
    """All examples' gradients: inner products of deviations, and coordinates of the same shape."""

    gram: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, workload: Workload) -> Population:
        """Form every example's gradient, one by one."""
        source = GradientSource(workload)
        count = len(workload.examples)
        gradients = torch.stack([source.mean(np.array([row])) for row in range(count)])
        gradients -= gradients.mean(dim=0)
        gram = (gradients @ gradients.T).double().numpy()
        values, vectors = np.linalg.eigh(gram)
        kept = values > 1e-5 * values.sum() / count
        return cls(gram, vectors[:, kept] * np.sqrt(values[kept]))

    @property
    def trace(self) -> float:
        """Tr Σ."""
        return float(np.trace(self.gram)) / len(self.gram)

    def whole(self, noise: PilotNoise) -> PilotNoise:
        """Replace what a pilot estimates by what all examples say."""
        own = np.diag(self.gram)
        shape = moments_of_rows(self.gram)
        moments = replace(shape, trace=self.trace, fourth_ratio=float(own.var()) / self.trace**2)
        return replace(
            noise, moments=moments, without=None, trace_bound=self.trace, observations=len(own)
        )

    def pilot(self, rng: np.random.Generator) -> PilotNoise:
        """Survey lengths, and take the products of some drawn by them."""
        surveyed = rng.integers(len(self.gram), size=WHOLE_SET)
        lengths = np.diag(self.gram)[surveyed]
        drawn, chances = drawn_by_length(lengths, EXAMPLES, rng)
        rows = surveyed[drawn]
        products = self.gram[np.ix_(rows, rows)]
        return surveyed_noise(lengths, drawn, chances, products, squared_mean=(1.0, 1.0))

    def few(self, rng: np.random.Generator) -> PilotNoise:
        """Take the products of some random examples."""
        chosen = rng.permutation(len(self.gram))[:EXAMPLES]
        return pilot_noise(self.gram[np.ix_(chosen, chosen)])

    def miss_curve(self, epsilon: float, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Give log batch sizes and logs of the chance of a miss, falling."""
        sizes = np.unique(np.geomspace(24, 1500, 28).round().astype(int))
        chances = np.array([self.miss(int(size), epsilon, draws, rng) for size in sizes])
        chances = np.minimum.accumulate(np.maximum(chances, 0.3 / draws))
        return np.log(np.stack([sizes, chances]))

    def miss(self, size: int, epsilon: float, draws: int, rng: np.random.Generator) -> float:
        """Give the share of minibatches that are too far off."""
        count, missed = len(self.gram), 0
        for start in range(0, draws, 1000):
            block = min(1000, draws - start)
            weights = np.zeros((block, count), dtype=np.float32)
            picked = rng.integers(count, size=(block, size))
            np.add.at(weights, (np.arange(block)[:, None], picked), 1.0 / size)
            errors = ((weights @ self.rows.astype(np.float32)) ** 2).sum(axis=1)
            missed += int((errors > epsilon**2).sum())
        return missed / draws


def study(population: Population, delta: float, seed: int) -> dict[str, object]:
    """Count kept promises at one moment and one chance of a miss."""
    rng = np.random.default_rng([seed, round(1 / delta)])
    epsilon = math.sqrt(population.trace / MEAN_SQUARE_SIZE)
    curve = population.miss_curve(epsilon, DRAWS[delta], rng)
    least = math.exp(np.interp(-math.log(delta), -curve[1], curve[0]))

    def chance(size: np.ndarray) -> np.ndarray:
        return np.exp(np.interp(np.log(size), curve[0], curve[1]))

    sizes: dict[str, list[float]] = {}
    noise = None
    heavy = 0
    for pilot_seed in range(PILOTS):
        few = tolerance_ladder(population.few(rng), epsilon=epsilon, confidence=1 - delta)[1]
        if few.unlimited is not None:
            sizes.setdefault("few", []).append(math.ceil(few.unlimited))
        noise = population.pilot(rng)
        heavy += noise.heavy_tailed
        for rung in tolerance_ladder(noise, epsilon=epsilon, confidence=1 - delta):
            if rung.unlimited is not None:
                sizes.setdefault(rung.guarantee, []).append(math.ceil(rung.unlimited))
        if delta == 0.05 and pilot_seed < 60:
            tries = [
                math.ceil(calibrated_bound(noise, epsilon, delta / part)[0])
                for part in (5, 25, 125)
            ]
            found = certify_tolerance(
                lambda size: population.miss(size, epsilon, 1, rng) > 0, tries, delta
            )
            if found.batch_size is not None:
                sizes.setdefault("verified", []).append(found.batch_size)
    assert noise is not None
    exact = tolerance_ladder(population.whole(noise), epsilon=epsilon, confidence=1 - delta)[
        1
    ].require()
    rungs = {
        name: {
            "promise_kept": float(np.mean(chance(np.array(found)) <= 1.2 * delta)),
            "over_least_median": float(np.median(found)) / least,
            "over_least_90": float(np.quantile(found, 0.9)) / least,
            "answered": len(found) / PILOTS,
        }
        for name, found in sizes.items()
    }
    return {
        "delta": delta,
        "least_batch_size": least,
        "rungs": rungs,
        "whole": {"over_least": exact / least, "miss": float(chance(np.array([exact]))[0])},
        "pilots_that_look_heavy_tailed": heavy / PILOTS,
    }


def main() -> None:
    chosen = options(__doc__ or "", "tolerance_promises").parse_args()
    torch.set_num_threads(1)
    began, cpu = time.time(), time.process_time()
    rows = []
    for task, moments in MOMENTS:
        for steps in moments:
            population = Population.of(trained(task, steps, chosen.seed))
            own = np.diag(population.gram)
            for delta in DRAWS:
                row = {
                    "task": task.name,
                    "steps": steps,
                    "largest_over_mean": float(own.max() / own.mean()),
                    **study(population, delta, chosen.seed),
                }
                rung = row["rungs"]["calibrated"]  # type: ignore[index]
                row["met"] = rung["promise_kept"] >= 0.9 and rung["over_least_median"] <= 1.6
                rows.append(row)
                print(task.name, steps, delta, rung, row["whole"], file=sys.stderr, flush=True)
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        met=f"{sum(bool(row['met']) for row in rows)} of {len(rows)}",
        moments=rows,
    )


if __name__ == "__main__":
    main()
