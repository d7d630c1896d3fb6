"""CPU seconds of a test and of surrogates, beside R's limma and sva on the same values.

20,000 features of 200 specimens, a drug and three months: a test with trend and robust variances
(lmFit, eBayes), and two surrogates beside the drug. In turn, five rounds, each the second of two
calls in a fresh process; reading and imports left out. R calls the BLAS that is named in the
result, and every program one thread.

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
cat(sum((proc.time() - began)[1:2]), fit$t[1, 2], basename(extSoftVersion()["BLAS"]))
"""
SVA = """
suppressMessages(library(sva))
y <- matrix(readBin("y.bin", "double", {features} * {specimens}), nrow = {features})
s <- read.csv("s.csv", stringsAsFactors = TRUE)
m <- model.matrix(~ drug, s)
work <- function() {{ capture.output(f <- sva(y, m, m[, 1, drop = FALSE], n.sv = 2)); f }}
found <- work()
began <- proc.time()
found <- work()
cat(sum((proc.time() - began)[1:2]), abs(found$sv[1, 1]), basename(extSoftVersion()["BLAS"]))
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
print(time.process_time() - began, found.effects[0].t[0], "-")
"""
SURROGATES = """
import time, numpy as np, csv
from batchsense.experiments import Estimation, Table, find_surrogates
y = np.fromfile("y.bin").reshape({specimens}, {features})
rows = list(csv.DictReader(open("s.csv")))
table = Table.from_arrays(y, {{"drug": [row["drug"] for row in rows]}})
find_surrogates(table, ["drug"], estimation=Estimation(count=2))
began = time.process_time()
found = find_surrogates(table, ["drug"], estimation=Estimation(count=2))
print(time.process_time() - began, abs(found.values[0, 0]), "-")
"""


def main() -> None:
    """Compare, and write the document."""
    given = record.options((__doc__ or "").splitlines()[0], "limma_speed").parse_args()
    began, cpu = time.time(), time.process_time()
    size = {"features": FEATURES, "specimens": SPECIMENS}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    programs = ("limma", "ours", "sva", "our_surrogates")
    seconds: dict[str, list[float]] = {who: [] for who in programs}
    told: dict[str, float] = {}
    blas = ""
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
            "sva": ["Rscript", "-e", SVA.format(**size)],
            "our_surrogates": [sys.executable, "-c", SURROGATES.format(**size)],
        }
        for _ in range(ROUNDS):
            for who, words in commands.items():
                done = subprocess.run(
                    words, cwd=folder, env=environment, capture_output=True, text=True, check=True
                )
                took, first, library = done.stdout.split()
                seconds[who].append(float(took))
                told[who] = float(first)
                blas = library if who == "limma" else blas

    def ratio(peer: str, own: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[peer], seconds[own], strict=True))

    ratios = {
        "limma_over_ours": ratio("limma", "ours"),
        "sva_over_ours": ratio("sva", "our_surrogates"),
    }
    times = os.times()
    spent = time.process_time() - cpu + times.children_user + times.children_system
    record.write(
        given.output, given.seed, began, spent, **size, blas_of_r=blas, cpu_s=seconds,
        first_number=told, **ratios,
    )  # fmt: skip
    print(seconds, told, ratios)


if __name__ == "__main__":
    main()
