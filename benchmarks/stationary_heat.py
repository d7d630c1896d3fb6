"""Predicted over measured heat in a quadratic bowl, for every way of drawing minibatches.

A linear regression (1,024 examples, 10 weights, curvatures 1 to 20) is trained by real minibatches:
four learning rates × four batch sizes × momentum 0 and .9 × replacement, per step and by epoch.
``naive`` is η tr C/(4B(1 − m)). Wanted: prediction over measurement in [.95, 1.06] in all 96 cells.
Where the measured error of a cell is above 1.5 % the run is repeated with more replicas.

    python benchmarks/stationary_heat.py [-o benchmarks/results/stationary_heat.json]
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common.record import options, write

from batchsense.errors import UnresolvedError
from batchsense.training.simulate import MeasuredHeat, RegressionBowl, simulate_bowl
from batchsense.training.temperature import SgdSetting, predict_heat
from batchsense.training.temperature.setting import SAMPLINGS

EXAMPLES, WEIGHTS, CONDITION = 1024, 10, 20
#: ηλ/(1 − m) of the steepest direction.
PACES = (0.02, 0.1, 0.3, 1.0)
BATCH_SIZES = (4, 16, 64, 256)
ENOUGH = 0.015
#: Near the edge of stability the excess loss has a heavy tail, and its mean wants many replicas.
MOST_REPEATS = 200


def bowl(seed: int) -> RegressionBowl:
    """Draw the regression."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(EXAMPLES, WEIGHTS)) / np.sqrt(np.geomspace(CONDITION, 1, WEIGHTS))
    return RegressionBowl(features, features @ rng.normal(size=WEIGHTS) + rng.normal(size=EXAMPLES))


def measured(world: RegressionBowl, setting: SgdSetting, pace: float, seed: Any) -> MeasuredHeat:
    """Run 64 replicas after 2 relaxation times of the slowest direction, for 6 of them.

    The slow directions hold little of the heat: it goes with the curvature here.
    """
    relaxed = CONDITION / pace
    settle, steps = int(2 * relaxed) + 50, int(6 * relaxed) + 50
    if setting.sampling == "epoch":
        epoch = setting.steps_per_epoch
        settle, steps = -(-settle // epoch) * epoch, -(-steps // epoch) * epoch
    own = int(seed.generate_state(1)[0])
    return simulate_bowl(world, setting, settle=settle, steps=steps, replicas=64, seed=own)


def cell(world: RegressionBowl, setting: SgdSetting, pace: float, seed: Any) -> dict[str, Any]:
    """Compare one cell."""
    runs: list[MeasuredHeat] = []
    for child in seed.spawn(MOST_REPEATS):
        runs.append(measured(world, setting, pace, child))
        mean = float(np.mean([run.mean for run in runs]))
        error = float(np.sqrt(np.sum([run.error**2 for run in runs])) / len(runs))
        if error <= ENOUGH * mean:
            break
    row: dict[str, Any] = {
        "momentum": setting.momentum,
        "sampling": setting.sampling,
        "batch_size": setting.batch_size,
        "pace": pace,
        "measured": mean,
        "error": error / mean,
        "replicas": 64 * len(runs),
    }
    try:
        found = predict_heat(world.hessian, world.covariance, setting, world.features)
    except UnresolvedError:
        return {**row, "ratio": None, "naive_ratio": None}
    return {**row, "ratio": found.total / mean, "naive_ratio": found.naive / mean}


def main() -> None:
    chosen = options(__doc__ or "", "stationary_heat").parse_args()
    began, cpu = time.time(), time.process_time()
    world = bowl(chosen.seed)
    steepest = float(np.linalg.eigvalsh(world.hessian)[-1])
    grid = list(itertools.product((0.0, 0.9), SAMPLINGS, BATCH_SIZES, PACES))
    rows = []
    for place, seed in zip(grid, np.random.SeedSequence(chosen.seed).spawn(len(grid)), strict=True):
        momentum, sampling, size, pace = place
        rate = pace * (1 - momentum) / steepest
        rows.append(cell(world, SgdSetting(rate, size, momentum, EXAMPLES, sampling), pace, seed))
        print(rows[-1], file=sys.stderr, flush=True)
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        within=sum(0.95 <= ratio <= 1.06 for ratio in ratios),
        extremes=[min(ratios), max(ratios)],
        naive_furthest_off=max(row["naive_ratio"] or 0.0 for row in rows),
        cells=rows,
    )


if __name__ == "__main__":
    main()
