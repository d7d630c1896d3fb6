"""How often an interval over batches holds the truth, by the number of batches.

Every batch has its own error rate on shuffled folds (Beta) and, left out, that rate times a factor
(log-normal); both are seen through as many rows as it has. Reported is how often intervals of 95 %
hold the error left out, the difference and the ratio of all batches from which these were drawn:
Student's t over batches, which `batch_gap` uses, beside resampling whole batches, which it used
before.

    python benchmarks/gap_intervals.py [-o benchmarks/results/gap_intervals.json]
"""

from __future__ import annotations

import time

import numpy as np
from common.record import options, write

from batchsense.experiments.validation.over_groups import mean_over_groups, ratio_over_groups

COUNTS = (2, 3, 5, 8, 14, 30)
REPEATS, DRAWS = 2000, 600
#: Rows per batch (and whether they vary sixfold), shuffled error, log of the factor: mean and SD.
SCENES = {
    "40 rows, 10 % errors, gap": (40, False, 0.10, 1.0, 0.5),
    "13 to 80 rows, 10 % errors, gap": (40, True, 0.10, 1.0, 0.5),
    "40 rows, 30 % errors, no gap": (40, False, 0.30, 0.0, 0.1),
    "120 rows, 2 % errors, uneven gap": (120, False, 0.02, 1.0, 0.8),
}


def rates(rng: np.random.Generator, count: int, scene: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Draw the true error rates of batches: shuffled, left out."""
    _, _, mean, factor, spread = scene
    shuffled = rng.beta(20 * mean, 20 * (1 - mean), count)
    return shuffled, np.minimum(shuffled * np.exp(factor + spread * rng.normal(size=count)), 1.0)


def covered(seed: list[int], count: int, scene: tuple) -> dict[str, float]:
    """Count how often each interval holds the truth."""
    rng = np.random.default_rng(seed)
    true = [part.mean() for part in rates(rng, 1_000_000, scene)]
    hits = dict.fromkeys(("left out", "difference", "ratio", "ratio, resampled"), 0)
    used = 0
    for _ in range(REPEATS):
        rows = rng.integers(13, 81, count) if scene[1] else np.full(count, scene[0])
        shuffled, left_out = rates(rng, count, scene)
        shuffled = rng.binomial(3 * rows, shuffled) / (3 * rows)
        left_out = rng.binomial(rows, left_out) / rows
        if shuffled.sum() == 0 or left_out.sum() == 0:
            continue
        used += 1
        hits["left out"] += true[1] in mean_over_groups(left_out)
        hits["difference"] += true[1] - true[0] in mean_over_groups(left_out - shuffled)
        hits["ratio"] += true[1] / true[0] in ratio_over_groups(left_out, shuffled)
        drawn = rng.multinomial(count, np.full(count, 1 / count), DRAWS)
        below = drawn @ shuffled
        ratios = np.where(below > 0, drawn @ left_out / np.where(below > 0, below, 1), np.inf)
        low, high = np.quantile(ratios, (0.025, 0.975), method="nearest")
        hits["ratio, resampled"] += low <= true[1] / true[0] <= high
    return {name: hit / used for name, hit in hits.items()} | {"simulated": used}


def main() -> None:
    chosen = options(__doc__ or "", "gap_intervals").parse_args()
    began, cpu, rows = time.time(), time.process_time(), []
    for place, (name, scene) in enumerate(SCENES.items()):
        for count in COUNTS:
            rows.append(
                {
                    "scene": name,
                    "batches": count,
                    **covered([chosen.seed, place, count], count, scene),
                }
            )
            print(rows[-1], flush=True)
    write(chosen.output, chosen.seed, began, time.process_time() - cpu, level=0.95, rows=rows)


if __name__ == "__main__":
    main()
