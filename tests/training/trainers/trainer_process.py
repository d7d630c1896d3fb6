"""One process of two in a trainer: torchrun trainer_process.py TRAINER FOLDER."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from batchsense.errors import DataError

#: Of each process: half that of one process.
MICRO = 4


def metered(trainer: str, folder: Path, mode: str, precision: str) -> dict[str, Any]:
    """Train with a meter; what it reports in this process, and the weights."""
    given: dict[str, Any]
    if trainer == "lightning":
        from batchsense.training.trainers.lightning import MeterCallback

        own = MeterCallback(every=1, mode=mode)
        given = {"precision": "bf16-mixed"} if precision == "bf16" else {}
        given = {"plugins": single.half_precision()} if precision == "fp16" else given
        _, module = in_lightning(folder, own, accumulate_grad_batches=single.PARTS, **given)
        net = module.net
    else:
        from batchsense.training.trainers.hugging_face import MeterCallback as InTheTrainer

        def callback(one: Any) -> Any:
            if precision == "fp16":
                single.half_in_the_trainer(one)
            return InTheTrainer(one, every=1, mode=mode)

        given = {} if precision == "full" else {precision: True}
        given |= {"gradient_accumulation_steps": single.PARTS}
        whole, own = in_the_trainer(folder, callback, **given)
        net = whole.model
    assert isinstance(own.meter._observer._model, DistributedDataParallel)
    return {
        "values": [
            getattr(getattr(own.report().noise, name), end)
            for name in ("noise_scale", "trace_covariance")
            for end in ("estimate", "low")
        ],
        "measured": own.report().measured,
        "examples": own.report().examples_used,
        "weights": single.weights(net),
    }


def planned(trainer: str, folder: Path, micro: int | None) -> dict[str, Any]:
    """Train with a plan for the examples of both processes; the trainer's own state."""
    if trainer == "lightning":
        from batchsense.training.trainers.lightning import PlanCallback

        whole, module = in_lightning(folder, PlanCallback(single.document(), micro))
        return {
            "sizes": sorted(set(module.counts)),
            "parts": int(whole.accumulate_grad_batches),
            "steps": whole.global_step,
            "rates": module.rates,
            "weights": single.weights(module.net),
        }
    from batchsense.training.trainers.hugging_face import PlanCallback as InTheTrainer

    whole, _ = in_the_trainer(folder, lambda one: InTheTrainer(one, single.document(), micro))
    split = {"accelerator_config": {"split_batches": True}}
    refused = ""
    try:
        in_the_trainer(folder, lambda one: InTheTrainer(one, single.document(), micro), **split)
    except DataError as error:
        refused = str(error)
    assert "auto_find_batch_size and split_batches" in refused
    return {
        "sizes": [whole.args.per_device_train_batch_size],
        "parts": whole.args.gradient_accumulation_steps,
        "steps": whole.state.global_step,
        "rates": [row["learning_rate"] for row in whole.state.log_history if "loss" in row],
        "weights": single.weights(whole.model),
    }


def scheduled(trainer: str, folder: Path) -> dict[str, Any]:
    """Train with a size that doubles after the first epoch, counted over both processes."""
    schedule = f"{single.MICRO}, {2 * single.MICRO} at {single.COUNT}"
    if trainer == "lightning":
        from batchsense.training.trainers.lightning import ScheduleCallback

        own = ScheduleCallback(schedule, "lr")
        _, module = in_lightning(folder, own)
        net = module.net
    else:
        from batchsense.training.trainers.hugging_face import ScheduleCallback as InTheTrainer

        whole, own = in_the_trainer(folder, lambda one: InTheTrainer(one, schedule, "lr"))
        net = whole.model
    return {
        "switches": [(one.examples, one.batch_size) for one in own.switches],
        "weights": single.weights(net),
    }


def in_lightning(folder: Path, callback: Any, **given: Any) -> Any:
    """In this process of two."""
    return single.in_lightning(folder, callback, micro=MICRO, strategy="ddp", devices=2, **given)


def in_the_trainer(folder: Path, callback: Any, **given: Any) -> Any:
    """In this process of two."""
    given |= {"per_device_train_batch_size": MICRO, "ddp_backend": "gloo"}
    return single.in_the_trainer(folder, callback, **given)


if __name__ == "__main__":
    import test_callbacks as single  # found beside this file, which is run as a script

    assert single.MICRO == 2 * MICRO
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    TRAINER, FOLDER = sys.argv[1], Path(sys.argv[2])
    FOUND: dict[str, Any] = {
        f"{mode} {precision}": metered(TRAINER, FOLDER, mode, precision)
        for mode in ("per_example", "micro_batch")
        for precision in ("full", "bf16", "fp16")
    }
    FOUND |= {f"planned {micro}": planned(TRAINER, FOLDER, micro) for micro in (None, MICRO)}
    FOUND["scheduled"] = scheduled(TRAINER, FOLDER)
    torch.save(FOUND, FOLDER / f"rank{os.environ['RANK']}.pt")
