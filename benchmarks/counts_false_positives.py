"""How often ``test`` calls counts in which nothing differs: 3, 6 and 20 specimens a group.

Negative binomial counts of 1,000 features, libraries of 0.5 to 2 times the mean depth, dispersions
of 0.02 to 0.3 that fall with the mean and scatter (Law et al. 2014 simulate like this); groups
balanced over two lots, with and without shifts between the lots (0.5 in natural logarithms, a lot
of its own for each feature). The lot is in the model in both. Of every table the share of kept
features with p ≤ 0.05 is noted; intervals are those of the mean over tables, which are independent.

``python benchmarks/counts_false_positives.py [TABLES] [TABLES_IN_R]`` writes
``benchmarks/results/counts_false_positives.json``, or goes on where that stopped; with a
second number limma's rates (voom on the same first tables, by ``counts_false_positives.R``) stand
beside ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common.record import write

from batchsense.experiments import Table, test

HERE = Path(__file__).parent
RESULT = HERE / "results" / "counts_false_positives.json"
FEATURES = 1000
SCENARIOS = [(each, shifted) for each in (3, 6, 20) for shifted in (False, True)]


def drawn(each: int, shifted: bool, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (specimens, features), group and lot of one table."""
    rng = np.random.default_rng([each, shifted, place])
    group = np.repeat([0, 1], each)
    lot = np.tile([0, 1], each)
    mean = np.exp(rng.normal(4.0, 1.5, FEATURES))
    depth = np.exp(rng.uniform(np.log(0.5), np.log(2.0), 2 * each))
    dispersion = (0.1 + 1.0 / np.sqrt(mean + 10.0)) ** 2 * 40 / rng.chisquare(40, FEATURES)
    shifts = rng.normal(0.0, 0.5, (2, FEATURES)) * shifted
    expected = mean * depth[:, None] * np.exp(shifts[lot])
    rates = rng.gamma(1.0 / dispersion, expected * dispersion)
    return rng.poisson(rates).astype(np.float64), group, lot


def shares(each: int, shifted: bool, tables: int) -> tuple[np.ndarray, int]:
    """Share of p ≤ 0.05 in each table, and the tables with a call at q ≤ 0.05."""
    found, with_calls = [], 0
    for place in range(tables):
        counts, group, lot = drawn(each, shifted, place)
        table = Table.from_arrays(
            counts, {"group": [f"g{k}" for k in group], "lot": [f"l{k}" for k in lot]}
        )
        one = test(table, "group", "lot").effects[0]
        p = one.p_value[~np.isnan(one.p_value)]
        found.append(float((p <= 0.05).mean()))
        with_calls += bool((one.q_value <= 0.05).any())
    return np.array(found), with_calls


def in_r(tables: int) -> dict[str, float]:
    """Limma's rates on the first tables of every scenario."""
    with tempfile.TemporaryDirectory() as folder:
        lines = ["name,each,tables"]
        for each, shifted in SCENARIOS:
            name = f"{each}-{int(shifted)}"
            parts = [drawn(each, shifted, place)[0] for place in range(tables)]
            np.concatenate([part.ravel() for part in parts]).tofile(Path(folder) / name)
            lines.append(f"{name},{each},{tables}")
        (Path(folder) / "scenarios.csv").write_text("\n".join(lines) + "\n")
        script = str(HERE / "counts_false_positives.R")
        words = subprocess.run(
            ["Rscript", script, folder, str(FEATURES)], capture_output=True, text=True, check=True
        ).stdout
    return {line.split()[0]: float(line.split()[1]) for line in words.splitlines()}


def main(tables: int, tables_in_r: int) -> None:
    """Run the scenarios that the result does not hold yet; written after each."""
    rows = json.loads(RESULT.read_text())["scenarios"] if RESULT.exists() else []
    limma = in_r(tables_in_r) if tables_in_r else {}
    for each, shifted in SCENARIOS[len(rows) :]:
        start = time.process_time()
        found, with_calls = shares(each, shifted, tables)
        half = 1.96 * found.std(ddof=1) / np.sqrt(tables)
        row = {
            "specimens_a_group": each,
            "lots_differ": shifted,
            "tables": tables,
            "rate": round(float(found.mean()), 5),
            "low": round(float(found.mean() - half), 5),
            "high": round(float(found.mean() + half), 5),
            "tables_with_a_call_at_q_0.05": with_calls,
        }
        if limma:
            row["ours_on_tables_of_limma"] = round(float(found[:tables_in_r].mean()), 6)
            row["limma"] = round(limma[f"{each}-{int(shifted)}"], 6)
            row["tables_of_limma"] = tables_in_r
        row["cpu_seconds"] = round(time.process_time() - start, 1)
        rows.append(row)
        print(row, flush=True)
        result = {
            "what": "share of features without any effect that test calls at p <= 0.05; wanted: "
            "0.045 to 0.055",
            "features": FEATURES,
            "scenarios": rows,
        }
        write(RESULT, 0, time.time(), time.process_time(), **result)


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:]]
    main(*(numbers + [500, 0][len(numbers) :]))
