"""Time sums of messages over workers, and see which buckets DistributedDataParallel makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from batchsense import clock
from batchsense.training.running.ranks import Ranks
from batchsense.training.workers.probing.link import AllReduceReading
from batchsense.training.workers.probing.local_steps import LocalSteps
from batchsense.training.workers.probing.overlap import MEBIBYTE, Bucket, fill_buckets
from batchsense.training.workers.probing.readings import StepReading

#: Small enough that its time is all rounds and no rate.
SMALL_BYTES = 4096
#: A second size at least so large, or nothing is known of the rate.
_LEAST_LARGE_BYTES = 1 << 16
#: Of bucket sizes nearer than this the law knows one from the other.
_ALIKE = 1.2
#: Messages before the first that counts: a cold connection (TCP starts slowly) was up to twice as
#: slow as a warm one.
_WARM = 2
#: Turns of all sizes, and repeats of each in a turn.
_BLOCKS, _MOST_REPEATS = 4, 5
#: Real steps for the check; the Reducer builds its final buckets after the first.
_WARM_STEPS, _CHECKED_STEPS = 3, 5


def measure_allreduce(
    ranks: Ranks, device: torch.device, buckets: Sequence[Bucket], seconds: float
) -> tuple[AllReduceReading, ...]:
    """Time sums over all workers and, from three on, over a subgroup of them.

    Messages follow each other without a pause, so that connections stay warm. A size that does not
    fit into the time is left out, as long as two remain.
    """
    if ranks.alone:
        return ()
    members = [list(range(ranks.world_size))]
    if (subgroup := _subgroup(ranks)) is not None:
        members.append(subgroup)
    found: list[AllReduceReading] = []
    for chosen in members:
        group = None
        if len(chosen) < ranks.world_size:
            # Without it a group of its own waits for half an hour.
            patience = timedelta(seconds=ranks.timeout_seconds)
            group = distributed.new_group(chosen, timeout=patience)
        times: dict[int, list[float]] = {}
        if ranks.rank in chosen:
            times = _timed_sizes(group, device, _sizes(buckets), seconds / len(members))
        shared = [one for one in ranks.gathered(times) if one]
        for size in shared[0]:
            repeats = np.mean([one[size] for one in shared], axis=0)
            found.append(AllReduceReading(size, len(chosen), tuple(map(float, repeats))))
    return tuple(found)


def _subgroup(ranks: Ranks) -> list[int] | None:
    """Half of the workers; where machines have several each, one of each machine.

    A second number of workers tells a shared link from a switched one, but only over the link that
    all of them use.
    """
    nodes = ranks.gathered(int(os.environ.get("GROUP_RANK", "0")))
    if ranks.world_size < 3:
        return None
    firsts = [nodes.index(node) for node in sorted(set(nodes))]
    if 1 < len(firsts) < ranks.world_size:
        return firsts
    return list(range(max(2, ranks.world_size // 2)))


def _sizes(buckets: Sequence[Bucket]) -> list[int]:
    """4 KiB, the sizes of buckets that differ, and 1 MiB below a large one."""
    largest = max(bucket.bytes for bucket in buckets)
    wanted = {bucket.bytes for bucket in buckets} | {max(largest, _LEAST_LARGE_BYTES)}
    if largest > MEBIBYTE:
        wanted.add(MEBIBYTE)
    kept = [SMALL_BYTES]
    for size in sorted(wanted):
        if size >= _ALIKE * kept[-1] or size == largest:
            kept.append(size)
    return kept if len(kept) < 6 else [*kept[:3], kept[len(kept) // 2], kept[-1]]


def _timed_sizes(
    group: Any, device: torch.device, sizes: Sequence[int], seconds: float
) -> dict[int, list[float]]:
    """Seconds of each repeat; every member of the group takes the same number of them.

    Sizes take turns in blocks, so that a slow moment of the machine meets few repeats of each. The
    first of a block does not count: a rank that leaves a large message early waits in the next.
    """
    messages: dict[int, torch.Tensor] = {}
    ends, one_round = clock.now() + seconds, 0.0
    for place, size in enumerate(sizes):
        left = _agreed(max(ends - clock.now(), 0.0), group, device)
        if place > 1:
            expected = one_round * size / sizes[place - 1]
            if (_WARM + 2 * _BLOCKS) * (one_round + expected) > left:
                break
        message = torch.zeros(max(size // 4, 1), device=device)
        messages[size] = message
        warm = [_once(message, group) for _ in range(_WARM)]
        one_round += _agreed(max(warm[-1], 1e-9), group, device)
    left = _agreed(max(ends - clock.now(), 0.0), group, device)
    repeats = int(np.clip(left / one_round / _BLOCKS - 1, 1, _MOST_REPEATS))
    found: dict[int, list[float]] = {size: [] for size in messages}
    for _ in range(_BLOCKS):
        for size, message in messages.items():
            block = [_once(message, group) for _ in range(1 + repeats)]
            found[size] += block[1:]
    return found


def _agreed(value: float, group: Any, device: torch.device) -> float:
    """The largest that any member has, so that all decide alike."""
    largest = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=group)
    return float(largest)


def _once(message: torch.Tensor, group: Any) -> float:
    began = clock.now()
    distributed.all_reduce(message, group=group)
    if message.is_cuda:
        torch.cuda.synchronize(message.device)
    return clock.now() - began


def real_buckets(
    steps: LocalSteps, ranks: Ranks, gradients: Sequence[Bucket], micro_batches: tuple[int, int]
) -> tuple[tuple[Bucket, ...], tuple[StepReading, ...]]:
    """The buckets of the Reducer after it has seen a step, and how long real steps take.

    One worker alone has no Reducer: buckets are then filled as it would.
    """
    if ranks.alone:
        return fill_buckets(gradients), ()
    # Only a gradient that never came is ready at the very end.
    untouched = any(gradient.ready >= 1 for gradient in gradients)
    model = DistributedDataParallel(steps.loss_module(), find_unused_parameters=untouched)
    readings = []
    for size in micro_batches:
        repeat = _repeating(steps, model, size)
        repeat(_WARM_STEPS)
        everyone = ranks.gathered(repeat(_CHECKED_STEPS))
        readings.append(
            StepReading(ranks.world_size, size, tuple(map(float, np.mean(everyone, axis=0))))
        )
    told: dict[str, Any] = model._get_ddp_logging_data()  # type: ignore[no-untyped-call]
    sizes = told.get("rebuilt_bucket_sizes") or told["bucket_sizes"]
    return _ready([int(size) for size in str(sizes).split(",")], gradients), tuple(readings)


def _repeating(steps: LocalSteps, model: Any, size: int) -> Callable[[int], list[float]]:
    return lambda times: [steps.whole_step(model, size) for _ in range(times)]


def _ready(sizes: Sequence[int], gradients: Sequence[Bucket]) -> tuple[Bucket, ...]:
    """A bucket is ready when the last gradient that fills it is."""
    ends = np.cumsum([gradient.bytes for gradient in gradients])
    buckets = []
    for size, end in zip(sizes, np.cumsum(sizes), strict=True):
        last = min(int(np.searchsorted(ends, end)), len(gradients) - 1)
        buckets.append(Bucket(size, gradients[last].ready))
    return tuple(buckets)
