"""Time to a loss at the planned batch size against the best of a full sweep.

Each task is planned; then copies are trained to the loss where the plan's short run ended, at every
batch size of a ladder, with learning rates searched at each size and five orders of the examples.
Time is steps times the measured time of a step. Reported for the plan, for 32, for the largest that
fits and for the advice of traintools: the median over the five orders of the time over that at the
best size. Wanted for the plan: at most 1.15 on four tasks. Sizes beyond the ladder (all examples of
a large data set at once) are not trained: their steps are the fitted S_min, a lower bound, and
marked so.

traintools is not a dependency. Install it beside, and name the folder:

    pip install --target /tmp/peer traintools==0.6.2 --no-deps
    PYTHONPATH=/tmp/peer python benchmarks/plan_regret.py
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

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
from torch import Tensor
from torch.nn import functional

from batchsense.training import measure_step_time, plan_training
from batchsense.training.verify import Advice
from batchsense.training.verify.sweeping import SweepStore, sweep
from batchsense.training.verify.verdict import judge

TASKS = (DIGITS_SGD, DIGITS_ADAM, DIGITS_CONVOLUTION, TEACHER, CHARACTERS)
LADDER = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: Examples in one step that are still trained with.
LARGEST_TRAINED = {CHARACTERS.name: 256}
PLAN_SECONDS = {CHARACTERS.name: 20.0}
WANTED = 1.15


def peer_advice(peer: Any, task: Task, steps: int, seed: int) -> int:
    """Train as the plan's run did, with the peer's tracker at its defaults; take its last word."""
    workload = task.build()
    model = workload.fresh_model()
    optimizer = workload.fresh_optimizer(model)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        if task is TEACHER:
            return functional.mse_loss(output.squeeze(1), target)
        return functional.cross_entropy(output.flatten(0, -2), target.flatten())

    tracker = peer.GNSEstimator()
    rng, advice = np.random.default_rng(seed), BATCH_SIZE
    for step in range(1, steps + 1):
        rows = rng.choice(len(workload.examples), size=BATCH_SIZE, replace=False)
        minibatch = workload.minibatch(rows)
        optimizer.zero_grad()
        workload.loss(model, minibatch).backward()
        optimizer.step()
        if step % 200 == 0 or (step == steps and steps < 200):
            inputs, targets = _pair(minibatch)
            raw = peer.estimate_gns(model, loss, inputs, targets)
            found = tracker.update_from_estimates(raw.tr_sigma, raw.g_squared, BATCH_SIZE)
            advice = found.critical_batch
    return advice


def _pair(minibatch: Any) -> tuple[Tensor, Tensor]:
    if len(minibatch) == 2:
        return minibatch[0], minibatch[1]
    (windows,) = minibatch
    return windows[:, :-1], windows[:, 1:]


def study(task: Task, peer: Any, seed: int) -> dict[str, Any]:
    """Plan a task, sweep it, and compare."""
    workload = task.build()
    count = len(workload.examples)
    plan = plan_training(workload, seconds=PLAN_SECONDS.get(task.name, 10.0), seed=seed)
    fits = plan.memory.max_batch_size if plan.memory is not None else None
    largest = min(count, fits or count)
    contenders = {"plan": plan.advice.batch_size, "32": 32, "largest that fits": largest}
    if peer is not None:
        advice = peer_advice(peer, task, plan.path.steps, seed)
        contenders["traintools"] = min(advice, largest)
    trained = LARGEST_TRAINED.get(task.name, 2048)
    sizes = sorted({s for s in (*LADDER, *contenders.values()) if s <= min(trained, largest)})
    claims = Advice(
        batch_size=plan.advice.batch_size,
        critical_batch_size=plan.path.critical_batch_size,
        used_critical_batch_size=plan.advice.used_critical_batch_size,
        target_loss=plan.path.final_loss,
        learning_rate_batch_size=BATCH_SIZE,
        steps=plan.path.steps,
        run_batch_size=plan.path.batch_size,
        largest=largest,
    )
    store = SweepStore("benchmark")
    timed = measure_step_time(workload, sorted({*sizes, largest}), seconds=6.0, seed=seed)
    seconds = {int(b): float(t) for b, t in zip(timed.batch_sizes, timed.typical, strict=True)}
    store.keep_step_seconds(seconds)
    found = sweep(workload, claims, tuple(sizes), store, budget=1e9, repeats=5, seed=seed)
    law = judge(claims, found).law
    times = {
        size.batch_size: np.array(size.steps) * seconds[size.batch_size]
        for size in found.sizes
        if len(size.steps) == 5
    }
    best = min(times, key=lambda size: float(np.median(times[size])))
    rows: dict[str, Any] = {}
    for name, size in contenders.items():
        if size in times:
            ratios = times[size] / times[best]
            rows[name] = {"batch_size": size, "time_over_best": float(np.median(ratios))}
        else:
            least = law.minimum_steps.estimate * seconds.get(size, float(timed.seconds(size)))
            rows[name] = {
                "batch_size": size,
                "time_over_best": least / float(np.median(times[best])),
                "extrapolated": True,
            }
    return {
        "task": task.name,
        "target_loss": claims.target_loss,
        "planned_critical_batch_size": plan.path.critical_batch_size.estimate,
        "swept_critical_batch_size": law.critical_batch_size.estimate,
        "best": best,
        "contenders": rows,
        "median_seconds": {str(size): float(np.median(t)) for size, t in times.items()},
        "learning_rate_multipliers": {str(s.batch_size): s.multiplier for s in found.sizes},
        "met": rows["plan"]["time_over_best"] <= WANTED,
    }


def main() -> None:
    chosen = options(__doc__ or "", "plan_regret").parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        import traintools as peer  # type: ignore[import-not-found]

        skipped = None
    except ModuleNotFoundError:
        peer, skipped = None, "traintools is not installed; the head of this script says how"
        print(skipped, file=sys.stderr)
    began, cpu, rows = time.time(), time.process_time(), []
    for task in TASKS:
        rows.append(study(task, peer, chosen.seed))
        print(rows[-1], file=sys.stderr, flush=True)
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        peer=getattr(peer, "__version__", None),
        peer_skipped=skipped,
        met=f"{sum(bool(row['met']) for row in rows)} of {len(rows)}",
        tasks=rows,
    )


if __name__ == "__main__":
    main()
