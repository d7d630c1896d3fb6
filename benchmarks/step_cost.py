"""What the one optimizer step costs against the loop written out, as a ratio.

Blocks of steps by both alternate in random order; each ratio is that of two neighbouring blocks, in
CPU time of one thread, and the median is reported with a 95 % interval from the order statistics.
Three loops: the plain step (step times, sweeps, the demo, traces of memory), the step of the short
run from micro-batches, and a whole training against a loop without losses, order,
checkpoints or meter. Run it with real-time priority on a busy machine: ``chrt -r 10``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch
from common.record import options, write

from batchsense.training import Workload, charlm_workload, digits_workload
from batchsense.training.gradient_noise import path
from batchsense.training.running import (
    Ending,
    EndlessOrder,
    Ranks,
    Run,
    optimizer_step,
    train_until,
)
from batchsense.training.splitting import _LossModule
from batchsense.training.workload import loss_gradient, scalar_loss, trainable

#: Blocks of each kind, and about how long one lasts.
PAIRS, BLOCK_SECONDS = 120, 0.03


def plain(job: Workload, size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """The step of sweeps, step times and the demo."""
    minibatch = job.minibatch(range(size))
    made = [(m := job.fresh_model(), job.fresh_optimizer(m)) for _ in range(2)]
    for _, optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = 0.0

    def before() -> None:
        model, optimizer = made[0]
        optimizer.zero_grad(set_to_none=True)
        scalar_loss(job, model, minibatch).backward()
        optimizer.step()

    return before, lambda: optimizer_step(job, *made[1], [minibatch])


def short_run(job: Workload, size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """The step of the short run, in eight micro-batches."""
    chosen = np.arange(size).reshape(8, -1)
    model = job.fresh_model()
    optimizer = job.fresh_optimizer(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0

    def before() -> None:
        parameters = trainable(model)
        total: list[torch.Tensor] = []
        squares, losses = torch.zeros((), dtype=torch.float64), 0.0
        for part in chosen:
            loss = scalar_loss(job, model, job.minibatch(part))
            gradient = loss_gradient(loss, parameters)
            losses += loss.item()
            squares += path._squared_norm(gradient)
            total = [a + b for a, b in zip(total, gradient, strict=True)] if total else gradient
        mean = [part / len(chosen) for part in total]
        path._squared_norm(mean).item()
        for parameter, value in zip(parameters, mean, strict=True):
            parameter.grad = value
        optimizer.step()
        path.moments_of_examples(squares.item() / 8, 1.0, 8)

    return before, lambda: path._step(job, model, optimizer, chosen)


def whole(job: Workload, size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A hundred steps of a training, with order and losses, against those of a plain loop."""
    made = [(m := job.fresh_model(), job.fresh_optimizer(m)) for _ in range(2)]
    for _, optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    rows = np.random.default_rng(0).permutation(len(job.examples))
    run = Run(
        dataclasses.replace(job, loss=lambda module, minibatch: module(minibatch)),
        _LossModule(job, made[1][0]),
        *made[1],
        Ranks(),
        EndlessOrder(len(job.examples), 0),
        lambda steps, examples: size,
    )

    def before() -> None:
        model, optimizer = made[0]
        for k in range(100):
            part = job.minibatch(rows[k * size % 512 :][:size])
            scalar_loss(job, model, part).backward()
            optimizer.step()
            optimizer.zero_grad()

    return before, lambda: train_until(run, Ending(steps=run.record.steps + 100)) and None


def ratios(before: Callable[[], None], after: Callable[[], None], seed: int) -> list[float]:
    """CPU time of neighbouring blocks, engine over loop."""
    rng = np.random.default_rng(seed)

    def block(step: Callable[[], None], count: int) -> float:
        began = time.process_time()
        for _ in range(count):
            step()
        return time.process_time() - began

    block(before, 2), block(after, 2)
    count = max(1, round(BLOCK_SECONDS / (block(before, 3) / 3)))
    found = []
    for _ in range(PAIRS):
        if rng.integers(2):
            a = block(before, count)
            b = block(after, count)
        else:
            b = block(after, count)
            a = block(before, count)
        found.append(b / a)
    return sorted(found)


def main() -> None:
    arguments = options(__doc__ or "", "step_cost").parse_args()
    began = time.time()
    torch.set_num_threads(1)
    digits, text = digits_workload(), charlm_workload()
    rows = []
    for number, (name, job, size, kind) in enumerate(
        [
            ("plain", digits, 32, plain),
            ("plain", digits, 256, plain),
            ("plain", text, 8, plain),
            ("short run", digits, 32, short_run),
            ("short run", text, 16, short_run),
            ("whole training", digits, 32, whole),
            ("whole training", text, 8, whole),
        ]
    ):
        found = ratios(*kind(job, size), seed=arguments.seed + number)
        half = round(0.98 * np.sqrt(len(found)))
        middle = len(found) // 2
        rows.append(
            {
                "loop": name,
                "job": "digits" if job is digits else "charlm",
                "batch_size": size,
                "ratio": float(np.median(found)),
                "low": found[middle - half],
                "high": found[middle + half],
                "pairs": len(found),
            }
        )
        print(rows[-1])
    write(arguments.output, arguments.seed, began, time.process_time(), rows=rows)


if __name__ == "__main__":
    main()
