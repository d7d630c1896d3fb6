"""Peak memory of a process that makes a Gauss–Newton step on more and more points.

Heat, the network 2-20-20-20-1, float64. ``batchsense`` holds a chunk of 512 rows at a time;
``at once`` makes the Jacobian of all points; ``scimba`` is Scimba's energy natural gradient, the
matrix of a step alone. Each size is a process of its own; the peak is that of the system
(ru_maxrss), torch and imports included. A size that does not end is told as null: the processes may
take ``MOST_MIB``.

    python benchmarks/collocation_newton_memory.py [--scimba FOLDER]
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
SCIMBA = [("scimba", 10**4), ("scimba", 10**5)]
#: Address space of a process, so that the machine does not run out of memory.
MOST_MIB = 6144


def peak(how: str, count: int) -> float:
    """MiB of one step."""
    import torch

    torch.set_num_threads(1)
    from batchsense.training.collocation import Box, Condition, DrawnPoints, GaussNewton
    from batchsense.training.collocation.problems import PROBLEMS

    problem = PROBLEMS["heat"]()
    if how == "scimba":
        from common.collocation_peers import natural_gradient_problem

        projector, _ = natural_gradient_problem(problem, 0)
        data = projector.sample_all_vars(n_collocation=count)
        projector.preconditioner.compute_full_preconditioning_matrix(data)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    draw, given = Box((0.0, 0.0), (1.0, 1.0)), problem.conditions[0]
    points = draw(count, 1).double()
    term = Condition("equation", given.residual, points[:16])
    drawn = {"equation": DrawnPoints(points, points.new_full((count,), 1 / count))}
    chunk = 512 if how == "batchsense" else count
    GaussNewton([term], problem.network(0), chunk=chunk).normal_equations(drawn)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure each size in a process of its own."""
    asked = sys.argv[1:]
    scimba = asked[asked.index("--scimba") + 1] if "--scimba" in asked else None
    if scimba:
        sys.path.append(scimba)
    if "--one" in asked:
        how, count = asked[asked.index("--one") + 1 :][:2]
        most = MOST_MIB * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(peak(how, int(count)))
        return
    found: dict[str, float | None] = {}
    for how, count in [*RUNS, *(SCIMBA if scimba else [])]:
        words = [sys.executable, __file__, *asked, "--one", how, str(count)]
        done = subprocess.run(words, capture_output=True, text=True)
        failed = done.returncode != 0
        if failed and "memory" not in done.stderr:
            raise RuntimeError(done.stderr[-2000:])
        found[f"{how}, {count}"] = None if failed else round(float(done.stdout), 1)
        print(how, count, found[f"{how}, {count}"], flush=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        least, most = (found.get(f"batchsense, {size}") for size in (10**4, 10**6))
        ratio = round(most / least, 3) if least and most else None
        spent = used.ru_utime + used.ru_stime
        write(RESULT, 0, time.time(), spent, peak_mib=found, most_mib=MOST_MIB, ratio=ratio)


if __name__ == "__main__":
    main()
