"""From file to file: ComBat beside the bare reading and writing, a scanpy script, and before.

Every run is a process of its own, and all take turns. Of ours and of the script the whole process
is timed, as a user waits for it, start-up and imports included; of the floor (polars for text and
Parquet, anndata for h5ad) only the reading and writing, without imports. Peak memory is that of the
process. Ratios are medians over the rounds; CPU seconds, of all threads, stand beside wall seconds
because other work on the machine moves these. ``--before`` names the ``src`` of another version,
``--peers`` a folder with scanpy (left out where it is not found). Growth is measured on small
matrices, CSV to CSV, and its exponents hold beyond the time of an almost empty file. In the stored
result ``csv_again`` is of a later version, which puts rows in their place at once, under more load.

    python benchmarks/end_to_end.py --before /path/to/src --peers /path/to/site-packages
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent.parent / "src"
FEATURES, SPECIMENS, BATCHES = 20_000, 500, 5
FORMATS = ("csv", "parquet", "h5ad")
ROUNDS = 5
#: What is hoped for: times the floor, at most, and times the script, at least.
WANTED = {"csv": (4.5, 4.0), "parquet": (2.5, None), "h5ad": (8.0, 2.0)}
#: What grows, beside 5,000 features, 100 specimens, 2 batches and nothing kept.
GROWTH = {
    "features": (5_000, 10_000, 20_000, 40_000),
    "specimens": (100, 200, 400, 800),
    "batches": (2, 8, 32),
    "kept": (0, 2, 4),
}

FLOORS = {
    "csv": "read, write = polars.read_csv, polars.DataFrame.write_csv",
    "parquet": "read, write = polars.read_parquet, polars.DataFrame.write_parquet",
    "h5ad": "read, write = anndata.read_h5ad, anndata.AnnData.write_h5ad",
}
FLOOR = """
import sys, time, {library}
{functions}
wall, cpu = time.perf_counter(), time.process_time()
write(read(sys.argv[1]), sys.argv[2])
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
SCRIPT = """
import sys
import anndata, pandas, scanpy
source, sheet, target = sys.argv[1:]
labels = pandas.read_csv(sheet, index_col=0)
if source.endswith("h5ad"):
    data = anndata.read_h5ad(source)
else:
    read = pandas.read_csv if source.endswith("csv") else pandas.read_parquet
    frame = read(source)
    data = anndata.AnnData(frame.set_index("id").T)
data.obs["lane"] = labels.loc[data.obs_names, "lane"].astype("category")
scanpy.pp.combat(data, "lane")
if source.endswith("h5ad"):
    data.write_h5ad(target)
else:
    corrected = data.to_df().T
    corrected.to_csv(target) if source.endswith("csv") else corrected.to_parquet(target)
"""


def make(folder: Path, kind: str, features: int, specimens: int, batches: int, kept: int) -> None:
    """Write a matrix of features × specimens (h5ad: the reverse), and its sheet."""
    rng = np.random.default_rng([features, specimens])
    lanes = np.arange(specimens) % batches
    values = rng.normal(size=(features, specimens)) * (1 + 0.1 * lanes / batches) + lanes + 6
    names, genes = [f"s{j}" for j in range(specimens)], [f"g{i}" for i in range(features)]
    factors = rng.integers(3, size=(specimens, kept))
    head = ",".join(["id", "lane", *(f"k{k}" for k in range(kept))])
    rows = (
        ",".join([name, f"L{lane}", *(f"v{value}" for value in own)])
        for name, lane, own in zip(names, lanes, factors, strict=True)
    )
    (folder / "sheet.csv").write_text("\n".join([head, *rows]) + "\n")
    if kind == "h5ad":
        import anndata
        import pandas as pd

        obs, var = pd.DataFrame(index=names), pd.DataFrame(index=genes)
        anndata.AnnData(np.ascontiguousarray(values.T), obs, var).write_h5ad(folder / "m.h5ad")
        return
    import polars

    frame = polars.DataFrame({"id": genes, **dict(zip(names, values.T, strict=True))})
    (frame.write_csv if kind == "csv" else frame.write_parquet)(folder / f"m.{kind}")


def run(command: list[str], source: Path, more: str = "") -> dict[str, float]:
    """Wall and CPU seconds and peak megabytes of a process; for a floor, what it printed."""
    path = os.pathsep.join([str(source), more]) if more else str(source)
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    printed, errors = process.stdout, process.stderr
    assert printed is not None
    assert errors is not None
    words, told = printed.read(), errors.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(told[-2000:])
    wall, cpu = time.perf_counter() - began, used.ru_utime + used.ru_stime
    if command[1] == "-c" and "perf_counter" in command[2]:
        wall, cpu = map(float, words.split())
    return {"wall": wall, "cpu": cpu, "peak_mb": used.ru_maxrss / 1024}


