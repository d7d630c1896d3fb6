"""How many counts ComBat-seq corrects as R does, and what it costs.

Agreement: the stored results of R's ``ComBat_seq`` in ``tests/references/counts``, as the share of
equal counts and the largest difference. Cost: negative binomial counts of two sizes in four
batches with one kept factor; CPU time of fit and mapping on one thread, and peak memory over that
of the counts.

    python benchmarks/combat_seq.py -o benchmarks/results/combat_seq.json
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common.record import options, write

from batchsense.experiments import CombatSeqCorrection, Table

REFERENCE = Path(__file__).parents[1] / "tests" / "references" / "counts" / "counts.npz"
CASES = {
    "simulated, group": ("simulated", ("group",), "group_less"),
    "simulated, nothing kept": ("simulated", (), "nogroup_less"),
    "few counts, group and number": ("low", ("group", "age"), "less"),
    "sparse, group": ("sparse", ("group",), "less"),
    "group constant in a batch": ("constant", ("group",), "less"),
    "batch of two": ("pair", ("group",), "less"),
}


def agreement(name: str, keep: tuple[str, ...], result: str) -> dict[str, Any]:
    """Compare with R."""
    with np.load(REFERENCE) as stored:
        counts = stored[f"{name}_counts"].astype(float)
        table = Table.from_arrays(
            counts, {column: stored[f"{name}_{column}"].tolist() for column in ("batch", *keep)}
        )
        wanted = counts + stored[f"{name}_{result}"]
    found = CombatSeqCorrection(keep=keep).fit(table, "batch").transform(table).values
    off = np.abs(found - wanted)
    return {
        "counts": int(off.size),
        "equal": float((off == 0).mean()),
        "largest_difference": float(off.max()),
        "off_by_more_than_one": int((off > 1).sum()),
    }


def cost(features: int, specimens: int, seed: int) -> dict[str, Any]:
    """Time a fit and a mapping; the peak of memory is that of the process so far."""
    rng = np.random.default_rng(seed)
    codes = np.arange(specimens) * 4 // specimens
    drug = rng.integers(0, 2, specimens)
    level = rng.normal(3, 1.5, features) + rng.normal(0, 0.5, (4, features))[codes]
    means = np.exp(level + drug[:, None] * rng.normal(0, 0.3, features))
    phi = rng.gamma(3, 0.1, (4, features))[codes]
    counts = rng.negative_binomial(1 / phi, 1 / (1 + phi * means)).astype(float)
    del level, means, phi
    table = Table.from_arrays(counts, {"batch": codes, "drug": drug})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    fitted = CombatSeqCorrection(keep=("drug",)).fit(table, "batch")
    middle = time.process_time()
    fitted.transform(table)
    end = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "features": features,
        "specimens": specimens,
        "fit_cpu_seconds": middle - begin,
        "map_cpu_seconds": end - middle,
        "counts_megabytes": counts.nbytes / 1e6,
        "peak_megabytes": peak / 1e3,
        "peak_before_megabytes": before / 1e3,
    }


def main() -> None:
    """Measure and write."""
    arguments = options(__doc__ or "", "combat_seq").parse_args()
    began = time.time()
    compared = {name: agreement(*case) for name, case in CASES.items()}
    for name, found in compared.items():
        print(f"{name}: {found['equal']:.3%} equal, at most {found['largest_difference']:g} off")
    costs = [cost(2_000, 24, arguments.seed), cost(20_000, 200, arguments.seed)]
    for found in costs:
        print({key: round(value, 1) for key, value in found.items()})
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time(),
        agreement_with_r=compared,
        wanted={"equal": 0.999, "largest_difference": 1},
        cost=costs,
    )


if __name__ == "__main__":
    main()
