"""CPU seconds to a relative L2 error on two equations, for several ways to solve them.

All train the same network (2-20-20-20-1, tanh, float64) behind the same form of the output, which
satisfies initial and boundary values exactly, on one thread; DeepXDE and Scimba's quasi-Newton
methods on the 2,540 points of DeepXDE's examples. DeepXDE begins with so many steps of Adam as
``ADAM_STEPS`` says, Scimba's methods with 100, as many as this package makes at most (0, 100, 400
and 1,000 brought SSBFGS to 1e-3 on heat in 4.2, 5.4, 9.2 and 18.1 s). Time is that of the
processor, imports and the making of the problem left out, the looks at the error included. Each
run is a process of its own.

    python benchmarks/collocation_race.py [--seeds 0 1 2] [--scimba FOLDER] [-o FILE]

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

from common.record import write

#: Target error, and CPU seconds after which a run is ended, by problem.
PROBLEMS = {"heat": (1e-3, 25.0), "burgers": (1e-2, 80.0)}
#: Of Adam before the second method, lowered from the 15,000 of DeepXDE's Burgers in its favour.
ADAM_STEPS = {"heat": 1000, "burgers": 2000}
METHODS = ("batchsense", "ssbfgs", "ssbroyden", "deepxde")
POINTS = 2540
RESULT = Path(__file__).parent / "results" / "collocation_race.json"


def track(problem, model):
    """A function that notes CPU seconds and error."""
    import torch

    points = torch.from_numpy(problem.validation)
    truth = torch.from_numpy(problem.reference(problem.validation))
    started, rows = time.process_time(), []

    def look() -> float:
        with torch.no_grad():
            error = float((model(points) - truth).norm() / truth.norm())
        rows.append((round(time.process_time() - started, 3), error))
        return rows[-1][0]

    return look, rows


def with_batchsense(problem, seed, limit):
    """Phases of this package."""
    from batchsense.training.collocation.solving import Ends, solve

    report = solve(problem, Ends(seconds=limit), seed=seed)
    return [(round(row[1], 3), row[3]) for row in report.history]


def with_quasi_newton(problem, seed, limit, method):
    """Adam, then Scimba's self-scaled methods, on fixed points."""
    import torch
    from scimba_torch.optimizers.ssbroyden import SSBroyden

    from batchsense.training.collocation.conditions import collocation_loss
    from batchsense.training.collocation.point_plan import draw_points

    torch.set_default_dtype(torch.float64)
    model, drawn = (
        problem.network(seed),
        draw_points(problem.conditions, {"equation": POINTS}, seed),
    )
    look, rows = track(problem, model)

    def loss():
        optimizer.zero_grad()
        value = collocation_loss(model, problem.conditions, drawn)
        value.backward()
        return value

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(100):
        optimizer.step(loss)
        if step % 50 == 0 and look() > limit:
            return rows
    optimizer = SSBroyden(model.parameters(), method=method)
    while look() < limit:
        for _ in range(10):
            optimizer.step(loss)
    return rows


def with_deepxde(problem, seed, limit):
    """DeepXDE's Adam, then its L-BFGS, with the same form of the output."""
    os.environ["DDE_BACKEND"] = "pytorch"
    import deepxde as dde
    import numpy as np

    dde.config.set_default_float("float64")
    dde.config.set_random_seed(seed)
    low = 0.0 if problem.name == "heat" else -1.0
    there = dde.geometry.GeometryXTime(dde.geometry.Interval(low, 1), dde.geometry.TimeDomain(0, 1))

    def heat(x, u):
        return dde.grad.jacobian(u, x, i=0, j=1) - 0.4 * dde.grad.hessian(u, x, i=0, j=0)

    def burgers(x, u):
        by_x, by_t = dde.grad.jacobian(u, x, i=0, j=0), dde.grad.jacobian(u, x, i=0, j=1)
        return by_t + u * by_x - 0.01 / np.pi * dde.grad.hessian(u, x, i=0, j=0)

    data = dde.data.TimePDE(
        there, heat if problem.name == "heat" else burgers, [], num_domain=POINTS, num_test=500
    )
    net = dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot normal").double()
    transform = problem.network(seed).transforms[0]
    net.apply_output_transform(transform)
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3)
    look, rows = track(problem, net)

    class Look(dde.callbacks.Callback):
        def on_epoch_end(self):
            every = 50 if self.model.opt_name == "adam" else 1
            if self.model.train_state.step % every == 0 and look() > limit:
                self.model.stop_training = True

    model.train(ADAM_STEPS[problem.name], callbacks=[Look()], display_every=10**6, verbose=0)
    while rows[-1][0] < limit:
        dde.optimizers.set_LBFGS_options(maxiter=10**6, ftol=0, gtol=0)
        dde.optimizers.config.LBFGS_options["iter_per_step"] = 20
        dde.optimizers.config.LBFGS_options["fun_per_step"] = 25
        model.compile("L-BFGS")
        seen = len(rows)
        model.train(callbacks=[Look()], display_every=10**6, verbose=0)
        if len(rows) < seen + 3:  # it stopped by itself
            look()
            break
    return rows


def one(name, method, seed):
    """A single run."""
    import torch

    torch.set_num_threads(1)
    from batchsense.training.collocation.problems import PROBLEMS as MADE

    problem, limit = MADE[name](), PROBLEMS[name][1]
    if method == "batchsense":
        return with_batchsense(problem, seed, limit)
    if method == "deepxde":
        return with_deepxde(problem, seed, limit)
    return with_quasi_newton(problem, seed, limit, method)


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
                if (name, method, seed) in known or ("ss" in method and not args.scimba):
                    continue
                words = [sys.executable, __file__, "--one", name, method, str(seed)]
                words += ["--scimba", args.scimba] if args.scimba else []
                done = subprocess.run(words, capture_output=True, text=True)
                line = done.stdout.rpartition("ROWS")[2]
                if done.returncode:
                    print(name, method, seed, done.stderr[-2000:])
                    continue
                rows = json.loads(line)
                # One look in three: the file stays small.
                runs.append({"problem": name, "method": method, "seed": seed, "rows": rows[::3]})
                spent = sum(run["rows"][-1][0] for run in runs)
                write(args.output, 0, time.time(), spent, summary=summary(runs), runs=runs)
                print(name, method, seed, rows[-1], flush=True)


if __name__ == "__main__":
    main()
