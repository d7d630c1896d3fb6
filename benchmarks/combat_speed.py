"""How fast ComBat is: against reading and writing the matrix, and against other Python packages.

Everything runs on the same machine in one go. Fit and transform of a table of 20,000 features are
timed in turn with the floor: read the matrix once, then read and write it once, with as many
threads, into a new array or in place as the correction does. Other packages run in the Python that
``--peers-python`` names (scanpy, inmoose and neuroCombat are found there or left out); they need
about a minute for the larger table. Fitting is timed in turn with and without missing values, for
nothing kept, a kept category, and a category with a number. Peak memory is that of a fresh process,
above what it held before the call; it has corrected a table of few features before, so that all
code is loaded, and nothing of the size of the tables has been freed for reuse. The first call of a
process is reported apart, with and without compiled code on disk (best of three).

    python benchmarks/combat_speed.py --peers-python /path/to/venv/bin/python
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = 20_000
SIZES = (200, 2_000)
BATCHES = 5
PEERS = ("scanpy", "inmoose", "neuroCombat")
#: What is hoped for: times the best peer, times the floor, extra memory in matrices.
WANTED = {
    "peer_ratio": {"200": 12, "2000": 40},
    "floor_ratio": 3,
    "memory_new_array": 1.1,
    "memory_in_place": 0.15,
    "first_call_seconds": 3,
    "missing_ratio": 3,
}
#: Part of the values that is missing where fitting with gaps is timed.
MISSING = 0.05
#: What is kept there.
KEEP: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "category": ("drug",),
    "category_and_number": ("drug", "age"),
}


def data(specimens: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw specimens × features with batches that shift and stretch."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, BATCHES, specimens)
    values = rng.standard_normal((specimens, FEATURES))
    values *= (1 + 0.1 * codes)[:, None]
    values += codes[:, None]
    return values, codes


def run_ours(specimens: int, seed: int) -> dict[str, Any]:
    """Time our correction and the floor in turn."""
    from batchsense.experiments import CombatCorrection, Table
    from batchsense.experiments.correction.two_passes.pass_runner import available_threads

    values, codes = data(specimens, seed)
    table = Table.from_arrays(values, {"lane": codes})
    threads = available_threads()
    blocks = np.array_split(np.arange(specimens), 4 * threads)
    pool = ThreadPoolExecutor(threads)

    def floor(target: np.ndarray[Any, Any]) -> None:
        """Read, then read and write."""
        list(pool.map(lambda rows: values[rows[0] : rows[-1] + 1].sum(), blocks))

        def copy(rows: np.ndarray[Any, Any]) -> None:
            part = slice(rows[0], rows[-1] + 1)
            np.multiply(values[part], 1.0, out=target[part])

        list(pool.map(copy, blocks))

    def fit_and_transform(out: np.ndarray[Any, Any] | None) -> tuple[float, float]:
        began = time.perf_counter()
        fitted = CombatCorrection().fit(table, "lane")
        middle = time.perf_counter()
        fitted.transform(table, out=out)
        return middle - began, time.perf_counter() - middle

    work: dict[str, Callable[[], Any]] = {
        "floor_new_array": lambda: floor(np.empty_like(values)),
        "floor_in_place": lambda: floor(values),
        "new_array": lambda: fit_and_transform(None),
        "in_place": lambda: fit_and_transform(values),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    parts = []
    for turn in range(9):
        for name, call in work.items():
            began = time.perf_counter()
            found = call()
            if turn:
                seconds[name].append(time.perf_counter() - began)
            if name == "new_array" and turn:
                parts.append(found)
            # A second correction of corrected values would be a little quicker to converge.
            if name == "in_place":
                values[:] = data(specimens, seed)[0]
    best = {name: min(each) for name, each in seconds.items()}
    return {
        "threads": threads,
        "seconds_best": best,
        "seconds_median": {name: statistics.median(each) for name, each in seconds.items()},
        "fit_seconds": min(part[0] for part in parts),
        "transform_seconds": min(part[1] for part in parts),
        "floor_ratio": {
            "new_array": best["new_array"] / best["floor_new_array"],
            "in_place": best["in_place"] / best["floor_in_place"],
            "new_array_over_floor_in_place": best["new_array"] / best["floor_in_place"],
        },
    }


def run_missing(specimens: int, seed: int) -> dict[str, Any]:
    """Time fits with and without missing values in turn."""
    from batchsense.experiments import CombatCorrection, Table

    values, codes = data(specimens, seed)
    rng = np.random.default_rng(seed + 2)
    drug = rng.integers(0, 3, specimens).astype(str)
    sheet = {"lane": codes, "drug": drug, "age": rng.normal(50, 10, specimens)}
    gaps = values.copy()
    for row in gaps:
        row[rng.random(FEATURES) < MISSING] = np.nan
    tables = {
        "complete": Table.from_arrays(values, sheet),
        "missing": Table.from_arrays(gaps, sheet),
    }
    found: dict[str, Any] = {}
    for name, keep in KEEP.items():
        seconds: dict[str, list[float]] = {kind: [] for kind in tables}
        for turn in range(6):
            for kind, table in tables.items():
                began = time.perf_counter()
                CombatCorrection(keep=keep).fit(table, "lane")
                if turn:
                    seconds[kind].append(time.perf_counter() - began)
        best = {kind: min(each) for kind, each in seconds.items()}
        found[name] = {**best, "ratio": best["missing"] / best["complete"]}
    return found


def run_memory(specimens: int, seed: int, in_place: bool) -> dict[str, Any]:
    """Measure the peak of one correction above what was held before, in matrices."""
    from batchsense.experiments import CombatCorrection, Table

    small = np.random.default_rng(seed + 1).standard_normal((2_100, 1_000))
    warm = Table.from_arrays(small, {"lane": np.arange(2_100) % BATCHES})
    fitted = CombatCorrection().fit(warm, "lane")
    fitted.transform(warm)
    fitted.transform(warm, out=warm.values)
    values, codes = data(specimens, seed)
    table = Table.from_arrays(values, {"lane": codes})
    before = resident()
    reset_peak()
    CombatCorrection().fit(table, "lane").transform(table, out=values if in_place else None)
    return {"matrices": (peak() - before) / values.nbytes}


def run_first(specimens: int, seed: int) -> dict[str, Any]:
    """Time the first call of a process, and the second."""
    from batchsense.experiments import CombatCorrection, Table

    values, codes = data(specimens, seed)
    table = Table.from_arrays(values, {"lane": codes})
    took = []
    for _ in range(2):
        began = time.perf_counter()
        CombatCorrection().fit(table, "lane").transform(table)
        took.append(time.perf_counter() - began)
    return {"first": took[0], "second": took[1]}


def run_peer(name: str, specimens: int, seed: int) -> dict[str, Any]:
    """Time one of the other packages, after a small run that loads its code."""
    times = []
    for size in (50, *[specimens] * (3 if specimens < 1000 else 1)):
        values, codes = data(size, seed)
        call = peer(name, values, codes)
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    version = importlib.metadata.version(name)
    return {"seconds": min(times[1:]), "version": version}


def peer(name: str, values: Any, codes: Any) -> Callable[[], Any]:
    """Prepare a call in the form that a package wants."""
    import pandas as pd

    if name == "scanpy":
        import anndata
        import scanpy

        table = anndata.AnnData(
            values, obs=pd.DataFrame({"lane": pd.Categorical(codes.astype(str))})
        )
        return lambda: scanpy.pp.combat(table, key="lane", inplace=False)
    if name == "inmoose":
        from inmoose.pycombat import pycombat_norm

        frame = pd.DataFrame(np.ascontiguousarray(values.T))
        return lambda: pycombat_norm(frame, codes.tolist())
    from neuroCombat import neuroCombat

    sheet = pd.DataFrame({"lane": codes})
    across = np.ascontiguousarray(values.T)
    return lambda: neuroCombat(dat=across, covars=sheet, batch_col="lane")


def resident() -> int:
    """Give the bytes that this process holds."""
    return status("VmRSS")


def peak() -> int:
    """Give the most bytes it has held since :func:`reset_peak`."""
    return status("VmHWM")


def reset_peak() -> None:
    """Forget the peak (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def status(field: str) -> int:
    """Read a field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field}")


def worker(python: str, *words: object, **environment: str) -> Any:
    """Run one measurement in a fresh process; None if it cannot run."""
    done = subprocess.run(
        [python, __file__, "--worker", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        print(f"{words} left out: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None


def be_worker(words: list[str]) -> None:
    """Do one measurement and print it."""
    kind, specimens, seed = words[0], int(words[1]), int(words[2])
    if kind == "ours":
        found = run_ours(specimens, seed)
    elif kind == "memory":
        found = run_memory(specimens, seed, words[3] == "in_place")
    elif kind == "first":
        found = run_first(specimens, seed)
    elif kind == "missing":
        found = run_missing(specimens, seed)
    else:
        found = run_peer(kind, specimens, seed)
    print(json.dumps(found))


def cpu_seconds() -> float:
    """Give the time of this process and of those it ran."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    from common import record

    parser = record.options(__doc__.splitlines()[0], "combat_speed")
    parser.add_argument("--peers-python", default=sys.executable, help="Python with the peers.")
    arguments = parser.parse_args()
    began = time.time()
    seed = arguments.seed
    found: dict[str, Any] = {
        "numba": importlib.metadata.version("numba"),
        "features": FEATURES,
        "batches": BATCHES,
        "wanted": WANTED,
    }
    for specimens in SIZES:
        ours = worker(sys.executable, "ours", specimens, seed)
        peers = {name: worker(arguments.peers_python, name, specimens, seed) for name in PEERS}
        present = {name: one for name, one in peers.items() if one is not None}
        memory = {
            how: worker(sys.executable, "memory", specimens, seed, how)["matrices"]
            for how in ("new_array", "in_place")
        }
        entry = {
            **ours,
            "fit_seconds_by_kept_terms": worker(sys.executable, "missing", specimens, seed),
            "extra_memory_in_matrices": memory,
            "peers": present,
        }
        if present:
            best = min(one["seconds"] for one in present.values())
            entry["times_faster_than_best_peer"] = {
                how: best / ours["seconds_best"][how] for how in ("new_array", "in_place")
            }
        found[f"specimens_{specimens}"] = entry
        print(json.dumps({specimens: entry}, indent=1))
    runs = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as empty:
            cold = worker(sys.executable, "first", SIZES[0], seed, NUMBA_CACHE_DIR=empty)
            warm = worker(sys.executable, "first", SIZES[0], seed, NUMBA_CACHE_DIR=empty)
        runs.append((cold["first"], warm["first"], warm["second"]))
    best = map(min, zip(*runs, strict=True))
    found["first_call_seconds"] = dict(
        zip(("nothing_compiled", "compiled", "second_call"), best, strict=True)
    )
    print(json.dumps(found["first_call_seconds"]))
    record.write(arguments.output, seed, began, cpu_seconds(), **found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        be_worker(sys.argv[2:])
    else:
        main()
