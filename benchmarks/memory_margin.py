"""Whether the advised batch size trains under the limit, and how much larger a one would.

Four jobs, three limits, with the settings that make the C library return memory and without. The
limit is one of the address space, set in a child process after it has started up and trained a
minibatch of four: the step has exactly so much room. Where the settings are made, the largest size
that trains is found by bisection to 3 %.

    python benchmarks/memory_margin.py [-o benchmarks/results/memory_margin.json]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from common import margin_jobs
from common.record import options, write

from batchsense.machine_memory import resident_bytes
from batchsense.training import fit_memory_envelope, memory_limit
from batchsense.training.memory.trial import in_child

ROOMS = {"0.4 GB": 400_000_000, "1 GB": 10**9, "2 GB": 2 * 10**9}
#: Bisection of the largest size that trains ends at this relative width.
WIDTH = 0.03


def trains(name: str, size: int, room: int, returning: bool) -> bool:
    """Whether two steps of this size ran in a child with so much room."""
    target = f"{Path(margin_jobs.__file__)}:{name}"
    asked = {"target": target, "batch_size": size, "room_bytes": room, "seed": 0}
    return bool(in_child(asked, returning).get("trained"))


def largest(name: str, advised: int, room: int) -> int:
    """The largest size that trains with the settings made, at least ``advised``."""
    low, high = advised, int(advised * 1.3)
    while trains(name, high, room, returning=True):
        low, high = high, int(high * 1.3)
    while high - low > max(WIDTH * low, 1):
        middle = (low + high) // 2
        if trains(name, middle, room, returning=True):
            low = middle
        else:
            high = middle
    return low


def main() -> None:
    arguments = options(__doc__, "memory_margin").parse_args()
    began, cpu = time.time(), time.process_time()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in ("encoder", "cnn", "lstm", "mlp"):
        envelope = fit_memory_envelope(getattr(margin_jobs, name)(), seed=arguments.seed)
        for words, room in ROOMS.items():
            row: dict[str, Any] = {"job": name, "room": words}
            for returning in (True, False):
                limit = memory_limit(
                    envelope,
                    torch.device("cpu"),
                    resident_bytes() + room,
                    returning=returning,
                )
                advised = limit.max_batch_size or 0
                key = "returning" if returning else "defaults"
                row[key] = {
                    "advised": advised,
                    "trains": trains(name, advised, room, returning),
                }
                if returning:
                    most = largest(name, advised, room) if row[key]["trains"] else None
                    row[key] |= {
                        "largest_that_trains": most,
                        "advised_share": None if most is None else advised / most,
                    }
            print(row, flush=True)
            rows.append(row)
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        jobs=rows,
        all_advised_train=all(row[k]["trains"] for row in rows for k in ("returning", "defaults")),
        least_share=min(row["returning"]["advised_share"] or 0.0 for row in rows),
    )


if __name__ == "__main__":
    main()
