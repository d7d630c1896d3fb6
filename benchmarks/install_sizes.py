"""What each extra brings: packages and megabytes, by the files that pip recorded.

Sizes are those on disk without bytecode, of the environment this runs in; an extra is the closure
of its requirements there. ``--prefix`` measures another environment, for another Python.
"""

from __future__ import annotations

import re
import sys
import time
from importlib import metadata
from pathlib import Path

from common.record import options, write
from packaging.requirements import Requirement

EXTRAS = (
    *("", "training", "web", "streaming", "experiments", "collocation", "lightning", "hf", "all"),
)
MB = 1e6


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


def main() -> None:
    parser = options(__doc__ or "", "install_sizes")
    parser.add_argument("--prefix", help="site-packages of another environment")
    arguments = parser.parse_args()
    began, cpu = time.time(), time.process_time()
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
