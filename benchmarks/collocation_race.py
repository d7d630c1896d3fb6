"""CPU seconds to a relative L2 error on five equations, for several ways to solve them.

All train the same network (2-20-20-20-1, tanh, float64) behind the same form of the output, which
satisfies initial and boundary values exactly, on one thread; other libraries on the 2,540 points of
DeepXDE's examples (``common/collocation_peers.py``). Only ``shipped`` differs: DeepXDE's example
of Burgers' equation as it is. DeepXDE begins with so many steps of Adam as
``ADAM_STEPS`` says, Scimba's methods with 100, as many as this package makes at most (0, 100, 400
and 1,000 brought SSBFGS to 1e-3 on heat in 4.2, 5.4, 9.2 and 18.1 s). Time is that of the
processor, imports and the making of the problem left out, the looks at the error included. Each
run is a process of its own.

    python benchmarks/collocation_race.py [--seeds 0 1 2] [--problems NAME ...]
        [--methods NAME ...] [--scimba FOLDER] [-o FILE]

FOLDER holds Scimba (``pip install --no-deps --target FOLDER scimba==1.4.1``); without it its rows
are left out. Runs that FILE has already are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import collocation_peers
from common.record import write

#: Target error, and CPU seconds after which a run is ended, by problem.
PROBLEMS = {
    "heat": (1e-3, 25.0),
    "burgers": (1e-2, 80.0),
    "allen-cahn": (1e-2, 30.0),
    "helmholtz": (1e-2, 30.0),
    "kovasznay": (1e-3, 30.0),
}
#: Of Adam before the second method, lowered from the 15,000 of DeepXDE's Burgers in its favour.
ADAM_STEPS = {"heat": 1000, "burgers": 2000, "allen-cahn": 1000, "helmholtz": 1000}
ADAM_STEPS["kovasznay"] = 300  # which take as long as 1,000 of the others
METHODS = ("batchsense", "ssbfgs", "ssbroyden", "natural", "deepxde", "nncg", "shipped")
#: Methods that were given two problems only: Scimba's natural gradient needs the equation written
#: anew for single points, DeepXDE's example is Burgers' equation.
ONLY = {"natural": ("heat", "burgers"), "nncg": ("heat", "burgers"), "shipped": ("burgers",)}
SCIMBA = ("ssbfgs", "ssbroyden", "natural")
MANY = 60
RESULT = Path(__file__).parent / "results" / "collocation_race.json"


def with_batchsense(problem, seed, limit):
    """Phases of this package."""
    from batchsense.training.collocation.solving import Ends, solve

    report = solve(problem, Ends(seconds=limit), seed=seed)
    return [(round(row[1], 3), row[3]) for row in report.history]


def one(name, method, seed):
    """A single run."""
    import torch

    torch.set_num_threads(1)
    from batchsense.training.collocation.problems import PROBLEMS as MADE

    problem, limit = MADE[name](), PROBLEMS[name][1]
    if method == "batchsense":
        return with_batchsense(problem, seed, limit)
    if method == "deepxde":
        return collocation_peers.deepxde(problem, seed, limit, ADAM_STEPS[name])
    if method == "nncg":
        return collocation_peers.deepxde(problem, seed, limit, ADAM_STEPS[name] // 2, "NNCG")
    return collocation_peers.METHODS[method](problem, seed, limit)


def summary(runs):
    """Medians of the seconds to the target, and errors after equal times."""
    found = {}
    for name, (target, limit) in PROBLEMS.items():
        rows = {m: [r for r in runs if r["problem"] == name and r["method"] == m] for m in METHODS}
        table = {}
        for method, made in rows.items():
            if not made:
                continue
            first = [next((t for t, e in r["rows"] if e <= target), None) for r in made]
            reached = sorted(limit if t is None else t for t in first)
            at = {
                f"{share * limit:g}": statistics.median(
                    min(e for t, e in r["rows"] if t <= share * limit or (t, e) == r["rows"][0])
                    for r in made
                )
                for share in (0.1, 0.3, 1.0)
            }
            table[method] = {
                "seconds": first,
                "median_seconds": statistics.median(reached),
                "not_reached": first.count(None),
                "best_error_after_seconds": at,
                "final_error": statistics.median(r["rows"][-1][1] for r in made),
            }
        own = table.get("batchsense")
        for method, row in table.items():
            if own and method != "batchsense":
                row["ratio"] = row["median_seconds"] / own["median_seconds"]
        found[name] = {"target": target, "limit": limit, "methods": table}
    return found


def main() -> None:
    """Make the runs that are missing and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--scimba")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    parser.add_argument("--one", nargs=3)
    args = parser.parse_args()
    if args.scimba:
        sys.path.append(args.scimba)
    if args.one:
        print("ROWS" + json.dumps(one(args.one[0], args.one[1], int(args.one[2]))))
        return
    runs = json.loads(args.output.read_text())["runs"] if args.output.exists() else []
    known = {(r["problem"], r["method"], r["seed"]) for r in runs}
    for seed in args.seeds:
        for name in args.problems:
            for method in args.methods:
                if (name, method, seed) in known or name not in ONLY.get(method, PROBLEMS):
                    continue
                if method in SCIMBA and not args.scimba:
                    continue
                words = [sys.executable, __file__, "--one", name, method, str(seed)]
                words += ["--scimba", args.scimba] if args.scimba else []
                done = subprocess.run(words, capture_output=True, text=True)
                line = done.stdout.rpartition("ROWS")[2]
                if done.returncode:
                    print(name, method, seed, done.stderr[-2000:])
                    continue
                rows = json.loads(line)
                # One look in three where they are many: the file stays small.
                rows = [*rows[:-1:3], rows[-1]] if len(rows) > MANY else rows
                load = round(os.getloadavg()[0], 1)
                runs.append(
                    {"problem": name, "method": method, "seed": seed, "load": load, "rows": rows}
                )
                spent = sum(run["rows"][-1][0] for run in runs)
                write(args.output, 0, time.time(), spent, summary=summary(runs), runs=runs)
                print(name, method, seed, rows[-1], flush=True)


if __name__ == "__main__":
    main()
