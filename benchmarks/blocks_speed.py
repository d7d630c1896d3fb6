"""CPU seconds of tests with blocks beside loops in R, and how far the answers differ.

*Mixed models*: 20,000 features of 60 rows (20 subjects, three rows each; a group that is constant
within a subject, a time and a month that are not). lme4's ``lmer``, alone and with lmerTest's
degrees of freedom, takes the first 200 and is scaled up: its loop does the same for each feature.
*Counts*: 20,000 features of 200 rows (100 subjects), with precision weights; ours with and without
blocks, and limma's voom, duplicateCorrelation, voom, duplicateCorrelation, lmFit, eBayes on the
first 400 features, scaled up.

``python benchmarks/blocks_speed.py`` writes ``benchmarks/results/blocks_speed.json``.
"""

from __future__ import annotations

import csv
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from common.record import options, write

from batchsense.experiments import ContrastOptions, ContrastTests, Table, test

HERE = Path(__file__).parent
FEATURES, LOOPED, LOOPED_COUNTS = 20_000, 200, 400


def mixed(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Values of rows that share subjects, and their sheet."""
    subject = np.repeat(np.arange(20), 3)
    between = rng.uniform(0.3, 1.5, FEATURES) * rng.normal(size=(20, FEATURES))
    columns = {"group": subject % 2, "time": np.tile([0, 1, 1], 20), "month": np.arange(60) % 4}
    columns["subject"] = subject
    sheet = {name: [f"{name}{k:02d}" for k in column] for name, column in columns.items()}
    return between[subject] + rng.normal(size=(60, FEATURES)), sheet


def counted(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Counts of rows that share subjects, and their sheet."""
    subject = np.repeat(np.arange(100), 2)
    mean = np.exp(rng.normal(4.0, 1.5, FEATURES) + 0.4 * rng.normal(size=(100, FEATURES)))
    counts = rng.poisson(mean[subject] * rng.gamma(10.0, 0.1, size=(200, FEATURES)))
    columns = {"group": np.tile([0, 1], 100), "lot": np.arange(200) // 50, "subject": subject}
    sheet = {name: [f"{name}{k:03d}" for k in column] for name, column in columns.items()}
    return counts.astype(np.float64), sheet


def timed(table: Table, names: tuple[list[str], str], **how: object) -> tuple[float, ContrastTests]:
    """CPU seconds of a test, the better of two."""
    best = np.inf
    for _ in range(2):
        start = time.process_time()
        found = test(table, *names, options=ContrastOptions(**how))
        best = min(best, time.process_time() - start)
    return best, found


def put(folder: Path, name: str, values: np.ndarray, sheet: dict[str, list[str]]) -> None:
    """Leave a table for R, feature by feature."""
    np.ascontiguousarray(values.T).tofile(folder / name)
    with (folder / f"{name}.csv").open("w") as file:
        csv.writer(file).writerows([sheet, *zip(*sheet.values(), strict=True)])


def main() -> None:
    chosen = options(__doc__ or "", "blocks_speed").parse_args()
    began, cpu, rng = time.time(), time.process_time(), np.random.default_rng(chosen.seed)
    values, sheet = mixed(rng)
    counts, sheet_of_counts = counted(rng)
    table = Table.from_arrays(values, sheet, values_are="log")
    ours, found = timed(table, (["group", "time"], "month"), blocks="subject", per_feature=True)
    consensus, _ = timed(table, (["group", "time"], "month"), blocks="subject")
    table = Table.from_arrays(counts, sheet_of_counts, values_are="counts")
    plain, _ = timed(table, (["group"], "lot"))
    blocked, _ = timed(table, (["group"], "lot"), blocks="subject")
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder), "mixed", values[:, :LOOPED], sheet)
        put(Path(folder), "counts", counts[:, :LOOPED_COUNTS], sheet_of_counts)
        command = ["Rscript", str(HERE / "blocks_speed.R"), folder]
        words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        theirs = np.fromfile(Path(folder) / "found").reshape(6, LOOPED)
    lme4, tests, limma = (float(word) for word in words[:3])
    mine = np.array(
        [
            part[:LOOPED]
            for one in found.effects
            for part in (one.effect, one.standard_error, one.df)
        ]
    )
    differences = np.abs(mine - theirs) / np.maximum(1.0, np.abs(theirs))
    scale, scale_of_counts = FEATURES / LOOPED, FEATURES / LOOPED_COUNTS
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        mixed_models={
            "features": FEATURES,
            "rows": 60,
            "seconds": ours,
            "seconds_of_consensus": consensus,
            "features_in_the_loops": LOOPED,
            "lme4_seconds_scaled": lme4 * scale,
            "lmerTest_seconds_scaled": tests * scale,
            "times_faster_than_lme4": lme4 * scale / ours,
            "times_faster_than_lmerTest": tests * scale / ours,
            "largest_difference": dict(
                zip(
                    ("effect", "standard_error", "df"),
                    differences.reshape(2, 3, -1).max(axis=(0, 2)).tolist(),
                    strict=True,
                )
            ),
        },
        counts={
            "features": FEATURES,
            "rows": 200,
            "seconds_without_blocks": plain,
            "seconds_with_blocks": blocked,
            "times_as_long": blocked / plain,
            "features_in_limma": LOOPED_COUNTS,
            "limma_seconds_scaled": limma * scale_of_counts,
        },
    )
    print(chosen.output.read_text())


if __name__ == "__main__":
    main()
