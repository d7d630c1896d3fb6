"""How often ``test`` calls noise where rows share subjects: with blocks, and as if they did not.

100 features a table without any effect; how much subjects differ is of each feature's own (a
standard deviation of 0.3 to 1.2 times that between rows; of 1 to 3 times for replicates).
*replicates*: 12 subjects in two groups, three rows each; *paired*: 12 subjects, both conditions;
*uneven, between* and *within*: 16 subjects with one to five rows, a group that is constant within
a subject, a time that is not; *corrected*: the uneven ones after linear removal of the months. All
have two months, in the model.
Of every table the share of p ≤ 0.05 is noted; intervals are those of the mean over tables.

``python benchmarks/blocks_false_positives.py [TABLES] [TABLES_IN_R]`` writes
``benchmarks/results/blocks_false_positives.json``, or goes on where that stopped; with a second
number limma's rates (``duplicateCorrelation``, ``lmFit``, ``eBayes`` on the same first tables, by
``blocks_false_positives.R``) stand beside ours. 6 CPU minutes for 500 and 60.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common.record import write

from batchsense.experiments import ContrastOptions, Table, correct, test

HERE = Path(__file__).parent
RESULT = HERE / "results" / "blocks_false_positives.json"
FEATURES = 100
BLOCKS = ContrastOptions(blocks="subject")
EACH = ContrastOptions(blocks="subject", per_feature=True)
#: Standard deviation between subjects over that between their rows, from and to.
SPREADS = {"replicates": (1.0, 3.0), "paired": (0.3, 1.2), "uneven": (0.3, 1.2)}
#: Name, sheet, column that is tested, options, and whether the values are corrected first.
SCENARIOS = [
    ("replicates, ignored", "replicates", "group", ContrastOptions(), False),
    ("replicates", "replicates", "group", BLOCKS, False),
    ("replicates, per feature", "replicates", "group", EACH, False),
    ("paired", "paired", "time", BLOCKS, False),
    ("paired, per feature", "paired", "time", EACH, False),
    ("uneven, between", "uneven", "group", BLOCKS, False),
    ("uneven, between, per feature", "uneven", "group", EACH, False),
    ("uneven, within", "uneven", "time", BLOCKS, False),
    ("uneven, within, per feature", "uneven", "time", EACH, False),
    ("uneven, between, corrected", "uneven", "group", BLOCKS, True),
    ("uneven, within, corrected", "uneven", "time", BLOCKS, True),
]


def sheet_of(kind: str) -> dict[str, list[str]]:
    """Subjects, what is tested, and months."""
    sizes = {"replicates": [3] * 12, "paired": [2] * 12, "uneven": [1, 2, 3, 5] * 4}[kind]
    subject = np.repeat(np.arange(len(sizes)), sizes)
    within = np.concatenate([np.arange(size) for size in sizes])
    month = (within + subject) % 2 if kind != "paired" else subject % 2
    group = subject // 4 % 2 if kind == "uneven" else subject // 6
    time_ = within % 2 if kind == "paired" else (within + subject // 2) % 2
    columns = {"subject": subject, "group": group, "time": time_, "month": month}
    return {name: [f"{name}{k}" for k in column] for name, column in columns.items()}


def drawn(kind: str, place: int) -> np.ndarray:
    """Values (rows, features) of one table."""
    subject = np.unique(sheet_of(kind)["subject"], return_inverse=True)[1]
    rng = np.random.default_rng([len(subject), place])
    between = rng.uniform(*SPREADS[kind], FEATURES) * rng.normal(size=(subject.max() + 1, FEATURES))
    scale = np.sqrt(8.0 / rng.chisquare(8, FEATURES))
    return (between[subject] + rng.normal(size=(len(subject), FEATURES))) * scale


def share(kind: str, tested: str, options: ContrastOptions, corrected: bool, place: int) -> float:
    """Share of p ≤ 0.05 in one table."""
    table = Table.from_arrays(drawn(kind, place), sheet_of(kind), values_are="log")
    if corrected:
        fixed = correct(table, "month", [tested])
        return float((test(fixed, tested, options=options).effects[0].p_value <= 0.05).mean())
    return float((test(table, tested, "month", options=options).effects[0].p_value <= 0.05).mean())


def in_r(tables: int) -> dict[str, float]:
    """Limma's rates on the first tables, for each kind and column that is tested."""
    chosen = sorted({(kind, tested) for _, kind, tested, *_ in SCENARIOS})
    with tempfile.TemporaryDirectory() as folder:
        for kind, tested in chosen:
            name, sheet = f"{kind}-{tested}", sheet_of(kind)
            sheet["tested"] = sheet[tested]
            with (Path(folder) / f"{name}.csv").open("w") as file:
                csv.writer(file).writerows([sheet, *zip(*sheet.values(), strict=True)])
            parts = [drawn(kind, place).ravel() for place in range(tables)]
            np.concatenate(parts).tofile(Path(folder) / name)
        names = "".join(f"{kind}-{tested}\n" for kind, tested in chosen)
        (Path(folder) / "scenarios.txt").write_text(names)
        words = subprocess.run(
            ["Rscript", str(HERE / "blocks_false_positives.R"), folder, str(FEATURES)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return {line.split()[0]: float(line.split()[1]) for line in words.splitlines()}


def main(tables: int, tables_in_r: int) -> None:
    """Run the scenarios that the result does not hold yet; written after each."""
    began = time.time()
    rows = json.loads(RESULT.read_text())["scenarios"] if RESULT.exists() else []
    limma = in_r(tables_in_r) if tables_in_r else {}
    for name, kind, tested, options, corrected in SCENARIOS[len(rows) :]:
        start = time.process_time()
        found = np.array(
            [share(kind, tested, options, corrected, place) for place in range(tables)]
        )
        half = 1.96 * found.std(ddof=1) / np.sqrt(tables)
        row = {
            "scenario": name,
            "tables": tables,
            "rate": float(found.mean()),
            "low": float(found.mean() - half),
            "high": float(found.mean() + half),
        }
        if limma and options is BLOCKS:
            first = found[:tables_in_r]
            row["ours_on_tables_of_limma"] = float(first.mean())
            row["limma"] = limma[f"{kind}-{tested}"]
            row["tables_of_limma"] = tables_in_r
        row["cpu_seconds"] = time.process_time() - start
        rows.append(row)
        print(row, flush=True)
        result = {
            "what": "share of features without any effect that test calls at p <= 0.05; wanted: "
            "0.045 to 0.055, or limma's rate within the interval",
            "features": FEATURES,
            "scenarios": rows,
        }
        write(RESULT, 0, began, sum(one["cpu_seconds"] for one in rows), **result)


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:]]
    main(*(numbers + [500, 60][len(numbers) :]))
