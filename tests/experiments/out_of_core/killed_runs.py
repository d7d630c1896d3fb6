"""Start a correction and kill it, again and again: python killed_runs.py MATRIX OUTPUT TIMES.

Each run is a fork of this process, which has loaded everything but runs no thread. A run sleeps a
little after each block, so that the kills hit all of its stages. Prints what was seen as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import anndata  # noqa: F401  (loaded before the forks)
import h5py
import zarr

from batchsense.errors import DataError
from batchsense.experiments import CombatCorrection, StoredMatrix
from batchsense.experiments.out_of_core import ThisProcess, budget, correct_store
from batchsense.experiments.out_of_core.journal import partial_folder
from batchsense.storage.matrices.location import find

#: What a run does at most before it is killed, in seconds; about what it takes in all.
LONGEST_S = 0.45


def run(matrix: Path, output: Path) -> bool:
    """Correct, slowly."""
    budget.LARGEST_BLOCK = 10 * 70 * 8
    found = correct_store(
        StoredMatrix(matrix, sheet=matrix.parent / "sheet.csv"),
        output,
        "month",
        CombatCorrection(keep=("drug",)),
        engine=ThisProcess(threads=1),
        progress=lambda *_: time.sleep(0.01),
    )
    return found.resumed


def opens_as_finished(output: Path) -> bool:
    """Whether anything that is not the result passes for it."""
    work = partial_folder(output) / "result"
    if not work.exists():
        return False
    try:
        find(work)
    except DataError:
        return False
    if work.is_dir():
        root = zarr.open(work, mode="r")
        return hasattr(root, "shape") or "layers/batchsense" in root
    with h5py.File(work) as root:
        return "layers/batchsense" in root


def main() -> None:
    """Kill, look, and let the last run finish."""
    warnings.simplefilter("ignore")
    matrix, output, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    moments = random.Random(times)
    kills = early = 0
    while kills < times or not begun(output):
        if kills >= times and output.exists():  # killed too late, and there is nothing to take up
            remove(output)
        last = kills >= times - 1
        child = os.fork()
        if child == 0:
            run(matrix, output)
            os._exit(0)
        # The last one must leave something behind, however slowly a busy machine starts it.
        while last and not (begun(output) or output.exists()):
            time.sleep(0.001)
        time.sleep(0.0 if last else moments.uniform(0.0, LONGEST_S))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            if output.exists():  # complete, and killed while it tidied up
                find(output)
                early += not complete(output)
            else:
                early += opens_as_finished(output) and not all_written(output)
        elif kills < times:  # it got through: begin again
            remove(output)
    if output.exists():
        remove(output)
    resumed = partial_folder(output).exists()
    run(matrix, output)
    print(json.dumps({"kills": kills, "opened_early": early, "resumed": resumed}))


def begun(output: Path) -> bool:
    """Whether a run has noted what it does."""
    journal = partial_folder(output) / "journal"
    return journal.exists() and journal.stat().st_size > 0


def complete(output: Path) -> bool:
    """Whether a result under its final name says that it is complete."""
    if output.is_dir():
        root = zarr.open(output, mode="r")
        return bool(root.attrs["batchsense"]["complete"])
    with h5py.File(output) as root:
        return bool(root["uns/batchsense/complete"][()])


def all_written(output: Path) -> bool:
    """Whether the journal says that every specimen is on the disk."""
    lines = (partial_folder(output) / "journal").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return sum(e["high"] - e["low"] for e in events if e["event"] == "written") >= 230


def remove(path: Path) -> None:
    """Remove a file or a store."""
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
