"""Tests, diagnoses and surrogates of matrices on disk, beside a bare read and the run in memory.

Tall: 20,000 specimens × 20,000 features of float32, 19 % of them stored (CSR, 600 MB), as .h5ad and
.zarr. Wide: 1,000 × 100,000 of float32 (400 MB), all of them stored. A bare read unfolds every
block with the same library, and does nothing with it. Each part runs in a process of its own and
says the CPU seconds of its work, imports left out; ratios are of CPU seconds, because others use
the machine. A row is written as soon as it is there.

    python benchmarks/beyond_memory.py --folder /tmp/beyond
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import record

TALL, WIDE, ROWS = (20_000, 20_000), (1_000, 100_000), 500
#: Stored numbers of a specimen of the tall matrix: 600 MB with their columns.
STORED = 3_750
LANES, SEED = 8, 0
TALL_MEMORY, COUNT = 1_000_000_000, 2


def sheet(specimens: int) -> Any:
    """Give the annotation: lanes, a treatment that goes with them a little, and an age."""
    import pandas as pd

    rng = np.random.default_rng(SEED)
    lanes = np.arange(specimens) % LANES
    treated = rng.random(specimens) < 0.35 + 0.1 * (lanes % 4)
    return pd.DataFrame(
        {
            "lane": [f"l{k}" for k in lanes],
            "drug": np.where(treated, "yes", "no"),
            "age": rng.integers(20, 70, size=specimens),
        },
        index=[f"s{i}" for i in range(specimens)],
    )


def make(folder: Path) -> None:
    """Write all four matrices, block by block."""
    import anndata
    import h5py
    import pandas as pd
    import zarr
    from anndata.io import write_elem

    rng = np.random.default_rng(SEED)
    for name, (specimens, features) in (("tall", TALL), ("wide", WIDE)):
        annotation = sheet(specimens)
        variables = pd.DataFrame(index=[f"g{j}" for j in range(features)])
        lanes = np.arange(specimens) % LANES
        treated = (annotation["drug"] == "yes").to_numpy()
        shift = 0.3 * rng.normal(size=(LANES, features)).astype(np.float32)
        effect = (0.3 * rng.normal(size=features) * (rng.random(features) < 0.2)).astype(np.float32)
        hidden = rng.normal(size=(specimens, 2)).astype(np.float32)
        loads = np.array([[0.5], [0.3]]) * rng.normal(size=(2, features))
        loads = (loads * (rng.random((2, features)) < 0.3)).astype(np.float32)
        unknown = hidden @ loads if name == "wide" else None
        anndata.AnnData(obs=annotation, var=variables).write_h5ad(folder / f"{name}.h5ad")
        store = zarr.open_group(folder / f"{name}.zarr", mode="w", zarr_format=2)
        store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(store, "obs", annotation)
        write_elem(store, "var", variables)
        with h5py.File(folder / f"{name}.h5ad", "r+") as root:
            if "X" in root:
                del root["X"]
            write = _sparse if name == "tall" else _dense
            write(root, store, (specimens, features), rng, (lanes, treated, shift, effect, unknown))
    os.sync()


def _sparse(root: Any, store: Any, shape: tuple[int, int], rng: Any, model: Any) -> None:
    lanes, treated, shift, effect, _ = model
    total = shape[0] * STORED
    kinds = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)}
    places = []
    for parent in (root, store):
        group = parent.create_group("X")
        group.attrs.update(kinds)
        options = {"chunks": (min(total, 1_000_000),)}
        make_one = group.create_dataset if parent is root else group.create_array
        data = make_one("data", shape=(total,), dtype="float32", **options)
        indices = make_one("indices", shape=(total,), dtype="int32", **options)
        starts = make_one("indptr", shape=(shape[0] + 1,), dtype="int64")
        starts[:] = np.arange(shape[0] + 1, dtype=np.int64) * STORED
        places.append((data, indices))
    for low in range(0, shape[0], 400):
        chance = rng.random((400, shape[1]), dtype=np.float32)
        columns = np.sort(np.argpartition(chance, STORED, axis=1)[:, :STORED], axis=1)
        rows = np.arange(low, low + 400)[:, None]
        values = 2.0 + rng.standard_normal(columns.shape, dtype=np.float32)
        values += shift[lanes[rows], columns] + treated[rows] * effect[columns]
        for data, indices in places:
            data[low * STORED : (low + 400) * STORED] = values.ravel()
            indices[low * STORED : (low + 400) * STORED] = columns.ravel()


def _dense(root: Any, store: Any, shape: tuple[int, int], rng: Any, model: Any) -> None:
    lanes, treated, shift, effect, unknown = model
    array = {"encoding-type": "array", "encoding-version": "0.2.0"}
    arrays = [root.create_dataset("X", shape=shape, dtype="float32")]
    arrays.append(store.create_array("X", shape=shape, dtype="float32", chunks=(250, 2_500)))
    for one in arrays:
        one.attrs.update(array)
    for low in range(0, shape[0], 250):
        own = slice(low, low + 250)
        block = rng.standard_normal((250, shape[1]), dtype=np.float32) + shift[lanes[own]] + 8
        block += treated[own, None] * effect + unknown[own]
        for one in arrays:
            one[own] = block


def bare(path: Path) -> dict[str, Any]:
    """Read every block."""
    from batchsense.storage.matrices.chunks import opened
    from batchsense.storage.matrices.location import find

    location = find(path)
    block = np.empty((ROWS, location.shape[1]), dtype=np.float32)
    with Measured() as took, opened(location) as read:
        for low in range(0, location.shape[0], ROWS):
            read(low, low + ROWS, block)
    return took.found


class Measured:
    """CPU and wall seconds of a block, and the peak of the process."""

    def __enter__(self) -> Measured:
        self._began = time.process_time(), time.perf_counter()
        self.found: dict[str, Any] = {}
        return self

    def __exit__(self, *_: object) -> None:
        status = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
        self.found.update(
            cpu_s=time.process_time() - self._began[0],
            wall_s=time.perf_counter() - self._began[1],
            peak_mb=int(status) / 1000,
        )


def asked(table: Any, question: str) -> dict[str, Any]:
    """Ask a table, in memory or on disk; give the numbers to compare."""
    from batchsense.experiments import Estimation, diagnose, find_surrogates, test

    if question == "test":
        found = test(table, ["drug", "age"], "lane")
        return {
            f"{one.contrast}/{name}": getattr(one, name)
            for one in found.effects
            for name in ("effect", "standard_error", "t", "p_value", "q_value")
        }
    if question == "surrogates":
        sought = find_surrogates(
            table, ["drug"], known=["lane"], estimation=Estimation(count=COUNT)
        )
        return {"values": sought.values, "affected": np.array(sought.affected_features)}
    seen = diagnose(table, "lane", ["drug", "age"])
    shares = {"lane": seen.batch_share, "joint": seen.joint_share}
    shares |= {one.entanglement.name: one.share for one in seen.kept}
    if seen.interaction_share is not None:
        shares["interaction"] = seen.interaction_share
    numbers = {}
    for name, one in shares.items():
        numbers[name] = np.array([one.raw, one.share.estimate, one.share.low, one.share.high])
        numbers[f"{name}/null"] = np.array([one.null.mean, one.null.high])
        numbers[f"{name}/p"] = np.array(one.null.p_value)
    inner = seen.component.component
    numbers["component"] = np.array([inner.estimate, inner.low, inner.high])
    numbers["explained"] = seen.scores.explained
    numbers["error"] = np.array(0.0 if seen.sketch is None else seen.sketch.relative_error)
    numbers["sums"] = np.array(0 if seen.sketch is None else seen.sketch.sums)
    return numbers


def stored(path: Path, question: str, memory: int | None, cluster: str | None) -> dict[str, Any]:
    """Ask a matrix on disk."""
    import contextlib

    from batchsense.experiments import ThisProcess, connected, on_disk

    with contextlib.ExitStack() as stack:
        engine: Any = ThisProcess(memory)
        if cluster:
            engine = stack.enter_context(connected(cluster, memory or 500_000_000, [path]))
            with on_disk(path, engine=engine) as table:  # workers load what they need
                asked(table, question)
        took = stack.enter_context(Measured())
        with on_disk(path, engine=engine) as table:
            numbers = asked(table, question)
            passes, resumed = table.passes.done, table.resumed
    return {**took.found, "passes": passes, "resumed": resumed, "numbers": numbers}


def loaded(path: Path, question: str, rows: int | None) -> dict[str, Any]:
    """Load a matrix, or its first specimens, and ask it."""
    import anndata

    from batchsense.experiments import Table

    data = anndata.read_h5ad(path)[:rows] if rows else anndata.read_h5ad(path)
    held = data.X.toarray() if hasattr(data.X, "toarray") else data.X
    columns = {name: list(data.obs[name]) for name in data.obs}
    with Measured() as took:
        table = Table.from_arrays(held.astype(np.float64), columns, categorical=["lane", "drug"])
        numbers = asked(table, question)
    return {**took.found, "numbers": numbers}


def child(folder: Path, *words: str) -> dict[str, Any]:
    """Run a part in a process of its own."""
    done = subprocess.run(_words(folder, *words), check=True, capture_output=True, text=True)
    return _read(folder, done.stdout)


def _words(folder: Path, *words: str) -> list[str]:
    # Before other work, so that wall seconds can be read; no part takes much more than a minute.
    first = ["chrt", "-r", "10"]
    return [*first, sys.executable, __file__, "--folder", str(folder), "--part", *words]


def _read(folder: Path, said: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    if "numbers" in found:
        with np.load(found["numbers"]) as kept:
            found["numbers"] = dict(kept)
    return found


def part(folder: Path, words: list[str]) -> None:
    """Do one part and print what was seen."""
    warnings.simplefilter("ignore")
    import anndata.io  # noqa: F401  (imports are no part of the work)

    # Loaded when they are asked for: imports again.
    from batchsense.experiments import diagnose, find_surrogates, on_disk, test  # noqa: F401
    from batchsense.experiments.correction.two_passes.pass_runner import compiled_for

    # At its first call numba imports what it has not imported yet.
    compiled_for(10**9).in_order(np.zeros(0, np.int32), np.zeros(1, np.int64), 1)
    what, name, *rest = words
    path = folder / name
    if what == "bare":
        found = bare(path)
    elif what == "often":  # sums are kept all the time, and the run is to be killed
        from batchsense.experiments.out_of_core import engine

        engine._KEEP_EVERY_S = 0.1
        found = stored(path, rest[0], None, None)
    elif what == "loaded":
        found = loaded(path, rest[0], int(rest[1]) or None)
    else:
        found = stored(path, rest[0], int(rest[1]) or None, rest[2] if len(rest) > 2 else None)
    if "numbers" in found:
        target = folder / f"numbers-{os.getpid()}.npz"
        np.savez(target, **found["numbers"])
        found["numbers"] = str(target)
    print(json.dumps(found))


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each kind of number, relative to the largest of its array."""
    worst: dict[str, float] = {}
    for name, one in found.items():
        other = wanted[name]
        size = max(float(np.nanmax(np.abs(other))), 1e-300)
        worst[name] = float(np.nanmax(np.abs(one - other))) / size
    return worst


