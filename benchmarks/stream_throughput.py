"""Speed, memory and design effect of a stream of 4.3 GB, beside other ways to read it.

A table of 2.8 million rows of 1.5 KB, sorted into 60 groups, is written once, and a quarter of it
as Parquet, for those that read no arrays. Each way reads
minibatches of 256 in a process of its own for at most a minute, and says how fast, how much memory
the process took at its peak and before it began to read, and how many times more the group means of
its minibatches vary than those of independent rows. Where this process may make a memory control
group (version 1), ours and random access by a memory map are also run in one of 1 GB.

Hugging Face ``datasets`` and ``scDataset`` are compared where they are installed; give their
folder by PYTHONPATH.

    python benchmarks/stream_throughput.py [-o benchmarks/results/stream_throughput.json]
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common.record import options, write

ROWS, COLUMNS, GROUPS, BATCH_SIZE = 2_800_000, 384, 60, 256
MEMORY, SECONDS, CGROUP_BYTES = 256_000_000, 60.0, 10**9
SHARDS = 16
#: What ours promises.
PLANNED: dict[str, Any] = {}
#: Rows that are made at a time.
PIECE = 20_000
_CGROUPS = Path("/sys/fs/cgroup/memory")


def part(noise: Any, low: int, high: int, of: int) -> Any:
    """Rows of a table of ``of`` rows, sorted by the group in their first column."""
    found = noise[: min(len(noise), high - low)].copy()
    found[:, 0] = np.arange(low, low + len(found)) * GROUPS // of
    return found


def make_noise() -> Any:
    """What stands in the other columns."""
    return np.random.default_rng(0).normal(size=(PIECE, COLUMNS)).astype("float32")


def make_array(folder: Path) -> None:
    """Write the table as one array."""
    noise = make_noise()
    with (folder / "rows.npy").open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (ROWS, COLUMNS)}
        np.lib.format.write_array_header_1_0(stream, header)
        for low in range(0, ROWS, PIECE):
            part(noise, low, ROWS, ROWS).tofile(stream)


def make_parquet(folder: Path) -> None:
    """Write a quarter as many rows as Parquet: in one file and in shards."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([("x", pa.list_(pa.float32(), COLUMNS))])
    (folder / "shards").mkdir(exist_ok=True)
    noise = make_noise()
    rows, written, each = ROWS // 4, 0, -(-ROWS // 4 // SHARDS)
    with parquet.ParquetWriter(folder / "rows.parquet", schema, compression="none") as whole:
        for shard in range(SHARDS):
            name = folder / "shards" / f"{shard:02}.parquet"
            with parquet.ParquetWriter(name, schema, compression="none") as writer:
                end = min(written + each, rows)
                while written < end:
                    values = part(noise, written, end, rows)
                    lists = pa.FixedSizeListArray.from_arrays(values.ravel(), COLUMNS)
                    table = pa.table({"x": lists}, schema=schema)
                    for one in (whole, writer):
                        one.write_table(table, row_group_size=1000)
                    written += len(values)


def ours(folder: Path) -> Iterator[Any]:
    from batchsense.training.streaming import BlockStream

    stream = BlockStream(folder / "rows.npy", BATCH_SIZE, MEMORY)
    effect = stream.plan.design_effect
    PLANNED.update(block=stream.plan.block, pool=stream.plan.pool, high=effect.high)
    for minibatch in stream:
        yield minibatch[:, 0].numpy()


def random_map(folder: Path) -> Iterator[Any]:
    table = np.load(folder / "rows.npy", mmap_mode="r")
    order = np.random.default_rng(0).permutation(ROWS)
    for low in range(0, ROWS, BATCH_SIZE):
        yield np.asarray(table[order[low : low + BATCH_SIZE]])[:, 0]


def parquet_order(folder: Path) -> Iterator[Any]:
    from pyarrow import parquet

    for part in parquet.ParquetFile(folder / "rows.parquet").iter_batches(BATCH_SIZE):
        yield part["x"].flatten().to_numpy().reshape(-1, COLUMNS)[:, 0]


def _datasets(files: list[str]) -> Iterator[Any]:
    from datasets import load_dataset

    stream = load_dataset("parquet", data_files=files, split="train", streaming=True)
    stream = stream.shuffle(seed=0, buffer_size=10_000).with_format("numpy")
    for minibatch in stream.iter(BATCH_SIZE):
        yield np.asarray(minibatch["x"])[:, 0]


