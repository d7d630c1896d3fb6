"""Peak memory of a process that makes a Gauss–Newton step on more and more points.

Heat, the network 2-20-20-20-1, float64. ``batchsense`` holds a chunk of 512 rows at a time;
``at once`` makes the Jacobian of all points, as natural gradients on all points do. Each size is a
process of its own; the peak is that of the system (ru_maxrss), torch and imports included.

    python benchmarks/collocation_newton_memory.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from common.record import write

RESULT = Path(__file__).parent / "results" / "collocation_newton_memory.json"
RUNS = [("batchsense", 10**4), ("batchsense", 10**5), ("batchsense", 10**6), ("at once", 10**4)]


def peak(how: str, count: int) -> float:
    """MiB of one step."""
    import torch

    torch.set_num_threads(1)
    from batchsense.training.collocation import Box, Condition, DrawnPoints, GaussNewton
    from batchsense.training.collocation.problems import PROBLEMS

    problem = PROBLEMS["heat"]()
    draw, given = Box((0.0, 0.0), (1.0, 1.0)), problem.conditions[0]
    points = draw(count, 1).double()
    term = Condition("equation", given.residual, points[:16])
    drawn = {"equation": DrawnPoints(points, points.new_full((count,), 1 / count))}
    chunk = 512 if how == "batchsense" else count
    GaussNewton([term], problem.network(0), chunk=chunk).normal_equations(drawn)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure each size in a process of its own."""
    if len(sys.argv) == 3:
        print(peak(sys.argv[1], int(sys.argv[2])))
        return
    found = {}
    for how, count in RUNS:
        done = subprocess.run(
            [sys.executable, __file__, how, str(count)], capture_output=True, text=True, check=True
        )
        found[f"{how}, {count}"] = round(float(done.stdout), 1)
        print(how, count, found[f"{how}, {count}"], flush=True)
    ratio = found["batchsense, 1000000"] / found["batchsense, 10000"]
    write(RESULT, 0, time.time(), time.process_time(), peak_mib=found, ratio=round(ratio, 3))


if __name__ == "__main__":
    main()
