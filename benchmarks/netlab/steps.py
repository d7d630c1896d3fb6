"""Time real steps of DistributedDataParallel: torchrun ... steps.py OUT.json CASES.json.

A case is {"batch_size", "options": {...}}; options are those of DistributedDataParallel, and hook,
accumulate and sync_every.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))

from job import workload

HOOKS = {"fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}
#: Steps before the buckets are those of the Reducer and the connections are warm, and those timed.
WARM, TIMED = 2, 5


def timed_steps(case: dict[str, Any]) -> list[float]:
    """Seconds of each optimizer step, the mean over ranks; with sync_every, of each such period."""
    job = workload()
    options = dict(case.get("options", {}))
    hook = options.pop("hook", None)
    passes, every = options.pop("accumulate", 1), options.pop("sync_every", 1)
    workers = distributed.get_world_size()
    model: Any = job.fresh_model()
    if workers > 1 and every == 1:
        model = DistributedDataParallel(model, **options)
        if hook is not None:
            model.register_comm_hook(None, HOOKS[hook])
    optimizer = job.optimizer(list(model.parameters()))
    minibatch = list(range(case["batch_size"] // workers // passes))

    def step() -> None:
        for last in [False] * (passes - 1) + [True]:
            quiet = contextlib.nullcontext() if last or workers == 1 else model.no_sync()
            with quiet:
                job.loss(model, minibatch).backward()
        optimizer.step()
        optimizer.zero_grad()

    found = []
    for _ in range(WARM + TIMED):
        began = time.perf_counter()
        for _ in range(every):
            step()
        if workers > 1 and every > 1:
            weights = torch.cat([one.detach().reshape(-1) for one in model.parameters()])
            distributed.all_reduce(weights)
        found.append((time.perf_counter() - began) / every)
    taken = torch.tensor(found[WARM:], dtype=torch.float64)
    distributed.all_reduce(taken)
    return [float(one) / workers for one in taken]


def main(out: Path, cases: Path) -> None:
    """Time all cases and let rank 0 write."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=120))
    found = []
    for case in json.loads(cases.read_text()):
        found.append(case | {"workers": distributed.get_world_size(), "seconds": timed_steps(case)})
    if distributed.get_rank() == 0:
        out.write_text(json.dumps(found))
    distributed.barrier()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