def datasets_one_file(folder: Path) -> Iterator[Any]:
    return _datasets([str(folder / "rows.parquet")])


def datasets_shards(folder: Path) -> Iterator[Any]:
    return _datasets([str(path) for path in sorted((folder / "shards").iterdir())])


def scdataset(folder: Path) -> Iterator[Any]:
    from scdataset import BlockShuffling, scDataset

    table = np.load(folder / "rows.npy", mmap_mode="r")
    for minibatch in scDataset(
        table, BlockShuffling(block_size=16), batch_size=BATCH_SIZE, fetch_factor=256
    ):
        yield np.asarray(minibatch)[:, 0]


WAYS = {
    "batchsense": (ours, None),
    "random memory map": (random_map, None),
    "parquet order": (parquet_order, None),
    "datasets, buffer 10,000, one file": (datasets_one_file, "datasets"),
    "datasets, buffer 10,000, 16 shards": (datasets_shards, "datasets"),
    "scDataset, blocks of 16, fetch 256": (scdataset, "scdataset"),
}


def run(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Read in this process, and tell."""
    way, _ = WAYS[name]
    import torch  # noqa: F401 - whoever trains has it

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    means, began = [], time.perf_counter()
    for groups in way(folder):
        means.append(float(np.mean(groups)))
        if time.perf_counter() - began > seconds:
            break
    took = time.perf_counter() - began
    variance = (GROUPS**2 - 1) / 12
    effect = np.mean((np.array(means) - (GROUPS - 1) / 2) ** 2) / (variance / BATCH_SIZE)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "megabytes_per_second": len(means) * BATCH_SIZE * COLUMNS * 4 / took / 1e6,
        "minibatches": len(means),
        "design_effect": float(effect),
        "peak_resident_megabytes": peak / 1e6,
        "resident_before_megabytes": before / 1e6,
        **PLANNED,
    }


def in_process(name: str, folder: Path, seconds: float, group: Path | None = None) -> Any:
    """Read in a process of its own, in a control group if one is given."""
    enter = None if group is None else lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    ran = subprocess.run(
        [sys.executable, __file__, "--way", name, "--folder", folder, "--seconds", str(seconds)],
        stdout=subprocess.PIPE, text=True, check=False, preexec_fn=enter,
    )  # fmt: skip
    found = json.loads(ran.stdout.splitlines()[-1]) if ran.returncode == 0 else {"failed": True}
    print(name, "" if group is None else "in 1 GB", found, flush=True)
    return found


@contextlib.contextmanager
def control_group() -> Iterator[Path | None]:
    """A memory control group of 1 GB; None where none can be made."""
    group = _CGROUPS / f"batchsense-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(CGROUP_BYTES))
    except OSError as error:
        print(f"no control group: {error}")
        yield None
        return
    try:
        yield group
    finally:
        time.sleep(1)
        group.rmdir()


def forget(folder: Path) -> None:
    """Drop the files from the page cache, so that each way begins with the disk."""
    for path in folder.rglob("*.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    parser = options(__doc__, "stream_throughput")
    parser.add_argument("--way")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(run(given.way, given.folder, given.seconds)))
        sys.exit()
    began = time.time()
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / "rows.npy").exists():
            make_array(folder)
        if not (folder / "rows.parquet").exists():
            make_parquet(folder)
        found = {}
        for way, (_, package) in WAYS.items():
            if package and importlib.util.find_spec(package) is None:
                found[way] = {"skipped": f"{package} is not installed"}
                continue
            forget(folder)
            found[way] = in_process(way, folder, given.seconds)
        group = stack.enter_context(control_group())
        limited: dict[str, Any] = {}
        for way in ("batchsense", "random memory map"):
            forget(folder)
            limited[way] = (
                {"skipped": "no memory control group can be made"}
                if group is None
                else in_process(way, folder, given.seconds, group)
            )
    write(
        given.output, given.seed, began, time.process_time(),
        rows=ROWS, row_bytes=COLUMNS * 4, batch_size=BATCH_SIZE, memory_bytes=MEMORY,
        ways=found, in_one_gigabyte=limited,
    )  # fmt: skip
