"""Processor seconds of what is done with a table in memory, beside another version in turn.

Each round starts a process for each version; it does every job twice and counts the second. A tiny
diagnosis is a whole command, start-up included.

    python benchmarks/table_steps.py --before /path/to/other/src
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent.parent / "src"
ROUNDS = 5
FEATURES, SPECIMENS, MISSING = 20_000, 200, 0.02


def worker() -> None:
    """Time every job once more after it was done, and print the seconds."""
    from batchsense.experiments import ContrastOptions, Estimation, Table, find_surrogates, test

    rng = np.random.default_rng(0)
    month, drug = rng.integers(3, size=SPECIMENS), rng.integers(2, size=SPECIMENS)
    values = rng.normal(size=(SPECIMENS, FEATURES)) * np.exp(0.3 * rng.normal(size=FEATURES))
    values += rng.normal(size=(3, FEATURES))[month] + rng.normal(size=FEATURES) + 6
    sheet = {"month": [f"m{k}" for k in month], "drug": [f"d{k}" for k in drug]}
    table = Table.from_arrays(values, sheet)
    gaps = np.where(rng.random(values.shape) < MISSING, np.nan, values)
    gapped, large = Table.from_arrays(gaps, sheet), rng.normal(size=(2_000, FEATURES))
    both = ContrastOptions(trend=True, robust=True)
    jobs = {
        "test": lambda: test(table, "drug", "month"),
        "test_trend_robust": lambda: test(table, "drug", "month", options=both),
        "test_missing": lambda: test(gapped, "drug", "month"),
        "surrogates_count_given": lambda: find_surrogates(
            table, ["drug"], estimation=Estimation(count=2)
        ),
        "from_arrays": lambda: Table.from_arrays(large, {"month": ["a", "b"] * 1_000}),
    }
    found = {}
    for name, job in jobs.items():
        job()
        began = time.process_time()
        job()
        found[name] = time.process_time() - began
    print(json.dumps(found))


def of_version(source: Path) -> dict[str, float]:
    """All seconds of one version."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as name:
        rng, folder = np.random.default_rng(0), Path(name)
        lines = [
            f"s{i}," + ",".join(map(repr, row.tolist()))
            for i, row in enumerate(rng.normal(size=(20, 50)))
        ]
        head = "id," + ",".join(f"g{j}" for j in range(50))
        (folder / "m.csv").write_text("\n".join([head, *lines]) + "\n")
        rows = [f"s{i},{'ab'[i % 2]},{'xy'[i // 2 % 2]}" for i in range(20)]
        (folder / "s.csv").write_text("\n".join(["id,month,drug", *rows]) + "\n")
        asked = ["diagnose", "m.csv", "s.csv", "--batch", "month", "--keep", "drug"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        tiny = [sys.executable, "-m", "batchsense", *asked]
        subprocess.run(tiny, env=environment, cwd=folder, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(done.stdout), "tiny_diagnose_command": took}


def main() -> None:
    """Compare, and write the document."""
    from common import record

    parser = record.options(__doc__.splitlines()[0], "table_steps")
    parser.add_argument("--before", type=Path, default=HERE, help="The src of another version.")
    asked = parser.parse_args()
    began = time.time()
    rounds = [{who: of_version(src) for who, src in (("before", asked.before), ("now", HERE))}]
    while len(rounds) < ROUNDS:
        rounds.append({"before": of_version(asked.before), "now": of_version(HERE)})
        print(rounds[-1], flush=True)
    steps: dict[str, Any] = {
        name: {
            **{who: statistics.median(one[who][name] for one in rounds) for who in rounds[0]},
            "ratio": statistics.median(one["before"][name] / one["now"][name] for one in rounds),
        }
        for name in rounds[0]["now"]
    }
    over = statistics.median(one["now"]["test_missing"] / one["now"]["test"] for one in rounds)
    found = {"rounds": ROUNDS, "steps": steps, "missing_over_complete": over}
    record.write(asked.output, asked.seed, began, sum(os.times()[:4]), **found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker()
    else:
        main()
