"""Ask the command line about hostile tables and jobs, and judge every ending.

Tables with their sheets, words and training jobs are drawn from seeds; see ``hostile/``. Of every
ending holds: an exit code of an answer or a refusal, no traceback, no warning, every input as it
was, outputs complete or absent, stdout valid against the schema, no value lost in a correction, and
the same answer for the same table in another order, under other names and in another unit.

    python benchmarks/hostile_inputs.py [--inputs N] [--processes N] [--jobs N] [--only SEED]
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from common.record import options, write
from hostile.asking import ask_about_a_job, ask_about_a_table
from hostile.judge import in_a_process, in_process


def main() -> None:
    given = options(__doc__ or "", "hostile_inputs")
    given.add_argument("--inputs", type=int, default=10_000)
    given.add_argument("--processes", type=int, default=300)
    given.add_argument("--jobs", type=int, default=200)
    given.add_argument("--first", type=int, default=0, help="index of the first input")
    given.add_argument("--only", nargs="+", help="such as table-17 or job-3: repeat, say all")
    asked = given.parse_args()
    began, cpu = time.time(), time.process_time()
    last = asked.first + asked.inputs
    wanted = [("table", index, in_process) for index in range(asked.first, last)]
    wanted += [("process", index, in_a_process) for index in range(last, last + asked.processes)]
    wanted += [("job", index, in_process) for index in range(asked.first, asked.first + asked.jobs)]
    if asked.only:
        ways = {"table": in_process, "process": in_a_process, "job": in_process}
        wanted = [(k, int(i), ways[k]) for k, _, i in (o.partition("-") for o in asked.only)]
    counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    faults = {}
    for kind, index, way in wanted:
        ask = ask_about_a_job if kind == "job" else ask_about_a_table
        with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
            tried = ask((asked.seed, index), Path(name), way)
        counted[kind][f"{tried.command} {tried.code}"] += 1
        counted[kind]["turned"] += tried.turned
        if tried.faults:
            faults[f"{kind}-{index}"] = {"words": tried.words, "faults": tried.faults}
            print(f"{kind}-{index}", " ".join(tried.words), tried.faults, flush=True)
        if asked.only:
            print(tried.words, tried.code, tried.said)
    if asked.only:
        sys.exit(bool(faults))
    write(
        asked.output,
        asked.seed,
        began,
        time.process_time() - cpu,
        asked={kind: dict(sorted(one.items())) for kind, one in counted.items()},
        inputs={"tables": asked.inputs, "processes": asked.processes, "jobs": asked.jobs},
        faults=faults,
    )


if __name__ == "__main__":
    main()
