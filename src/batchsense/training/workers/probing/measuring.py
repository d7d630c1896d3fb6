"""Probe a training job: compute, exchange and buckets, in under a minute, by all workers."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch
from torch import nn

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.running.ranks import Ranks
from batchsense.training.workers.probing.exchange import measure_allreduce, real_buckets
from batchsense.training.workers.probing.local_steps import (
    LocalSteps,
    measure_compute,
    refuse_unlike_models,
)
from batchsense.training.workers.probing.readings import Probe
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    least_part,
    trainable,
)

#: Micro-batches by default: the size of today, which fits into memory, and an eighth of it.
_USUAL, _SMALLER = 64, 8
#: Shares of the time; the rest is for buckets, real steps and waiting.
_COMPUTE_SHARE, _EXCHANGE_SHARE = 0.3, 0.5


def measure_probe(
    workload: Workload,
    ranks: Ranks | None = None,
    micro_batches: tuple[int, ...] = (),
    *,
    target: str = "",
    seconds: float = 30.0,
    seed: int = 0,
    progress: Progress = silent,
) -> Probe:
    """Measure what predicts the step of any number of workers; every worker must call.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    ranks : Ranks, optional
        The workers; one alone by default, of which no exchange is measured.
    micro_batches : tuple of int
        Two sizes; today's and an eighth of it by default.
    target : str
        The name of the job, for the file.
    seconds : float
        About how long to measure.
    seed : int
        Seed of the model's own randomness.
    progress : Progress
        Told before each part.

    Returns
    -------
    Probe
        The raw readings, the same on every worker.

    Raises
    ------
    DataError
        The job cannot be run, not two different sizes, or workers have different models.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> probe = measure_probe(load_target("digits"), seconds=0.1)
    >>> [row.micro_batch for row in probe.compute], probe.allreduce
    ([4, 32], ())
    """
    ranks = Ranks() if ranks is None else ranks
    told = ranks.on_first(progress)
    count = ranks.agreed(lambda: admitted(workload))
    sizes = ranks.agreed(lambda: _two_sizes(workload, micro_batches, count))
    with borrowed_randomness(seed):
        steps = ranks.agreed(lambda: LocalSteps(workload))
        refuse_unlike_models(steps.model, ranks)
        told("timing local steps", 0, 4)
        compute = measure_compute(steps, ranks, sizes, _COMPUTE_SHARE * seconds)
        told("seeing when gradients become ready", 1, 4)
        gradients = ranks.from_first(lambda: steps.readiness(sizes[1]))
        told("timing real steps", 2, 4)
        buckets, checked = real_buckets(steps, ranks, gradients, sizes)
        told("timing the exchange", 3, 4)
        allreduce = measure_allreduce(ranks, steps.device, buckets, _EXCHANGE_SHARE * seconds)
        told("timing the exchange", 4, 4)
    backend = "none" if ranks.alone else str(ranks.backend)
    return Probe(
        target=target,
        workers=ranks.world_size,
        nodes=ranks.nodes or len(set(ranks.gathered(platform.node()))),
        backend=backend,
        interface=os.environ.get(f"{backend.upper()}_SOCKET_IFNAME"),
        device=steps.device.type,
        dtype=_dtype(steps.model),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "batchsense": metadata.version("batchsense"),
        },
        compute=compute,
        allreduce=allreduce,
        buckets=buckets,
        gradients=gradients,
        steps=checked,
    )


def _dtype(model: nn.Module) -> str:
    names = {str(one.dtype).removeprefix("torch.") for one in trainable(model)}
    return names.pop() if len(names) == 1 else "mixed"


def _two_sizes(workload: Workload, wanted: tuple[int, ...], count: int) -> tuple[int, int]:
    least = least_part(workload.model)
    if wanted:
        sizes = sorted(set(wanted))
    else:
        usual = min(max(workload.batch_size or _USUAL, 2 * least), count)
        sizes = sorted({max(least, usual // _SMALLER), usual})
    if len(sizes) != 2 or sizes[0] < least:
        raise DataError(
            f"a probe needs two different micro-batch sizes of at least {least}, not "
            f"{', '.join(map(str, sizes))}"
        )
    return sizes[0], sizes[1]