def killed(folder: Path, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Kill a test by SIGKILL after sums were kept; ask again."""
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "batchsense"
    words = _words(folder, "often", name, "test", "0")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as run:
        while run.poll() is None and not list(cache.glob("*/*-sums.npz")):
            time.sleep(0.02)
        caught = run.poll() is None
        run.send_signal(signal.SIGKILL)
    again = child(folder, "stored", name, "test", "0")
    worst = max(difference(again.pop("numbers"), wanted).values())
    return {"killed_after_sums_were_kept": caught, "largest_difference": worst, **again}


#: What is measured, in this order, and how one row of it is told.
STEPS = ("tall", "loaded", "killed", "dask", "growth", "sketch", "wide", "surrogates")
Kept = Any


def tall(folder: Path, kept: Kept) -> None:
    """Test and diagnose the tall matrix in turn with a bare read, five and three times; medians."""
    for form in ("h5ad", "zarr"):
        ratios: dict[str, list[float]] = {}
        for turn in range(5):
            read = child(folder, "bare", f"tall.{form}")
            kept(**{f"bare_tall_{form}": read})
            for question in ("test", "diagnose") if turn < 3 else ("test",):
                found = child(folder, "stored", f"tall.{form}", question, str(TALL_MEMORY))
                numbers = found.pop("numbers")
                np.savez(folder / f"{question}_{form}.npz", **numbers)
                if question == "diagnose":
                    found["stated_error"] = float(numbers["error"])
                    found["sums"] = int(numbers["sums"])
                for kind in ("cpu", "wall"):
                    seen = ratios.setdefault(f"{question}_{kind}", [])
                    seen.append(found[f"{kind}_s"] / read[f"{kind}_s"])
                    found[f"{kind}_against_bare"] = float(np.median(seen))
                    found[f"{kind}_ratios"] = seen
                kept(**{f"{question}_tall_{form}": found})


def in_memory(folder: Path, kept: Kept) -> None:
    """Compare the tests with that of the loaded matrix."""
    found = child(folder, "loaded", "tall.h5ad", "test", "0")
    numbers = found.pop("numbers")
    for form in ("h5ad", "zarr"):
        with np.load(folder / f"test_{form}.npz") as stored_numbers:
            worst = difference(dict(stored_numbers), numbers)
        found[f"largest_difference_{form}"] = max(worst.values())
    kept(test_tall_loaded=found)


def kill(folder: Path, kept: Kept) -> None:
    """Kill a test, and let it go on."""
    with np.load(folder / "test_h5ad.npz") as wanted:
        kept(killed=killed(folder, "tall.h5ad", dict(wanted)))


def dask(folder: Path, kept: Kept) -> None:
    """Ask one and two workers of one thread that were asked before; by the clock, three pairs."""
    for name, question in (("tall", "test"), ("wide", "diagnose")):
        runs: dict[int, list[float]] = {1: [], 2: []}
        wanted, worst = child(folder, "stored", f"{name}.h5ad", question, "0")["numbers"], 0.0
        for _ in range(3):
            for number, seconds in runs.items():
                found = child(folder, "stored", f"{name}.h5ad", question, "0", f"local:{number}")
                worst = max(worst, *difference(found.pop("numbers"), wanted).values())
                seconds.append(found["wall_s"])
        ratio = float(np.median(np.array(runs[1]) / np.array(runs[2])))
        seen = {"one_s": runs[1], "two_s": runs[2], "ratio": ratio, "largest_difference": worst}
        kept(**{f"dask_{question}": seen})


def growth(folder: Path, kept: Kept) -> None:
    """How CPU seconds grow with specimens, 20,000 features, and the exponents."""
    sizes = [n * TALL[0] // 20_000 for n in (5_000, 10_000, 20_000)]
    found: dict[str, Any] = {"specimens": sizes}
    for question in ("test", "diagnose"):
        seconds = []
        for specimens in sizes:
            name = first_rows(folder, specimens)
            one = child(folder, "stored", name, question, str(TALL_MEMORY))
            seconds.append(one["cpu_s"])
        found[f"{question}_cpu_s"] = seconds
        slopes = np.polyfit(np.log(sizes), np.log(seconds), 1)
        found[f"{question}_exponent"] = float(slopes[0])
    kept(growth=found)


def first_rows(folder: Path, specimens: int) -> str:
    """Write the first specimens of the tall matrix as a file of their own."""
    import anndata

    name = f"tall-{specimens}.h5ad"
    if specimens == TALL[0]:
        return "tall.h5ad"
    if not (folder / name).exists():
        anndata.read_h5ad(folder / "tall.h5ad", backed="r")[:specimens].to_memory().write_h5ad(
            folder / name
        )
    return name


def sketch(folder: Path, kept: Kept) -> None:
    """Compare a sketch of 4,000 specimens with products of all of them."""
    name = first_rows(folder, TALL[0] // 5)
    few = child(folder, "stored", name, "diagnose", str(TALL_MEMORY))
    exact = child(folder, "stored", name, "diagnose", str(3_000_000_000))
    rough, numbers = few.pop("numbers"), exact.pop("numbers")
    relative: dict[str, Any] = {
        key: (np.abs(rough[key] - one) / np.maximum(np.abs(one), 1e-300)).tolist()
        for key, one in numbers.items()
        if key not in ("error", "sums") and rough[key].shape == one.shape
    }
    error = float(rough["error"])
    nulls = [max(one) for key, one in relative.items() if key.endswith("/null")]
    kept(
        sketch={
            "specimens": TALL[0] // 5,
            "stated_error": error,
            "sums": int(rough["sums"]),
            "sketched": few,
            "exact": exact,
            "order_of_shares": "raw, share, low, high",
            "relative_difference": relative,
            "largest_of_nulls_in_stated_errors": max(nulls) / error if error else None,
        }
    )


def wide(folder: Path, kept: Kept, question: str = "diagnose") -> None:
    """Diagnose the wide matrix on disk and in memory."""
    forms = ("h5ad", "zarr") if question == "diagnose" else ("h5ad",)
    numbers = {}
    for form in forms:
        found = child(folder, "stored", f"wide.{form}", question, "0")
        numbers[form] = found.pop("numbers")
        kept(**{f"{question}_wide_{form}": found})
    inside = child(folder, "loaded", "wide.h5ad", question, "0")
    wanted = inside.pop("numbers")
    for form in forms:
        inside[f"largest_difference_{form}"] = max(difference(numbers[form], wanted).values())
    kept(**{f"{question}_wide_loaded": inside})


def surrogates(folder: Path, kept: Kept) -> None:
    """Find the surrogates of the wide matrix on disk and in memory."""
    wide(folder, kept, "surrogates")


def main() -> None:
    """Measure everything, and write a row whenever one is there."""
    parser = record.options(__doc__ or "", "beyond_memory")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/beyond-memory"))
    parser.add_argument("--part", nargs="*")
    parser.add_argument("--steps", nargs="*", default=STEPS, help="the other rows stay")
    parser.add_argument("--small", action="store_true", help="to see whether it runs")
    given: argparse.Namespace = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    if given.small or os.environ.get("SMALL"):
        global TALL, WIDE, STORED
        os.environ["SMALL"] = "yes"
        TALL, WIDE, STORED = (2_000, 2_000), (250, 5_000), 375
    os.environ["XDG_CACHE_HOME"] = str(given.folder / "cache")
    if given.part:
        part(given.folder, given.part)
        return
    warnings.simplefilter("ignore")
    before = json.loads(given.output.read_text()) if given.output.exists() else {}
    began, rows, cpu = time.time(), {}, time.process_time()
    own = ("machine", "versions", "date", "seed", "cpu_seconds", "tall", "wide")
    rows = {name: row for name, row in before.items() if name not in own}

    def kept(**found: Any) -> None:
        rows.update(found)
        times = os.times()
        spent = time.process_time() - cpu + times.children_user + times.children_system
        spent += before.get("cpu_seconds", 0.0)
        record.write(given.output, SEED, began, spent, tall=TALL, wide=WIDE, **rows)
        print(round(spent), *found, flush=True)

    if not (given.folder / "wide.zarr").exists():
        make(given.folder)
    does = dict(
        zip(STEPS, (tall, in_memory, kill, dask, growth, sketch, wide, surrogates), strict=True)
    )
    for step in given.steps:
        shutil.rmtree(given.folder / "cache", ignore_errors=True)
        does[step](given.folder, kept)


if __name__ == "__main__":
    main()
