"""What each extra brings: packages and megabytes, by the files that pip recorded.

Sizes are those on disk without bytecode, of the environment this runs in; an extra is the closure
of its requirements there. ``--prefix`` measures another environment, for another Python.

``--fresh python3.12`` installs each of ``--extras`` into an environment of its own, asks it for
help and for its main command, and measures and removes it; ``--dry python3.12`` asks pip what it
would fetch. Both add their rows to those of before, and measure nothing else.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from common.record import options, write
from packaging.requirements import Requirement

EXTRAS = (
    *("", "training", "web", "streaming", "experiments", "collocation", "lightning", "hf", "all"),
)
MB = 1e6
ROOT = Path(__file__).resolve().parent.parent
_METER = (
    "from batchsense.training.trainers.{0} import MeterCallback as M; "
    "print(type(M({1}every=1)).__mro__[2])"
)
#: What each extra is for, in the shell, in the folder of the environment.
COMMANDS = {
    "": "batchsense diagnose",
    "training": "batchsense plan digits --budget 2",
    "web": "timeout -s INT 15 batchsense web --port 0 | grep -m 1 http",
    "streaming": "python -c 'import numpy; numpy.save(\"rows.npy\", numpy.random.rand(40000, 9))' "
    "&& batchsense stream rows.npy --batch-size 64 --memory 8MB",
    "experiments": "batchsense correct -o corrected.parquet",
    "collocation": "batchsense collocation heat --error 1e-3",
    "lightning": f"python -c '{_METER.format('lightning', '')}'",
    "hf": f"python -c '{_METER.format('hugging_face', 'None, ')}'",
    "all": "batchsense plan digits --budget 2 && batchsense diagnose",
}
#: What only a CUDA build of torch brings.
CUDA = re.compile(r"nvidia-|cuda-|triton$")


def normal(name: str) -> str:
    """The form in which names of packages are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def size(found: metadata.Distribution) -> int:
    """Bytes of its files, without bytecode."""
    files = [Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc"]
    return sum(file.stat().st_size for file in files if file.is_file())


def closure(known: dict[str, metadata.Distribution], extra: str) -> set[str]:
    """Names of all packages that ``batchsense[extra]`` needs, itself left out."""
    todo, seen = [("batchsense", frozenset({extra} - {""}))], set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen or name not in known:
            continue
        seen.add((name, extras))
        for text in known[name].requires or ():
            need = Requirement(text)
            chosen = [{"extra": one} for one in extras or {""}]
            if need.marker is None or any(need.marker.evaluate(one) for one in chosen):
                todo.append((normal(need.name), frozenset(need.extras)))
    return {name for name, _ in seen} - {"batchsense"}


def fresh(python: str, extra: str) -> dict[str, Any]:
    """Install an extra where there is nothing, run what it is for, and measure it."""
    with tempfile.TemporaryDirectory(prefix="batchsense-") as folder:
        place = {"cwd": folder, "env": os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}"}}
        place["env"].pop("PYTHONPATH", None)
        place["env"]["PYTHONDONTWRITEBYTECODE"] = "1"
        began = time.time()
        subprocess.run([python, "-m", "venv", folder], check=True)
        words = ["pip", "install", "-q", "--no-compile", "-c", f"{ROOT}/constraints.txt"]
        subprocess.run([*words, wanted(extra)], check=True, **place)
        installed = time.time() - began
        for command in ("batchsense --help", COMMANDS[extra]):
            subprocess.run(["bash", "-ec", command], check=True, stdout=subprocess.PIPE, **place)
        for file in Path(folder).rglob("*.pyc"):
            file.unlink()
        plain = on_disk(folder)
        place["env"].pop("PYTHONDONTWRITEBYTECODE")
        subprocess.run(["python", "-m", "compileall", "-qq", f"{folder}/lib"], **place, check=False)
        names = subprocess.check_output(["pip", "list", "--format=json"], **place)
        own = {"pip", "batchsense"}
        return {
            "python": version(python),
            "extra": extra or "core",
            "command": COMMANDS[extra],
            "packages": len({normal(one["name"]) for one in json.loads(names)} - own),
            "megabytes": plain / MB,
            "megabytes_with_bytecode": on_disk(folder) / MB,
            "install_seconds": installed,
        }


def dry(python: str, extra: str) -> dict[str, Any]:
    """Ask pip under another Python what it would fetch, and add up the wheels."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--dry-run"]
        words += ["--ignore-installed", "-c", f"{ROOT}/constraints.txt", wanted(extra)]
        subprocess.run([*words, "--report", f"{folder}/report.json"], check=True)
        found = json.loads(Path(folder, "report.json").read_text())["install"]
    wheels = {
        normal(one["metadata"]["name"]): one["download_info"]["url"]
        for one in found
        if normal(one["metadata"]["name"]) != "batchsense"
    }
    assert all(url.endswith(".whl") for url in wheels.values()), "something must be compiled"
    cuda = sorted(name for name in wheels if CUDA.match(name))
    plain = [wheel_size(url) for name, url in wheels.items() if name not in {*cuda, "torch"}]
    return {
        "python": version(python),
        "extra": extra or "core",
        "packages": len(wheels) - len(cuda),
        "megabytes_without_torch": sum(plain) / MB,
        "torch_megabytes": wheel_size(wheels["torch"]) / MB if "torch" in wheels else 0.0,
        "torch": re.sub(r".*/", "", wheels.get("torch", "")),
        "cuda_packages": len(cuda),
        "cuda_megabytes": sum(wheel_size(wheels[name]) for name in cuda) / MB,
    }


def wanted(extra: str) -> str:
    """What to tell pip."""
    return f"{ROOT}[{extra}]" if extra else str(ROOT)


def version(python: str) -> str:
    """Of an interpreter."""
    return subprocess.check_output([python, "-V"], text=True).split()[1]


def on_disk(folder: str) -> int:
    """Bytes of all files, links left out."""
    return sum(f.lstat().st_size for f in Path(folder).rglob("*") if not f.is_symlink())


@cache
def wheel_size(url: str) -> int:
    """Bytes of a wheel, without fetching it."""
    if url.startswith("file:"):
        return Path(url.removeprefix("file://")).stat().st_size
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=60) as answer:
        return int(answer.headers["content-length"])


def add_rows(arguments: Any, began: float) -> None:
    """Measure row after row, each kept at once beside those of before."""
    held = json.loads(arguments.output.read_text())
    kept = ("python_measured", "packages", "extras", "fresh", "dry")
    for name, measure in (("fresh", fresh), ("dry", dry)):
        for python in getattr(arguments, name):
            for extra in arguments.extras:
                row = measure(python, extra)
                print(row, flush=True)
                same = [(one["python"], one["extra"]) for one in held.setdefault(name, [])]
                if (row["python"], row["extra"]) in same:
                    held[name].pop(same.index((row["python"], row["extra"])))
                held[name].append(row)
                ends = time.process_time() + sum(os.times()[2:4])
                own = {key: held[key] for key in kept if key in held}
                write(arguments.output, arguments.seed, began, ends, **own)


def main() -> None:
    parser = options(__doc__ or "", "install_sizes")
    parser.add_argument("--prefix", help="site-packages of another environment")
    parser.add_argument("--fresh", nargs="*", default=[], help="interpreters to install under")
    parser.add_argument("--dry", nargs="*", default=[], help="interpreters to ask pip for")
    parser.add_argument("--extras", nargs="*", default=EXTRAS, help="'' for the core")
    arguments = parser.parse_args()
    began, cpu = time.time(), time.process_time()
    if arguments.fresh or arguments.dry:
        add_rows(arguments, began)
        return
    where = {} if arguments.prefix is None else {"path": [arguments.prefix]}
    known = {normal(one.metadata["Name"]): one for one in metadata.distributions(**where)}
    if arguments.prefix is not None:
        known.setdefault("batchsense", metadata.distribution("batchsense"))
    names = {extra or "core": sorted(closure(known, extra)) for extra in EXTRAS}
    sizes = {name: size(known[name]) for name in sorted(set().union(*names.values()))}
    totals = {extra: sum(sizes[name] for name in held) for extra, held in names.items()}
    for extra, held in names.items():
        print(f"{extra:12} {len(held):3} packages {totals[extra] / MB:7.0f} MB")
    for name in sorted(sizes, key=lambda one: -sizes[one]):
        print(f"{name:28} {sizes[name] / MB:7.1f} MB  {known[name].version}")
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        python_measured=sys.version.split()[0],
        packages={
            name: {"version": known[name].version, "megabytes": round(sizes[name] / MB, 2)}
            for name in sizes
        },
        extras={
            extra: {"packages": held, "megabytes": round(totals[extra] / MB, 1)}
            for extra, held in names.items()
        },
    )


if __name__ == "__main__":
    main()
