"""How often minibatch noise carries a weight over a barrier, against Kramers' law.

A double well, tilted a little by each example, so that the noise is the same everywhere. Arrhenius:
log rate against barrier over kT, by kT, each from runs of their own. Equal heat: the same η/B at
learning rates that differ 32-fold. Shuffling: the rate under epoch shuffling over that under
drawing with replacement, by how many relaxation times an epoch lasts. No two runs share a seed.
Wanted: slope −1 within .08 with R² of .99 or more; under .02 of the rate at 5 relaxation times an
epoch, over .8 at 500.

    python benchmarks/escapes.py [-o benchmarks/results/escapes.json]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common.record import options, write

from batchsense.training.simulate import DoubleWell, count_escapes, example_tilts
from batchsense.training.temperature import SgdSetting, escape_rate

BARRIER, REPLICAS, WANTED = 0.25, 400, 1500
WELL = DoubleWell(BARRIER)


def row(seeds: Iterator[int], ratio: float, setting: SgdSetting, wanted: int) -> dict[str, Any]:
    """Count escapes at a barrier of so many kT under drawing with replacement or by epoch."""
    assert setting.examples is not None
    noise = (
        BARRIER / ratio * 2 * setting.batch_size * (1 - setting.momentum) / setting.learning_rate
    )
    free = SgdSetting(setting.learning_rate, setting.batch_size, setting.momentum)
    law = escape_rate(BARRIER, WELL.curvature_minimum, WELL.curvature_barrier, noise, free)
    tilts = example_tilts(setting.examples, 1, noise, next(seeds))
    steps = min(int(wanted / (law.per_step * REPLICAS)), 200_000)
    found = count_escapes(WELL, tilts, setting, steps=steps, replicas=REPLICAS, seed=next(seeds))
    warned = escape_rate(BARRIER, WELL.curvature_minimum, WELL.curvature_barrier, noise, setting)
    return {
        "barrier_over_kt": ratio,
        "learning_rate": setting.learning_rate,
        "batch_size": setting.batch_size,
        "sampling": setting.sampling,
        "escapes": found.count,
        "rate": found.per_time,
        "over_kramers": found.per_time / law.per_time,
        "error": found.error / law.per_time,
        "doubts": list(warned.doubts),
    }


def main() -> None:
    chosen = options(__doc__ or "", "escapes").parse_args()
    began, cpu = time.time(), time.process_time()
    seeds = iter(np.random.SeedSequence(chosen.seed).generate_state(200).tolist())
    arrhenius, equal, shuffled = [], [], []
    for ratio in (3.0, 3.6, 4.2, 4.8, 5.4, 6.0):
        arrhenius.append(row(seeds, ratio, SgdSetting(0.02, 4, examples=1024), WANTED))
        print(arrhenius[-1], file=sys.stderr, flush=True)
    for size in (1, 4, 16, 32):
        setting = SgdSetting(0.002 * size, size, examples=1024)
        equal.append(row(seeds, 4.0, setting, WANTED // 2))
        print(equal[-1], file=sys.stderr, flush=True)
    for relaxations in (1.5, 5.0, 15.0, 50.0, 150.0, 500.0):
        # Longer epochs by more examples; ηλ of the well stays .04.
        examples = 4 * round(relaxations / (0.02 * WELL.curvature_minimum))
        by_way = [
            row(seeds, 4.0, SgdSetting(0.02, 4, 0.0, examples, sampling), WANTED // 2)
            for sampling in ("replacement", "epoch")
        ]
        shuffled.append(
            {
                "relaxations_per_epoch": relaxations,
                "ratio": by_way[1]["rate"] / by_way[0]["rate"],
                "escapes": [way["escapes"] for way in by_way],
                "warned": bool(by_way[1]["doubts"]),
            }
        )
        print(shuffled[-1], file=sys.stderr, flush=True)
    x = np.array([one["barrier_over_kt"] for one in arrhenius])
    y = np.log([one["rate"] for one in arrhenius])
    slope, level = np.polyfit(x, y, 1)
    left = y - slope * x - level
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        slope=-float(slope),
        r_squared=1 - float(left.var() / y.var()),
        arrhenius=arrhenius,
        equal_heat=equal,
        equal_heat_scatter=float(np.std([one["rate"] for one in equal], ddof=1))
        / float(np.mean([one["rate"] for one in equal])),
        shuffling=shuffled,
    )


if __name__ == "__main__":
    main()
