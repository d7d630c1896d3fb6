"""CPU seconds of a test with trend and robust variances, beside R limma on the same values.

20,000 features of 200 specimens, a drug and three months. In turn, five rounds: ours is the second
of two calls in a fresh process, limma's is lmFit, contrasts and eBayes in a fresh R, reading and
imports left out.

    python benchmarks/limma_speed.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import record

FEATURES, SPECIMENS, ROUNDS = 20_000, 200, 5
RSCRIPT = """
suppressMessages(library(limma))
y <- matrix(readBin("y.bin", "double", {features} * {specimens}), nrow = {features})
s <- read.csv("s.csv", stringsAsFactors = TRUE)
work <- function() eBayes(lmFit(y, model.matrix(~ drug + month, s)), trend = TRUE, robust = TRUE)
fit <- work()
began <- proc.time()
fit <- work()
cat(sum((proc.time() - began)[1:2]), fit$t[1, 2])
"""
OURS = """
import time, numpy as np, csv
from batchsense.experiments import ContrastOptions, Table, test
y = np.fromfile("y.bin").reshape({specimens}, {features})
rows = list(csv.DictReader(open("s.csv")))
table = Table.from_arrays(y, {{name: [row[name] for row in rows] for name in ("drug", "month")}})
options = ContrastOptions(trend=True, robust=True)
test(table, "drug", "month", options=options)
began = time.process_time()
found = test(table, "drug", "month", options=options)
print(time.process_time() - began, found.effects[0].t[0])
"""


def main() -> None:
    """Compare, and write the document."""
    given = record.options((__doc__ or "").splitlines()[0], "limma_speed").parse_args()
    began, cpu = time.time(), time.process_time()
    size = {"features": FEATURES, "specimens": SPECIMENS}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    seconds: dict[str, list[float]] = {"limma": [], "ours": []}
    told: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(given.seed)
        month, drug = rng.integers(3, size=SPECIMENS), rng.integers(2, size=SPECIMENS)
        values = rng.normal(size=(SPECIMENS, FEATURES)) * np.exp(0.3 * rng.normal(size=FEATURES))
        values += rng.normal(size=(3, FEATURES))[month] + rng.normal(size=FEATURES) + 6
        values.tofile(folder / "y.bin")
        rows = [f"d{d},m{m}\n" for d, m in zip(drug, month, strict=True)]
        (folder / "s.csv").write_text("drug,month\n" + "".join(rows))
        commands = {
            "limma": ["Rscript", "-e", RSCRIPT.format(**size)],
            "ours": [sys.executable, "-c", OURS.format(**size)],
        }
        for _ in range(ROUNDS):
            for who, words in commands.items():
                done = subprocess.run(
                    words, cwd=folder, env=environment, capture_output=True, text=True, check=True
                )
                took, t = map(float, done.stdout.split())
                seconds[who].append(took)
                told[who] = t
    ratio = statistics.median(a / b for a, b in zip(seconds["limma"], seconds["ours"], strict=True))
    times = os.times()
    spent = time.process_time() - cpu + times.children_user + times.children_system
    record.write(
        given.output, given.seed, began, spent, **size, cpu_s=seconds, t_of_one=told,
        limma_over_ours=ratio,
    )  # fmt: skip
    print(seconds, told, ratio)


if __name__ == "__main__":
    main()
