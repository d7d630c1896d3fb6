"""The memory envelope of a training job, from real steps at four tiny batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.errors import UnresolvedError
from batchsense.machine_memory import format_bytes
from batchsense.progress import Progress, silent
from batchsense.training.memory.allocations import (
    AllocationTrace,
    Held,
    available_bytes,
    stored,
    trace_training_step,
    two_training_steps,
    uncollected,
)
from batchsense.training.memory.envelope import (
    LOADING,
    MINIBATCH,
    MemoryEnvelope,
    envelope_of_traces,
)
from batchsense.training.memory.example_sizes import examples_to_trace
from batchsense.training.workload import Workload, admitted, borrowed_randomness, leaves

#: Equally spaced batch sizes that are traced; never 1 or 2, which take special paths.
PROBE_SIZES: tuple[tuple[int, int, int, int], ...] = (
    (4, 8, 12, 16),
    (8, 16, 24, 32),
    (16, 32, 48, 64),
)
#: Relative error at the larger size at which larger probes are tried, and beyond which an
#: envelope is rejected.
_GOOD_ERROR = 0.005
_CHECK_ERROR = 0.05
#: Share of the available memory that a probe may take: half leaves room for what it gets wrong.
_PROBE_SHARE = 0.5
#: The check at a larger size is made only where it takes less than this.
_CHECK_BYTES = 1 << 30
#: A tensor whose storage is so many times larger is a view into the data set, no copy.
_VIEW = 2


def fit_memory_envelope(
    workload: Workload, *, seed: int = 0, progress: Progress = silent
) -> MemoryEnvelope:
    r"""Trace real training steps at four tiny batch sizes and extend each allocation to all sizes.

    Each allocation grows with the batch size as :math:`a + sB` (or :math:`a + sB + qB^2`), so

    .. math:: \mathrm{peak}(B) = \max_t (A_t + S_t B + Q_t B^2).

    The minibatch is collated before the step and counts as one allocation; on the CPU the moment
    in which the next one is loaded beside it counts too. The prediction is compared with a real
    step at a size four times as large where that is cheap. Not counted: the interpreter, the data
    set itself, minibatches that a loader fetches ahead, and what kernels take from the system
    without asking PyTorch.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed. Traced on the device its model is on.
    seed : int
        Seed of the model's own randomness.
    progress : Progress
        Told after each trace.

    Returns
    -------
    MemoryEnvelope
        Peak memory and its inverse.

    Raises
    ------
    UnresolvedError
        The pattern of allocations changes with the batch size, or grows faster than a square.
    DataError
        The workload cannot be evaluated.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> envelope = fit_memory_envelope(load_target("digits"))
    >>> envelope.peak_bytes(4096) < 16e6 < envelope.peak_bytes(16384)
    True
    """
    admitted(workload)
    with borrowed_randomness(seed), uncollected():
        model = workload.fresh_model()
        on_cpu = next(model.parameters()).device.type == "cpu"
        lists, differing = examples_to_trace(workload)
        # Much is set up in the first steps only.
        two_training_steps(workload, model, workload.minibatch(first_examples(lists[0], 4)))
        order = most_demanding(workload, model, lists)
        fitted, refusals = [], []
        for sizes in PROBE_SIZES if on_cpu else PROBE_SIZES[-1:]:
            try:
                fitted.append(_fit(workload, model, order, sizes, progress))
            except UnresolvedError as refusal:
                refusals.append(refusal)
            if fitted and abs(fitted[-1].checked_error or 0.0) <= _GOOD_ERROR:
                break
        best = min(fitted, key=lambda envelope: abs(envelope.checked_error or 0.0), default=None)
        if best is None:
            raise refusals[0]
        return replace(best, differing_examples=differing)


def trace_of_size(workload: Workload, model: nn.Module, indices: Sequence[int]) -> AllocationTrace:
    """Trace a step over these examples, with model, minibatch and the loading of the next one."""
    minibatch = workload.minibatch(indices)
    return trace_training_step(
        workload, model, minibatch, *surroundings(workload, model, minibatch, len(indices))
    )


def surroundings(
    workload: Workload, model: nn.Module, minibatch: Any, size: int
) -> tuple[list[Held], list[Held]]:
    """What is held before a step of ``size`` examples, and what comes after it."""
    weights = bytes_of_storages([*model.parameters(), *model.buffers()])
    data = bytes_of_storages(leaves(minibatch))
    before = [Held("the model", "weights", weights), Held(MINIBATCH, "data", data)]
    if next(model.parameters()).device.type != "cpu":
        return before, []
    return before, [Held(LOADING, "data", data + size * _copied_bytes(workload))]


def bytes_of_storages(tensors: Sequence[Tensor]) -> int:
    """Count the bytes of tensors, each storage once."""
    storages = {}
    for tensor in stored(tensors):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())


def most_demanding(workload: Workload, model: nn.Module, lists: list[list[int]]) -> list[int]:
    """Choose the list of examples with which a small step takes most."""
    if len(lists) == 1:
        return lists[0]
    least = PROBE_SIZES[0][0]
    peaks = [trace_of_size(workload, model, first_examples(x, least)).peak_bytes for x in lists]
    return lists[int(np.argmax(peaks))]


def _fit(
    workload: Workload,
    model: nn.Module,
    order: list[int],
    sizes: tuple[int, ...],
    progress: Progress,
) -> MemoryEnvelope:
    room = available_bytes(next(model.parameters()).device)
    traces: list[AllocationTrace] = []
    for done, size in enumerate(sizes, start=1):
        if traces and room is not None:
            # Convex in the batch size and positive at 0: at most proportional.
            most = traces[-1].peak_bytes * size / sizes[done - 2]
            if most > _PROBE_SHARE * room:
                raise UnresolvedError(
                    f"a step of {size} examples may take {format_bytes(most)} of the "
                    f"{format_bytes(room)} available: too near to the limit to try",
                    "more memory, or smaller examples",
                )
        traces.append(trace_of_size(workload, model, first_examples(order, size)))
        progress("measuring memory", done, len(sizes) + 1)
    envelope = envelope_of_traces(traces, sizes)
    larger = 4 * sizes[-1]
    if envelope.peak_bytes(larger) > _CHECK_BYTES:
        return envelope
    measured = trace_of_size(workload, model, first_examples(order, larger)).peak_bytes
    progress("measuring memory", len(sizes) + 1, len(sizes) + 1)
    error = measured / envelope.peak_bytes(larger) - 1
    if abs(error) > _CHECK_ERROR:
        raise UnresolvedError(
            f"a step of {larger} examples takes {error:+.0%} against what smaller ones predict",
            "a measurement at the batch size you want",
        )
    return replace(envelope, checked_batch_size=larger, checked_error=error)


def _copied_bytes(workload: Workload) -> int:
    """Bytes that one example takes of its own before it is collated; 0 for views of the data."""
    if workload.collate is None and isinstance(workload.examples, torch.utils.data.TensorDataset):
        return 0
    own = [
        tensor
        for tensor in stored(leaves(workload.fetch([0])))
        if tensor.untyped_storage().nbytes() <= _VIEW * tensor.nbytes
    ]
    return bytes_of_storages(own)


def first_examples(order: list[int], count: int) -> list[int]:
    """Take the first examples, from the beginning again where there are too few."""
    return [int(index) for index in np.resize(order, count)]
