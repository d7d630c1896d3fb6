"""Whether four times the batch size, with rescaled settings, trains alike at equal examples.

Pairs of runs see the same examples in the same order: one at batch size B, one at 4B after
``rescale(optimizer, 4)``; 4B is below half the critical batch size, measured along a run to the end
of the range. Compared is the loss of all training data (smoothed over neighbouring evaluations) at
four numbers of examples, as the mean log ratio over them. ``not rescaled`` is the same pair with
the settings left as they are. Wanted: within 3 %, SGD and Adam, five seeds each.

    python benchmarks/rescaling.py [-o benchmarks/results/rescaling.json]
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from common.record import options, write
from common.tasks import BATCH_SIZE, CHARACTERS, DIGITS_ADAM, DIGITS_SGD, Task

from batchsense.training import Workload, rescale
from batchsense.training.gradient_noise import critical_batch_size_of_path, record_short_run

SEEDS = 5
#: Learning rates over the one that is fastest at batch size 16.
RATES = (0.5, 1.0)
#: Batch size, and the examples after which the loss is compared.
SMALL = 2
LEVELS = {
    DIGITS_SGD.name: (4000, 6000, 9000, 13000),
    DIGITS_ADAM.name: (4000, 6000, 9000, 13000),
    CHARACTERS.name: (1000, 1500, 2200, 3200),
}


def losses(
    workload: Workload, levels: tuple[int, ...], size: int, factor: float, rate: float, seed: int
) -> np.ndarray:
    """Train and give the log loss at each number of examples, averaged over 15 % before it."""
    model = workload.fresh_model()
    optimizer = workload.fresh_optimizer(model)
    rescale(optimizer, SMALL / BATCH_SIZE)
    if factor != 1:
        rescale(optimizer, factor)
    for group in optimizer.param_groups:
        group["lr"] *= rate
    rng = np.random.default_rng(seed)
    count = len(workload.examples)
    order = np.concatenate([rng.permutation(count) for _ in range(levels[-1] // count + 1)])
    judged = workload.minibatch(np.random.default_rng(99).permutation(count)[:512])
    # Both runs are judged after the same numbers of examples.
    every = max(8, levels[0] // 40 // 8 * 8)
    seen, found = [], []
    for start in range(0, levels[-1], size):
        optimizer.zero_grad()
        workload.loss(model, workload.minibatch(order[start : start + size])).backward()
        optimizer.step()
        if (start + size) % every == 0:
            with torch.no_grad():
                found.append(workload.loss(model, judged).item())
            seen.append(start + size)
    at, value = np.array(seen), np.log(np.array(found))
    return np.array([value[(at > 0.85 * level) & (at <= level)].mean() for level in levels])


def study(task: Task, rate: float, seed: int) -> dict[str, Any]:
    """Compare pairs of runs of one task at one learning rate."""
    workload, levels = task.build(), LEVELS[task.name]
    records, _ = record_short_run(workload, levels[-1] // BATCH_SIZE, BATCH_SIZE, seed=seed)
    critical = critical_batch_size_of_path(records).critical_batch_size
    pairs, without = [], []
    for own in np.random.SeedSequence(seed).generate_state(SEEDS):
        small = losses(workload, levels, SMALL, 1, rate, int(own))
        pairs.append(losses(workload, levels, 4 * SMALL, 4, rate, int(own)) - small)
        without.append(losses(workload, levels, 4 * SMALL, 1, rate, int(own)) - small)
    by_seed = np.exp(np.mean(pairs, axis=1)) - 1
    mean = float(np.exp(np.mean(pairs)) - 1)
    return {
        "task": task.name,
        "learning_rate_over_fastest": rate,
        "batch_sizes": [SMALL, 4 * SMALL],
        "critical_batch_size": {"estimate": critical.estimate, "low": critical.low},
        "below_half_the_critical": critical.estimate / 2 >= 4 * SMALL,
        "loss_change": mean,
        "standard_error": float(np.std(np.mean(pairs, axis=1), ddof=1) / np.sqrt(SEEDS)),
        "loss_change_by_seed": by_seed.tolist(),
        "loss_change_by_examples": dict(
            zip(map(str, levels), (np.exp(np.mean(pairs, axis=0)) - 1).tolist(), strict=True)
        ),
        "not_rescaled": float(np.exp(np.mean(without)) - 1),
        "met": abs(mean) <= 0.03,
    }


def main() -> None:
    chosen = options(__doc__ or "", "rescaling").parse_args()
    torch.set_num_threads(1)
    began, cpu, rows = time.time(), time.process_time(), []
    for task in (DIGITS_SGD, DIGITS_ADAM, CHARACTERS):
        for rate in RATES:
            rows.append(study(task, rate, chosen.seed))
            print(rows[-1], file=sys.stderr, flush=True)
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        met=f"{sum(bool(row['met']) for row in rows)} of {len(rows)}",
        pairs=rows,
    )


if __name__ == "__main__":
    main()
