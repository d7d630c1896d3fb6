"""How often 95 % intervals of the noise scale contain the truth, on a real net.

At four moments of its training, the gradients of all 1,797 digits are known one by one, so the
truth is exact and every minibatch can be evaluated from their inner products alone. Two ways of
measuring:

- a meter: 16 or 64 steps of 32 examples at fixed weights, seen as single examples, as 8 or as 2
  micro-batches (:class:`GradientNoiseMeter`);
- a survey: 512 or 1,024 examples at once, as single examples, 32 or 8 micro-batches
  (``batchsense noise``).

Reported per setting: coverage, the share of intervals that exclude the truth by more than a factor
of two, the share that are resolved, unbounded, and negative estimates that were not clamped.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common.record import options, write
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from batchsense.training import digits_workload
from batchsense.training.gradient_noise import NoiseMoments, noise_of_two_sizes, noise_report
from batchsense.training.gradient_noise.estimators import moments_of_layers, pseudo_values
from batchsense.training.gradient_noise.layers import Layers
from batchsense.training.gradient_noise.meter.pooling import RunSoFar, report_of_steps
from batchsense.training.gradient_noise.meter.records import StepNoise
from batchsense.variation.interval import Interval

CHECKPOINTS = (0, 100, 500, 2000)
BATCH_SIZE, EXAMPLES = 32, 1797
METER = [(steps, parts) for steps in (16, 64) for parts in (BATCH_SIZE, 8, 2)]
SURVEY = [(n, parts, single) for n in (512, 1024) for parts, single in ((32, 1), (32, 0), (8, 0))]


def gram(model: nn.Module, job: Any) -> np.ndarray:
    weights = {name: p.detach() for name, p in model.named_parameters()}
    x, y = job.minibatch(range(EXAMPLES))

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return functional.cross_entropy(functional_call(model, weights, (x[None],)), y[None])

    single = vmap(grad(loss), in_dims=(None, 0, 0))
    parts = [
        torch.cat(
            [g.flatten(1) for g in single(weights, x[i : i + 300], y[i : i + 300]).values()], 1
        )
        for i in range(0, EXAMPLES, 300)
    ]
    flat = torch.cat(parts)
    return (flat @ flat.T).double().numpy()


def parts_of(products: np.ndarray, chosen: np.ndarray, parts: int) -> np.ndarray:
    each = len(chosen) // parts
    blocks = products[np.ix_(chosen, chosen)].reshape(parts, each, parts, each)
    return blocks.sum(axis=(1, 3)) / each**2


def metered(
    products: np.ndarray, steps: int, parts: int, rng: np.random.Generator
) -> tuple[Interval, bool]:
    rows = []
    for step in range(steps):
        chosen = rng.choice(EXAMPLES, size=BATCH_SIZE, replace=False)
        means = parts_of(products, chosen, parts)
        tau, gamma = noise_of_two_sizes(
            np.trace(means) / parts, BATCH_SIZE / parts, means.mean(), BATCH_SIZE, EXAMPLES
        )
        rows.append(StepNoise(step, BATCH_SIZE, BATCH_SIZE, float(tau), float(gamma), 0.0, None))
    report = report_of_steps(
        rows,
        Layers.of(["all"], [1]),
        RunSoFar(steps, single_examples=parts == BATCH_SIZE, family="sgd"),
        pooled=64,
    )
    return report.noise_scale, report.resolved


def surveyed(
    products: np.ndarray, drawn: int, parts: int, single: int, rng: np.random.Generator
) -> tuple[Interval, bool]:
    chosen = rng.choice(EXAMPLES, size=drawn, replace=False)
    means, sizes = parts_of(products, chosen, parts)[None], np.full(parts, drawn // parts)
    squares = None
    if single:
        squares = products[chosen, chosen].reshape(parts, -1).sum(axis=1)[None]
    estimate = moments_of_layers(means, sizes, squares, EXAMPLES)[0]
    values = pseudo_values(means, sizes, squares)[:, 0]
    left = 1 - drawn / EXAMPLES
    shrink = np.array([[left if single else 1.0, left], [left, left]])
    report = noise_report(
        NoiseMoments(float(estimate[0]), float(estimate[1])),
        np.cov(values.T) / parts * shrink,
        parts - 1,
        drawn,
        EXAMPLES,
    )
    return report.noise_scale, report.resolved


def summary(found: list[tuple[Interval, bool]], truth: float) -> dict[str, float]:
    intervals = [interval for interval, _ in found]
    far = [i.low > 2 * truth or i.high < truth / 2 for i in intervals]
    return {
        "coverage": float(np.mean([truth in i for i in intervals])),
        "wrong_by_two": float(np.mean(far)),
        "resolved": float(np.mean([resolved for _, resolved in found])),
        "unbounded": float(np.mean([not i.bounded for i in intervals])),
        "signal_not_positive": float(np.mean([not np.isfinite(i.estimate) for i in intervals])),
        "below_zero": float(np.mean([i.low < 0 for i in intervals])),
    }


def main() -> None:
    parser = options(__doc__ or "", "noise_coverage")
    parser.add_argument("--repeats", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, cpu = time.time(), time.process_time()
    job = digits_workload()
    model = job.fresh_model()
    optimizer = job.fresh_optimizer(model)
    draws, *streams = np.random.SeedSequence(arguments.seed).spawn(1 + len(CHECKPOINTS))
    rng, done, rows = np.random.default_rng(draws), 0, []
    for checkpoint, stream in zip(CHECKPOINTS, streams, strict=True):
        for _ in range(checkpoint - done):
            optimizer.zero_grad()
            job.loss(model, job.minibatch(rng.integers(EXAMPLES, size=BATCH_SIZE))).backward()
            optimizer.step()
        done = checkpoint
        products = gram(model, job)
        signal = products.mean()
        truth = float((np.trace(products) / EXAMPLES - signal) / signal)
        seeds = iter(stream.spawn(len(METER) + len(SURVEY)))
        for steps, parts in METER:
            draw = np.random.default_rng(next(seeds))
            found = [metered(products, steps, parts, draw) for _ in range(arguments.repeats)]
            seen = "single examples" if parts == BATCH_SIZE else f"{parts} micro-batches"
            where = {"way": "meter", "steps": steps, "examples": steps * BATCH_SIZE, "seen": seen}
            rows.append({"after": checkpoint, "truth": truth, **where, **summary(found, truth)})
            print(rows[-1], flush=True)
        for drawn, parts, single in SURVEY:
            draw = np.random.default_rng(next(seeds))
            found = [
                surveyed(products, drawn, parts, single, draw) for _ in range(arguments.repeats)
            ]
            seen = "single examples" if single else f"{parts} micro-batches"
            where = {"way": "survey", "steps": 1, "examples": drawn, "seen": seen}
            rows.append({"after": checkpoint, "truth": truth, **where, **summary(found, truth)})
            print(rows[-1], flush=True)
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        repeats=arguments.repeats,
        wanted={"coverage": [0.92, 0.985], "wrong_by_two": 0.02},
        rows=rows,
    )


if __name__ == "__main__":
    main()
