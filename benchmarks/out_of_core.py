"""Time and memory of a correction out of core, beside a bare read and a bare read-and-write.

The bare passes use the same library, blocks and chunks, one process, in turn with the correction:
a pass that reads every block, and one that reads every block and writes it to a new file. Both the
bare passes and the correction end when their file is on the disk itself (fsync); times without
that wait are given too. Peak memory is that of the whole process (VmHWM), libraries included.
The last result of each form, and one by a local dask cluster of two processes with 500 MiB each,
is compared with a correction of the whole matrix in memory.

    python benchmarks/out_of_core.py --features 20000 --specimens 20000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import record

BATCHES, ROWS = 5, 250
FORMS = ("matrix.h5ad", "annotated.zarr", "plain.zarr")


def make(folder: Path, specimens: int, features: int, seed: int) -> None:
    """Write the same matrix in every form, block by block."""
    import anndata
    import h5py
    import pandas as pd
    import zarr
    from anndata.io import write_elem

    rng = np.random.default_rng(seed)
    months = np.arange(specimens) % BATCHES
    treated = (rng.random(specimens) < 0.3 + 0.1 * (months % 3)).astype(int)
    ids = [f"s{i}" for i in range(specimens)]
    sheet = pd.DataFrame(
        {"month": [f"m{m}" for m in months], "drug": np.where(treated, "yes", "no")}, index=ids
    )
    data = anndata.AnnData(obs=sheet, var=pd.DataFrame(index=[f"g{j}" for j in range(features)]))
    sheet.to_csv(folder / "sheet.csv", index_label="id")
    data.write_h5ad(folder / "matrix.h5ad")
    shift = rng.normal(size=(BATCHES, features)).astype(np.float32)
    scale = rng.uniform(0.7, 1.4, size=(BATCHES, features)).astype(np.float32)
    effect = rng.normal(size=features).astype(np.float32)
    shape, options = (specimens, features), {"chunks": (ROWS, features), "dtype": "float32"}
    attributes = {"encoding-type": "array", "encoding-version": "0.2.0"}
    store = zarr.open_group(folder / "annotated.zarr", mode="w", zarr_format=3)
    store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_elem(store, "obs", data.obs)
    write_elem(store, "var", data.var)
    arrays: list[Any] = [
        zarr.create_array(folder / "plain.zarr", shape=shape, **options),
        store.create_array("X", shape=shape, **options),
    ]
    arrays[1].attrs.update(attributes)
    with h5py.File(folder / "matrix.h5ad", "r+") as root:
        if "X" in root:
            del root["X"]
        arrays.append(root.create_dataset("X", shape=shape, dtype="float32"))
        arrays[2].attrs.update(attributes)
        for low in range(0, specimens, ROWS):
            own = months[low : low + ROWS]
            block = rng.standard_normal((len(own), features), dtype=np.float32)
            block *= scale[own]
            block += shift[own] + treated[low : low + ROWS, None] * effect + 8
            for array in arrays:
                array[low : low + ROWS] = block
    os.sync()


def bare(source: Path, target: Path) -> dict[str, float]:
    """Read every block; then read and write every block."""
    import h5py
    import zarr

    from batchsense.storage.matrices.chunks import opened
    from batchsense.storage.matrices.location import find

    location = find(source)
    block = np.empty((ROWS, location.shape[1]), dtype=np.float32)
    spans = [(low, min(low + ROWS, location.shape[0])) for low in range(0, location.shape[0], ROWS)]
    began = time.perf_counter()
    with opened(location) as read:
        for low, high in spans:
            read(low, high, block[: high - low])
        middle = time.perf_counter()
        if location.store == "hdf5":
            with h5py.File(target, "w") as root:
                array = root.create_dataset("X", shape=location.shape, dtype="float32")
                for low, high in spans:
                    read(low, high, block[: high - low])
                    array[low:high] = block[: high - low]
        else:
            options = {"chunks": (ROWS, location.shape[1]), "dtype": "float32"}
            array = zarr.create_array(target, shape=location.shape, **options)
            for low, high in spans:
                read(low, high, block[: high - low])
                array[low:high] = block[: high - low]
    written = time.perf_counter()
    for path in target.rglob("*") if target.is_dir() else [target]:
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    ended = time.perf_counter()
    return {
        "read_s": middle - began,
        "read_and_write_s": written - middle,
        "until_on_disk_s": ended - written,
        "total_s": ended - began,
    }


def ours(source: Path, target: Path, engine: Any, keep_original: bool = True) -> dict[str, float]:
    """Correct a matrix."""
    from batchsense.experiments import StoredMatrix, correct_store

    sheet = source.parent / "sheet.csv"
    told: dict[str, list[float]] = {}

    def progress(task: str, done: int, total: int) -> None:
        told.setdefault(task, []).append(time.perf_counter())

    began = time.perf_counter()
    correct_store(
        StoredMatrix(source, sheet=sheet if source.name == "plain.zarr" else None),
        target,
        "month",
        method(),
        engine=engine,
        keep_original=keep_original,
        progress=progress,
    )
    ended = time.perf_counter()
    first = told["summing up specimens"][-1]
    return {"first_pass_s": first - began, "rest_s": ended - first, "total_s": ended - began}


def method() -> Any:
    """ComBat that keeps the drug."""
    from batchsense.experiments import CombatCorrection

    return CombatCorrection(keep=("drug",))


def on_cluster(source: Path, target: Path) -> dict[str, float]:
    """Correct on two processes of this machine with 500 MiB each."""
    from batchsense.experiments import connected

    small = source.parent / "small" / source.name
    with connected("local:2", 500 * 2**20) as cluster:
        ours(small, target.with_name(f"warm-{target.name}"), cluster)
        found = ours(source, target, cluster)
        return {**found, "worker_peak_mb": max(cluster.client.run(peak_mb).values())}


def difference(source: Path, target: Path) -> dict[str, float]:
    """Correct the whole matrix in memory, in double precision, and compare."""
    from batchsense.experiments import Table
    from batchsense.storage.matrices.chunks import opened
    from batchsense.storage.matrices.location import find

    ids, months, drugs = np.loadtxt(
        source.parent / "sheet.csv", str, delimiter=",", skiprows=1, unpack=True
    )
    location = find(source)
    values = np.empty(location.shape)
    block = np.empty((ROWS, location.shape[1]), dtype=np.float32)
    spans = [(low, min(low + ROWS, location.shape[0])) for low in range(0, location.shape[0], ROWS)]
    with opened(location) as read:
        for low, high in spans:
            read(low, high, block[: high - low])
            values[low:high] = block[: high - low]
    table = Table.from_arrays(values, {"month": months, "drug": drugs}, ids.tolist())
    del values
    method().fit(table, "month").transform(table, out=table.values)
    layer = "" if source.name == "plain.zarr" else "layers/batchsense"
    largest = 0.0
    with opened(replace(find(target), inside=layer)) as read:
        for low, high in spans:
            read(low, high, block[: high - low])
            apart = np.abs(block[: high - low] - table.values[low:high]).max()
            largest = max(largest, float(apart))
    return {"largest_difference": largest, "largest_value": float(np.abs(table.values).max())}


def child(arguments: argparse.Namespace) -> None:
    """One measurement in a process of its own; libraries are loaded by a small one before."""
    from batchsense.experiments import ThisProcess

    kind, source, target = arguments.child[0], *map(Path, arguments.child[1:])
    small, warm = source.parent / "small" / source.name, target.with_name(f"warm-{target.name}")
    engine = ThisProcess(arguments.memory, threads=2)
    if kind == "bare":
        bare(small, warm)
        found = bare(source, target)
    elif kind == "difference":
        found = difference(source, target)
    elif kind == "cluster":
        found = on_cluster(source, target)
    else:
        ours(small, warm, engine, kind == "ours")
        found = ours(source, target, engine, kind == "ours")
    print(json.dumps({**found, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Give the most memory that this process ever occupied."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e6


def measure(kind: str, source: Path, target: Path, memory: int) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    os.sync()
    command = [
        sys.executable,
        __file__,
        "--memory",
        str(memory),
        "--child",
        kind,
        str(source),
        str(target),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    parser = record.options(__doc__ or "", "out_of_core")
    parser.add_argument("--features", type=int, default=20_000)
    parser.add_argument("--specimens", type=int, default=20_000)
    parser.add_argument("--memory", type=int, default=500_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    began, cpu, load = time.time(), time.process_time(), os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="out-of-core-", dir=arguments.folder))
    try:
        make(folder, arguments.specimens, arguments.features, arguments.seed)
        (folder / "small").mkdir()
        make(folder / "small", 1_000, 3_000, arguments.seed)
        results = {name: compare(folder, name, arguments) for name in FORMS}
        cluster = {name: compare_cluster(folder, name, arguments) for name in FORMS[:2]}
    finally:
        shutil.rmtree(folder)
    record.write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        specimens=arguments.specimens,
        features=arguments.features,
        memory_asked_mb=arguments.memory / 1e6,
        load_at_the_beginning=load,
        matrix_mb=arguments.specimens * arguments.features * 4 / 1e6,
        results=results,
        cluster=cluster,
    )


def compare(folder: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Alternate the bare passes and the correction."""
    kinds = ["bare", "ours"] + (["ours-alone"] if name != "plain.zarr" else [])
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(arguments.repeats):
        for kind in kinds:
            target = folder / f"result-{kind}-{name}"
            remove(target)
            runs[kind].append(measure(kind, folder / name, target, arguments.memory))
            remove(target.with_name(f"warm-{target.name}"))
            print(name, kind, {k: round(v, 2) for k, v in runs[kind][-1].items()}, file=sys.stderr)
            if kind != "ours":
                remove(target)
    middle = {
        kind: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for kind, found in runs.items()
    }
    ratios = {
        kind: statistics.median(
            a["total_s"] / b["total_s"] for a, b in zip(runs[kind], runs["bare"], strict=True)
        )
        for kind in kinds[1:]
    }
    target = folder / f"result-ours-{name}"
    apart = measure("difference", folder / name, target, arguments.memory)
    remove(target)
    return {"median": middle, "ratio_to_bare": ratios, "runs": runs, "in_memory": apart}


def compare_cluster(folder: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Correct once on a local cluster."""
    target = folder / f"result-cluster-{name}"
    found = measure("cluster", folder / name, target, arguments.memory)
    print(name, "cluster", {k: round(v, 2) for k, v in found.items()}, file=sys.stderr)
    apart = measure("difference", folder / name, target, arguments.memory)
    remove(target)
    return {"run": found, "in_memory": apart}


if __name__ == "__main__":
    main()
