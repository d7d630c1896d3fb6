"""One process of a data-parallel run with a meter: python ddp_meter_worker.py RANK FOLDER CASES."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from batchsense.training import GradientNoiseMeter, LossForm, digits_workload

STEPS, BATCH_SIZE = 64, 32


def draw(step: int, parts: int) -> np.ndarray:
    """The examples of a step, in equal parts."""
    drawn = np.random.default_rng(step).choice(1797, size=BATCH_SIZE, replace=False)
    return drawn.reshape(parts, -1)


def train(model, job, optimizer, meter, parts_of):
    """Accumulate over the parts of each step; communicate with the last one only."""
    with meter:
        for step in range(STEPS):
            parts = parts_of(step)
            optimizer.zero_grad()
            for k, chosen in enumerate(parts):
                last = k + 1 == len(parts)
                waiting = hasattr(model, "no_sync") and not last
                with model.no_sync() if waiting else contextlib.nullcontext():
                    loss = job.loss(model, job.minibatch(chosen)) / len(parts)
                    loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def measured(rank: int, case: dict) -> dict:
    """Train one process's share and give what the meter holds."""
    job = digits_workload()
    model = DistributedDataParallel(job.model, gradient_as_bucket_view=case["views"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    passes = case["passes"]
    form = LossForm(loss_scale=1 / passes)
    meter = GradientNoiseMeter(model, optimizer, mode=case["mode"], every=1, form=form)

    def mine(step):
        return draw(step, 2 * passes)[rank * passes : (rank + 1) * passes]

    train(model, job, optimizer, meter, mine)
    weights = torch.cat([p.detach().reshape(-1) for p in job.model.parameters()])
    return {"meter": meter.state_dict(), "weights": weights}


def main(rank: int, folder: Path, cases: list[dict]) -> None:
    """Run every case and save what was found."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    torch.save([measured(rank, case) for case in cases], folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
