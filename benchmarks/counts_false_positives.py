"""How often ``test`` calls counts in which nothing differs, and how many that do differ it finds.

Negative binomial counts of 1,000 features, libraries of 0.5 to 2 times the mean depth, dispersions
of 0.02 to 0.3 that fall with the mean and scatter (Law et al. 2014 simulate like this); groups of
3, 6, 20 and 100 balanced over two lots, with and without shifts between the lots (0.5 in natural
logarithms, a lot of its own for each feature). The lot is in the model in both. Of every table the
share of kept features with p ≤ 0.05 is noted; intervals are those of the mean over tables, which
are independent. For the power one feature of ten differs, by a normal draw times
``EFFECTS[specimens a group]`` in natural logarithms.

``python benchmarks/counts_false_positives.py [TABLES] [TABLES_IN_R]`` writes
``benchmarks/results/counts_false_positives.json``, or goes on where that stopped; with a
second number limma's rates (voom on the same first tables, by ``counts_false_positives.R``) stand
beside ours, and the power is that of both on those tables.
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
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg

HERE = Path(__file__).parent
RESULT = HERE / "results" / "counts_false_positives.json"
FEATURES = 1000
SCENARIOS = [(each, shifted) for each in (3, 6, 20, 100) for shifted in (False, True)]
#: Smaller for more specimens, so that some features are found and some are not.
EFFECTS = {3: 1.5, 6: 1.0, 20: 0.6, 100: 0.3}
PLANTED = FEATURES // 10


def drawn(
    each: int, shifted: bool, place: int, planted: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (specimens, features), group and lot of one table."""
    rng = np.random.default_rng([each, shifted, place, *([1] if planted else [])])
    group = np.repeat([0, 1], each)
    lot = np.tile([0, 1], each)
    mean = np.exp(rng.normal(4.0, 1.5, FEATURES))
    depth = np.exp(rng.uniform(np.log(0.5), np.log(2.0), 2 * each))
    dispersion = (0.1 + 1.0 / np.sqrt(mean + 10.0)) ** 2 * 40 / rng.chisquare(40, FEATURES)
    shifts = rng.normal(0.0, 0.5, (2, FEATURES)) * shifted
    expected = mean * depth[:, None] * np.exp(shifts[lot])
    if planted:
        effects = rng.normal(0.0, EFFECTS[each], PLANTED)
        expected[:, :PLANTED] *= np.exp(np.outer(group, effects))
    rates = rng.gamma(1.0 / dispersion, expected * dispersion)
    return rng.poisson(rates).astype(np.float64), group, lot


def tested(each: int, shifted: bool, place: int, planted: bool) -> np.ndarray:
    """Our p of every feature of one table; NaN where it is filtered out."""
    counts, group, lot = drawn(each, shifted, place, planted)
    sheet = {"group": [f"g{k}" for k in group], "lot": [f"l{k}" for k in lot]}
    return test(Table.from_arrays(counts, sheet), "group", "lot").effects[0].p_value


def share(p: np.ndarray) -> float:
    """Share of the kept features with p ≤ 0.05."""
    return float((p[~np.isnan(p)] <= 0.05).mean())


def called(p: np.ndarray) -> np.ndarray:
    """Whether q ≤ 0.05."""
    return np.asarray(benjamini_hochberg(p) <= 0.05)


def in_r(each: int, shifted: bool, tables: int, planted: bool) -> np.ndarray:
    """Limma's p on the first tables of a scenario, shape (tables, features)."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [drawn(each, shifted, place, planted)[0] for place in range(tables)]
        np.concatenate([part.ravel() for part in parts]).tofile(Path(folder) / "one")
        (Path(folder) / "scenarios.csv").write_text(f"name,each,tables\none,{each},{tables}\n")
        script = str(HERE / "counts_false_positives.R")
        subprocess.run(["Rscript", script, folder, str(FEATURES)], capture_output=True, check=True)
        return np.fromfile(Path(folder) / "one.p").reshape(tables, FEATURES)


def power(each: int, tables: int) -> dict[str, object]:
    """Share of the planted features that are called, and of calls that are false, ours and limma's.

    Only lots that differ; of tables that limma was given too.
    """
    ours = np.array([called(tested(each, True, place, True)) for place in range(tables)])
    limma = np.array([called(p) for p in in_r(each, True, tables, True)])

    def rates(calls: np.ndarray) -> tuple[float, float]:
        false = calls[:, PLANTED:].sum() / max(calls.sum(), 1)
        return round(float(calls[:, :PLANTED].mean()), 5), round(float(false), 5)

    names = ("power", "false_share", "limma_power", "limma_false_share")
    row = dict(zip(names, (*rates(ours), *rates(limma)), strict=True))
    return {"specimens_a_group": each, "effects": EFFECTS[each], "tables": tables} | row


def main(tables: int, tables_in_r: int) -> None:
    """Run the scenarios that the result does not hold yet; written after each."""
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    rows, powers = before.get("scenarios", []), before.get("power", [])

    def record() -> None:
        result = {
            "what": "share of features without any effect that test calls at p <= 0.05; wanted: "
            "0.045 to 0.055; power: share of planted effects with q <= 0.05",
            "features": FEATURES,
            "scenarios": rows,
            "power": powers,
        }
        write(RESULT, 0, time.time(), time.process_time(), **result)

    for each, shifted in SCENARIOS[len(rows) :]:
        start = time.process_time()
        found = [tested(each, shifted, place, False) for place in range(tables)]
        rates = np.array([share(p) for p in found])
        half = 1.96 * rates.std(ddof=1) / np.sqrt(tables)
        row = {
            "specimens_a_group": each,
            "lots_differ": shifted,
            "tables": tables,
            "rate": round(float(rates.mean()), 5),
            "low": round(float(rates.mean() - half), 5),
            "high": round(float(rates.mean() + half), 5),
            "tables_with_a_call_at_q_0.05": sum(bool(called(p).any()) for p in found),
        }
        if tables_in_r:
            limma = [share(p) for p in in_r(each, shifted, tables_in_r, False)]
            row["ours_on_tables_of_limma"] = round(float(rates[:tables_in_r].mean()), 6)
            row["limma"] = round(float(np.mean(limma)), 6)
            row["tables_of_limma"] = tables_in_r
        row["cpu_seconds"] = round(time.process_time() - start, 1)
        rows.append(row)
        print(row, flush=True)
        record()
    for each in list(EFFECTS)[len(powers) :] if tables_in_r else []:
        powers.append(power(each, tables_in_r))
        print(powers[-1], flush=True)
        record()


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:]]
    main(*(numbers + [500, 0][len(numbers) :]))
