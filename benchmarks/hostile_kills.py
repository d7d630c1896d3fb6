"""End writing commands at random moments: nothing is half, nothing is lost, every re-run goes on.

Commands that write (correct in memory and out of core, in text, HDF5 and Zarr, with and without
``--force``; test, layout, surrogates, plan, verify, demo) are started as processes and get KILL,
TERM or INT after a random part of the time that they take. After each, every input and every older
result is as it was or complete, an output is absent or complete, and the same command either ends
well or names the file to remove.

    python benchmarks/hostile_kills.py [--kills N] [-o benchmarks/results/hostile_kills.json]
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common.record import options, write
from hostile.judge import in_a_process, state

#: Where verify keeps its finished runs, beside the plan.
JOURNAL = "plan.verify.json"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: So many rows make a write last long enough to be hit.
ROWS, COLUMNS = 240, 800
TABLE = ["m.csv", "s.csv", "--batch", "month"]
COMMANDS = {
    "correct text": ["correct", *TABLE, "--keep", "drug", "-o", "o.csv"],
    "correct text again": ["correct", *TABLE, "--keep", "drug", "-o", "o.csv", "--force"],
    "correct and keep": ["correct", *TABLE, "-o", "o.tsv.gz", "--save-fitted", "f.npz"],
    "correct h5ad": ["correct", "m.h5ad", "s.csv", "--batch", "month", "-o", "o.h5ad"],
    "out of core h5ad": [
        *("correct", "m.h5ad", "s.csv", "--batch", "month", "--out-of-core", "-o", "o.h5ad"),
    ],
    "out of core zarr": [
        *("correct", "m.zarr", "s.csv", "--batch", "month", "--out-of-core", "-o", "o.zarr"),
    ],
    "test": ["test", *TABLE, "--contrast", "drug", "-o", "o.csv", "--report", "o.html"],
    "layout": ["layout", "s.csv", "--batches", "4", "--balance", "drug", "-o", "o.csv"],
    "surrogates": ["surrogates", "m.csv", "s.csv", "--permutations", "20", "-o", "o.csv"],
    "plan": ["plan", "digits", "--budget", "1", "-o", "o.json"],
    "verify": ["verify", "digits", "--plan", "plan.json", "--budget", "2", "-o", "o.json"],
}


def prepare(folder: Path) -> None:
    """The inputs of all commands."""
    import warnings

    import anndata
    import pandas as pd

    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(ROWS)]
    month = [f"m{i % 4}" for i in range(ROWS)]
    drug = rng.choice(["no", "yes"], ROWS)
    values = pd.DataFrame(rng.normal(size=(ROWS, COLUMNS)), index=pd.Index(ids, name="id"))
    values.columns = [f"g{i}" for i in range(COLUMNS)]
    values.to_csv(folder / "m.csv")
    sheet = pd.DataFrame({"id": ids, "month": month, "drug": drug})
    sheet.to_csv(folder / "s.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anndata.AnnData(values).write_h5ad(folder / "m.h5ad")
        anndata.AnnData(values).write_zarr(folder / "m.zarr")
    assert in_a_process(["plan", "digits", "--budget", "2", "-o", "plan.json"]).code == 0


def outputs(words: list[str]) -> list[Path]:
    """The files that a command names as outputs."""
    flags = ("-o", "--save-fitted", "--report")
    return [Path(words[place + 1]) for place, word in enumerate(words) if word in flags]


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    import shutil

    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def content(path: Path) -> object:
    """What an output holds: numbers of stores, bytes of the rest without times."""
    if not path.exists():
        return None  # a refusal writes nothing, such as a budget too small for a sweep
    if path.suffix == ".h5ad":
        import h5py

        with h5py.File(path) as root:
            return root["layers/batchsense"][()].round(9).tobytes()
    if path.suffix == ".zarr":
        import zarr

        return zarr.open(path, mode="r")["layers/batchsense"][:].round(9).tobytes()
    # Words, times and measured numbers differ from run to run; that it is whole is seen at its end.
    if path.suffix in (".json", ".html", ".npz", ".gz"):
        return path.read_bytes()[-3:] if path.suffix != ".gz" else readable(path)
    return path.read_bytes()


def whole_json(path: Path) -> bool:
    """Whether a file is one complete document."""
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def readable(path: Path) -> object:
    """The text of a compressed file."""
    import gzip

    return gzip.decompress(path.read_bytes())


def kill_once(
    name: str, seconds: float, moments: random.Random, whole: dict[Path, object]
) -> tuple[str, list[str]]:
    """Start a command, end it, look, and run it again; the signal, and what does not hold."""
    words, chosen = COMMANDS[name], moments.choice(SIGNALS)
    targets, inputs = outputs(words), state(Path())
    running = subprocess.Popen(
        [sys.executable, "-m", "batchsense", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(moments.uniform(0.3, 1.0) * seconds)
    running.send_signal(chosen)
    running.wait(timeout=600)
    found, after = [], state(Path())
    ours = [str(path) for path in targets]
    kept = [f"changed {one}" for one in inputs if after.get(one) != inputs[one]]
    # What a command goes on from grows with every run; it must be whole, and never be gone.
    kept = [one for one in kept if one != f"changed {JOURNAL}" or not whole_json(Path(JOURNAL))]
    found += [one for one in kept if not any(one.startswith(f"changed {name}") for name in ours)]
    for path in targets:
        if path.exists() and content(path) != whole[path]:
            found.append(f"{path} is half")
        if "--force" in words and not path.exists():
            found.append(f"{path} is lost")
    if "--force" not in words:
        # Complete: it ended before the signal. All of several outputs or some: never a half one.
        for path in targets:
            remove(path)
    again = in_a_process(words)
    if again.code not in (0, 1):
        return chosen.name, [*found, f"again: {again.err[-200:]}"]
    found += [f"{path} differs" for path in targets if content(path) != whole[path]]
    found += [f"left {path}" for path in Path().glob("*.partial")]
    return chosen.name, found


def main() -> None:
    given = options(__doc__ or "", "hostile_kills")
    given.add_argument("--kills", type=int, default=110)
    asked = given.parse_args()
    began, cpu, moments = time.time(), time.process_time(), random.Random(asked.seed)
    results = asked.output.resolve()
    counted: collections.Counter[str] = collections.Counter()
    faults: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(Path())
        for name, words in COMMANDS.items():
            for path in outputs(words):
                remove(path)
            start = time.monotonic()
            first = in_a_process([word for word in words if word != "--force"])
            seconds = time.monotonic() - start
            if first.code not in (0, 1):
                raise SystemExit(f"{name}: {first.err}")
            whole = {path: content(path) for path in outputs(words)}
            for kill in range(-(-asked.kills // len(COMMANDS))):
                if "--force" not in words:
                    for path in outputs(words):
                        remove(path)
                chosen, found = kill_once(name, seconds, moments, whole)
                counted[name] += 1
                counted[chosen] += 1
                if found:
                    faults[f"{name} {kill}"] = found
                    print(name, kill, found, flush=True)
                for path in [*Path().glob("*.partial"), *Path().glob(".batchsense-*")]:
                    counted["leftovers"] += path.name.startswith(".batchsense-")
                    remove(path)
            for path in outputs(words):
                remove(path)
            print(name, "done", flush=True)
        os.chdir("/")
    spent = time.process_time() - cpu
    write(results, asked.seed, began, spent, kills=dict(counted), faults=faults)


if __name__ == "__main__":
    main()
