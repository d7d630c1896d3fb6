"""The critical batch size along a short run against that of a full sweep.

Each task trains at batch size 16 with a learning rate that suits it, and B_crit is integrated from
the noise of that run down to each target loss. Then copies are trained to the same loss at five
batch sizes from an eighth to eight times that value, with learning rates searched at each size and
five orders of the examples, and S = S_min (1 + B_crit/B) is fitted. Reported is the ratio of the
two; wanted is a factor of at most 1.6, for an Adam MLP of at most 3 with the warning that plans
print.

    python benchmarks/critical_batch_size.py [-o benchmarks/results/critical_batch_size.json]
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import torch
from common.record import options, write
from common.tasks import (
    BATCH_SIZE,
    CHARACTERS,
    DIGITS_ADAM,
    DIGITS_CONVOLUTION,
    DIGITS_SGD,
    TEACHER,
    Task,
)
from sklearn.isotonic import IsotonicRegression

from batchsense.training import check_workload
from batchsense.training.gradient_noise import (
    PathNoise,
    PathRecords,
    critical_batch_size_of_path,
    record_short_run,
)
from batchsense.training.verify import Advice
from batchsense.training.verify.advice import swept_sizes
from batchsense.training.verify.sweeping import SweepStore, sweep
from batchsense.training.verify.verdict import judge

TASKS = (DIGITS_SGD, CHARACTERS, TEACHER, DIGITS_ADAM, DIGITS_CONVOLUTION)
WANTED = {DIGITS_ADAM.name: 3.0}
RUNS = 3
STEPS = 1000
REPEATS = 5


def cut_at(records: PathRecords, target: float) -> PathRecords | None:
    """Keep the run down to where the trend of its loss reaches the target.

    The trend is the falling sequence that fits best. A moving average of so small minibatches
    dips below the target long before the loss does.
    """
    steps = np.arange(len(records.loss))
    trend = IsotonicRegression(increasing=False).fit_transform(steps, records.loss)
    arrived = np.flatnonzero(trend <= target)
    if len(arrived) == 0:
        return None
    end = max(int(arrived[0]), 16)
    parts = (records.trace_covariance, records.squared_gradient_norm, records.loss)
    tau, gamma, loss = (part[:end] for part in parts)
    return replace(records, trace_covariance=tau, squared_gradient_norm=gamma, loss=loss)


def swept(task: Task, target: float, path: PathNoise, seed: int) -> dict[str, object]:
    """Sweep around the path's value."""
    workload = task.build()
    critical = path.critical_batch_size.estimate
    advice = Advice(
        batch_size=max(2, round(critical)),
        critical_batch_size=path.critical_batch_size,
        used_critical_batch_size=critical,
        target_loss=target,
        learning_rate_batch_size=BATCH_SIZE,
        steps=path.steps,
        run_batch_size=BATCH_SIZE,
        largest=len(workload.examples),
    )
    sizes = swept_sizes(advice.batch_size, advice.largest)
    store = SweepStore("benchmark")
    store.keep_step_seconds(dict.fromkeys(sizes, 1.0))  # only steps matter here
    found = sweep(workload, advice, sizes, store, budget=1e9, repeats=REPEATS, seed=seed)
    law = judge(advice, found).law
    interval = law.critical_batch_size
    return {
        "swept": {"estimate": interval.estimate, "low": interval.low, "high": interval.high},
        "minimum_steps": law.minimum_steps.estimate,
        "misfit": law.misfit,
        "sizes": [
            {
                "batch_size": size.batch_size,
                "steps": list(size.steps),
                "learning_rate_multiplier": size.multiplier,
                "at_edge": size.at_edge,
            }
            for size in found.sizes
        ],
    }


def measure(task: Task, seed: int) -> list[dict[str, object]]:
    """Compare path and sweep at every target of a task."""
    workload = task.build()
    check_workload(workload)
    runs = [
        record_short_run(workload, STEPS, BATCH_SIZE, seed=int(run))[0]
        for run in np.random.SeedSequence(seed).generate_state(RUNS)
    ]
    rows = []
    for target in task.targets:
        cuts = [cut for records in runs if (cut := cut_at(records, target)) is not None]
        paths = sorted(
            (critical_batch_size_of_path(cut) for cut in cuts),
            key=lambda path: path.critical_batch_size.estimate,
        )
        middle = paths[len(paths) // 2]
        row = swept(task, target, middle, seed)
        ratio = middle.critical_batch_size.estimate / row["swept"]["estimate"]  # type: ignore[index]
        wanted = WANTED.get(task.name, 1.6)
        rows.append(
            {
                "task": task.name,
                "target_loss": target,
                "path": [
                    {
                        "estimate": path.critical_batch_size.estimate,
                        "low": path.critical_batch_size.low,
                        "high": path.critical_batch_size.high,
                        "steps": path.steps,
                    }
                    for path in paths
                ],
                **row,
                "ratio": ratio,
                "wanted": wanted,
                "met": max(ratio, 1 / ratio) <= wanted,
                "path_resolved": middle.resolved,
                "marked_low_confidence": task.optimizer == "adam" or not middle.resolved,
            }
        )
        print(f"{task.name}, loss {target}: ratio {ratio:.2f}", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    chosen = options(__doc__ or "", "critical_batch_size").parse_args()
    torch.set_num_threads(1)
    began, cpu = time.time(), time.process_time()
    rows = [row for task in TASKS for row in measure(task, chosen.seed)]
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        met=f"{sum(bool(row['met']) for row in rows)} of {len(rows)}",
        tasks=rows,
    )


if __name__ == "__main__":
    main()
