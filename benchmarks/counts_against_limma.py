"""Counts against edgeR and limma: 50 simulated tables and four measured ones.

``Rscript tests/references/voom/voom.R FOLDER``, then
``python benchmarks/counts_against_limma.py FOLDER``. Writes
``benchmarks/results/counts_against_limma.json``: how far filter, TMM factors, trend, weights, log
counts per million, t and p are from what R gives, and whether the calls are equal.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
from common.record import write

from batchsense.experiments import ContrastOptions, Table, test
from batchsense.experiments.counts import log_cpm
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg

RESULT = Path(__file__).parent / "results" / "counts_against_limma.json"


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest relative deviation."""
    return float(np.max(np.abs(found / expected - 1.0)))


def compared(folder: Path, study: dict[str, str]) -> dict[str, object]:
    """Compare one study."""
    name, n = study["name"], int(study["columns"])

    def read(what: str, rows: int) -> np.ndarray:
        return np.fromfile(folder / f"{name}.{what}").reshape(-1, rows)

    counts = read("counts", int(study["genes"]))
    group, batch = read("sheet", n).astype(int)
    kept = np.fromfile(folder / f"{name}.kept") > 0
    features = int(kept.sum())
    sizes, factors = read("libraries", n)
    weights, trend = read("weights", features), read("trend", features)[1]
    effect, t, p, df, _ = read("tests", features)
    exact = read("exact", features)[2]
    sheet = {"group": [f"g{k}" for k in group], "lot": [f"l{k}" for k in batch]}
    table = Table.from_arrays(counts, sheet, values_are="counts")
    options = ContrastOptions(trend=study["trend"] == "1", robust=study["robust"] == "1")
    start = time.process_time()
    found = test(table, "group:g2-g1", "lot", options=options)
    seconds = time.process_time() - start
    one = found.effects[0]
    assert found.counts is not None
    assert found.precision is not None
    same = bool(np.array_equal(found.counts.kept, kept))
    row: dict[str, object] = {
        "study": name,
        "robust": options.robust,
        "specimens": n,
        "features": len(kept),
        "kept": features,
        "filter_equal": same,
        "cpu_seconds": round(seconds, 3),
    }
    if not same:
        return row
    calls = benjamini_hochberg(p) <= 0.05
    row |= {
        "sizes": relative(found.counts.sizes, sizes),
        "tmm": relative(found.counts.factors, factors),
        "trend": relative(np.sort(found.precision.trend), np.sort(trend)),
        "weights": relative(found.precision.weights, weights),
        "log_cpm": float(
            np.max(
                np.abs(
                    log_cpm(found.counts.values, found.counts.effective) - read("logcpm", features)
                )
            )
        ),
        "effect": float(np.max(np.abs(one.effect[kept] - effect)) / np.max(np.abs(effect))),
        "t": float(np.max(np.abs(one.t[kept] - t) / np.maximum(np.abs(t), 1e-3))),
        "p": relative(one.p_value[kept], p),
        "p_exact_root": relative(one.p_value[kept], exact),
        "limma_p_to_its_exact_root": relative(p, exact),
        "df": relative(found.df[kept], df),
        "calls": int(calls.sum()),
        "calls_equal": bool(np.array_equal(one.q_value[kept] <= 0.05, calls)),
    }
    return row


def main(folder: Path) -> None:
    """Compare all studies."""
    with (folder / "studies.csv").open() as stream:
        rows = [compared(folder, study) for study in csv.DictReader(stream)]
    measures = ("sizes", "tmm", "trend", "weights", "log_cpm", "effect", "t", "p", "df")
    measures += ("p_exact_root", "limma_p_to_its_exact_root")

    def worst(chosen: list[dict[str, object]]) -> dict[str, float]:
        return {one: max(float(str(row.get(one, np.inf))) for row in chosen) for one in measures}

    result = {
        "what": "largest deviations from edgeR 3.40.2 and limma 3.54.1; relative, log_cpm absolute",
        "filters_equal": sum(bool(row["filter_equal"]) for row in rows),
        "calls_equal": sum(bool(row.get("calls_equal")) for row in rows),
        "studies": len(rows),
        "worst": worst(rows),
        "worst_but_for_robust": worst([row for row in rows if not row["robust"]]),
        "each": rows,
    }
    write(RESULT, 0, time.time(), time.process_time(), **result)
    print(json.dumps({key: result[key] for key in result if key != "each"}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
