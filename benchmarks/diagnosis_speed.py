"""How fast a diagnosis is, how its work grows, and how far from another version's its numbers lie.

Each run is a process of its own; the time is that of ``diagnose`` alone, without drawing the table.
With ``--before``, the ``src`` of another version, both run in turn, three times each, and every
number of the two answers is compared (relative to the largest of its array). Versions that found
the ends of intervals to 1e-9 of where they were looked for differ there by some 1e-8. CPU seconds
are given beside wall seconds, which on a machine that others use say little.

    python benchmarks/diagnosis_speed.py --before /path/to/other/src
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent.parent / "src"
#: Specimens, features: more specimens than features, and the reverse.
COMPARED = ((10_000, 2_000), (1_000, 20_000))
GROWTH = {
    "specimens_at_2000_features": [(n, 2_000) for n in (2_500, 5_000, 10_000, 20_000)],
    "specimens_at_20000_features": [(n, 20_000) for n in (125, 250, 500, 1_000)],
    "features_at_1000_specimens": [(1_000, g) for g in (2_500, 5_000, 10_000, 20_000)],
}
RUNS = 3


def worker(specimens: int, features: int, seed: int) -> None:
    """Diagnose one drawn table, and print times and all numbers."""
    from batchsense.experiments import ColumnKinds, Table, diagnose

    rng = np.random.default_rng(seed)
    month, drug = rng.integers(4, size=specimens), rng.integers(2, size=specimens)
    age = rng.normal(size=specimens)
    values = rng.normal(size=(specimens, 10)) @ rng.normal(size=(10, features))
    values += rng.normal(size=(specimens, features)) + rng.normal(size=(4, features))[month] + 5
    sheet = {"month": [f"m{k}" for k in month], "drug": [f"d{k}" for k in drug], "age": age}
    table = Table.from_arrays(values, sheet)
    wall, cpu = time.perf_counter(), time.process_time()
    found = diagnose(table, "month", ["drug", "age"], kinds=ColumnKinds((), ("age",)), seed=seed)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "numbers": numbers(found)}))


def numbers(found: Any) -> list[list[float]]:
    """Every number of an answer, array by array."""
    if dataclasses.is_dataclass(found):
        parts = [
            getattr(found, field.name)
            for field in dataclasses.fields(found)
            if field.name != "design"
        ]
    elif isinstance(found, dict):
        parts = list(found.values())
    elif isinstance(found, tuple | list):
        parts = list(found)
    elif isinstance(found, np.ndarray):
        return [found.astype(float).ravel().tolist()] if found.dtype.kind in "fi" else []
    else:
        real = isinstance(found, int | float) and math.isfinite(found)
        return [[float(found)]] if real else []
    return [one for part in parts for one in numbers(part)]


def run(source: Path, specimens: int, features: int, seed: int) -> dict[str, Any]:
    """One run of one version in a fresh process."""
    command = [sys.executable, __file__, "--worker", str(specimens), str(features), str(seed)]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def apart(one: list[list[float]], other: list[list[float]]) -> float:
    """The largest difference, relative to the largest number of its array."""
    return max(
        float(np.abs(np.subtract(a, b)).max() / (np.abs(a).max() or 1.0))
        for a, b in zip(one, other, strict=True)
        if len(a)
    )


def compared(before: Path, specimens: int, features: int, seed: int) -> dict[str, Any]:
    """Both versions in turn."""
    pairs = []
    for _ in range(RUNS):
        pairs.append([run(source, specimens, features, seed) for source in (before, HERE)])
        print(specimens, features, [{k: p[k] for k in ("wall", "cpu")} for p in pairs[-1]])
    entry: dict[str, Any] = {"specimens": specimens, "features": features}
    for clock in ("cpu", "wall"):
        entry[clock] = {
            "before": statistics.median(old[clock] for old, _ in pairs),
            "now": statistics.median(new[clock] for _, new in pairs),
            "ratio": statistics.median(old[clock] / new[clock] for old, new in pairs),
        }
    return {**entry, "largest_difference": apart(*(one["numbers"] for one in pairs[0]))}


def main() -> None:
    """Compare, then measure how the work grows."""
    from common import record

    parser = record.options(__doc__.splitlines()[0], "diagnosis_speed")
    parser.add_argument("--before", type=Path, help="The src folder of another version.")
    asked = parser.parse_args()
    began = time.time()
    found: dict[str, Any] = {"runs": RUNS, "permutations": 200, "terms": 5}
    if asked.before:
        found["against_before"] = [compared(asked.before, *size, asked.seed) for size in COMPARED]
    for name, sizes in GROWTH.items():
        cpu = [run(HERE, *size, asked.seed)["cpu"] for size in sizes]
        grown = [size[0 if name.startswith("specimens") else 1] for size in sizes]
        slope = float(np.polyfit(np.log(grown), np.log(cpu), 1)[0])
        found[name] = {"sizes": grown, "cpu_seconds": cpu, "exponent": slope}
        print(name, found[name])
    record.write(asked.output, asked.seed, began, sum(os.times()[:4]), **found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*map(int, sys.argv[2:]))
    else:
        main()