def correct(folder: Path, kind: str, kept: int = 0) -> list[str]:
    """The command that a user gives."""
    keep = [word for k in range(kept) for word in ("--keep", f"k{k}")]
    files = [str(folder / name) for name in (f"m.{kind}", "sheet.csv", f"out.{kind}")]
    how = ["--batch", "lane", "--method", "combat", *keep]
    asked = [*files[:2], *how, "-o", files[2], "--force"]
    return [sys.executable, "-m", "batchsense", "correct", *asked]


def side_by_side(kind: str, before: Path | None, peers: str) -> dict[str, Any]:
    """All competitors in turn, several times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, kind, FEATURES, SPECIMENS, BATCHES, 0)
        library = "anndata" if kind == "h5ad" else "polars"
        floor = FLOOR.format(library=library, functions=FLOORS[kind])
        ends = [str(folder / f"m.{kind}"), str(folder / f"other.{kind}")]
        jobs = {
            "ours": (correct(folder, kind), HERE, ""),
            "floor": ([sys.executable, "-c", floor, *ends], HERE, ""),
        }
        if before is not None:
            jobs["before"] = (correct(folder, kind), before, "")
        if peers:
            script = [sys.executable, "-c", SCRIPT, ends[0], str(folder / "sheet.csv"), ends[1]]
            jobs["scanpy"] = (script, HERE, peers)
        run(*jobs["ours"])  # compiled code is on the disk, the input in memory
        rounds = []
        for _ in range(ROUNDS):
            rounds.append({who: run(*job) for who, job in jobs.items()})
            print(kind, {who: round(one["wall"], 2) for who, one in rounds[-1].items()}, flush=True)
    medians = {
        who: {key: statistics.median(one[who][key] for one in rounds) for key in rounds[0][who]}
        for who in jobs
    }

    def ratio(over: str, under: str, clock: str) -> float | None:
        if over not in jobs or under not in jobs:
            return None
        return statistics.median(one[over][clock] / one[under][clock] for one in rounds)

    ratios = {
        f"{over}_over_{under}": {clock: ratio(over, under, clock) for clock in ("wall", "cpu")}
        for over, under in (("ours", "floor"), ("scanpy", "ours"), ("before", "ours"))
    }
    wanted = dict(zip(("ours_over_floor", "scanpy_over_ours"), WANTED[kind], strict=True))
    return {"medians": medians, "ratios": ratios, "wanted": wanted}


def growth(what: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    """CPU seconds as one size grows; the exponent is of what goes beyond an almost empty file."""
    usual = {"features": 5_000, "specimens": 100, "batches": 2, "kept": 0}

    def took(**changed: int) -> float:
        size = usual | changed
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make(folder, "csv", *size.values())
            command = correct(folder, "csv", size["kept"])
            return min(run(command, HERE)["cpu"] for _ in range(3))

    empty = took(features=20, specimens=50)
    cpu = [took(**{what: size}) for size in sizes]
    beyond = np.maximum(np.array(cpu) - empty, 1e-3)
    exponent = float(np.polyfit(np.log(np.maximum(sizes, 1)), np.log(beyond), 1)[0])
    print(what, sizes, cpu, empty, exponent, flush=True)
    return {
        "sizes": list(sizes),
        "cpu_seconds": cpu,
        "almost_empty_cpu_seconds": empty,
        "exponent": None if what == "kept" else exponent,
    }


def main() -> None:
    """Run everything and write the document."""
    from common import record

    parser = record.options(__doc__.splitlines()[0], "end_to_end")
    parser.add_argument("--before", type=Path, help="The src folder of another version.")
    parser.add_argument("--peers", default="", help="A folder with scanpy.")
    asked = parser.parse_args()
    began = time.time()
    peers = asked.peers if (Path(asked.peers) / "scanpy").is_dir() else ""
    record.write(
        asked.output,
        asked.seed,
        began,
        0.0,
        features=FEATURES,
        specimens=SPECIMENS,
        rounds=ROUNDS,
        formats={kind: side_by_side(kind, asked.before, peers) for kind in FORMATS},
        growth={what: growth(what, sizes) for what, sizes in GROWTH.items()},
    )


if __name__ == "__main__":
    main()
