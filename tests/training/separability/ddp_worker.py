"""One process of a real DistributedDataParallel run: python ddp_worker.py RANK WORLD FOLDER NAMES.

Trains nothing: takes the gradient of each named loss over this rank's examples, once as the loss
is and, if its name ends with +, with the remedy of its audit, in two uneven micro-batches.
"""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))

from loss_zoo import named

from batchsense.training.separability import accumulate, audit
from batchsense.training.separability.probe.isolated_model import default_dtype
from batchsense.training.separability.probe.modes import InFloat64


def flat(model):
    """Join the gradients."""
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.requires_grad]).numpy()


def double(tree):
    """Raise floating tensors."""
    if isinstance(tree, dict):
        return {key: double(part) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return [double(part) for part in tree]
    return tree.double() if tree.is_floating_point() else tree


def main(rank: int, world: int, folder: Path, names: list[str]) -> None:
    """Run all losses and save the gradients of this rank."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    found = {}
    for name in names:
        repairable, name = name.endswith("+"), name.rstrip("+")
        workload = named(name).build(0)
        shard = list(range(16 * rank, 16 * (rank + 1)))
        model = DistributedDataParallel(workload.fresh_model().double())
        with InFloat64(), default_dtype(torch.float64):
            workload.loss(model, double(workload.minibatch(shard))).backward()
            found[f"{name}/plain"] = flat(model)
        if repairable:
            report = audit(workload, batch_size=32, partitions=6)
            model.zero_grad()
            with InFloat64(), default_dtype(torch.float64):
                parts = [double(workload.minibatch(shard[a:b])) for a, b in ((0, 10), (10, 16))]
                everything = double(workload.minibatch(range(16 * world)))
                whole = everything if not getattr(report.normaliser, "additive", True) else None
                scales = accumulate(report).ddp_scales(parts, world, whole=whole)
                with model.no_sync():
                    (workload.loss(model, parts[0]) * scales[0]).backward()
                (workload.loss(model, parts[1]) * scales[1]).backward()
                found[f"{name}/remedied"] = flat(model)
    np.savez(folder / f"rank{rank}.npz", **found)
    distributed.barrier()
    os._exit(0)  # gloo's threads, torn down in another order, now and then abort a finished process


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4].split(","))
