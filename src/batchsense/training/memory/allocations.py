"""What a device has left, and every allocation of one real training step with its lifetime."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from batchsense.arrays import Integers
from batchsense.machine_memory import available_memory
from batchsense.training.workload import Workload, scalar_loss, still_optimizer


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device; None where nothing says.

    On the CPU the smaller of the system's available memory and what the control group has left.

    Examples
    --------
    >>> available_bytes(torch.device("meta")) is None
    True
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    return available_memory()


@dataclass(frozen=True, slots=True, eq=False)
class AllocationTrace:
    """The allocations of a training step.

    Attributes
    ----------
    sizes : array of shape (allocations,)
        Bytes, in the order of allocation.
    freed_before : array of shape (allocations,)
        The first later allocation before which each was freed; the number of allocations if never.
    operations : tuple of str
        The operation that allocated.
    """

    sizes: Integers
    freed_before: Integers
    operations: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """The most bytes that were alive at once.

        Examples
        --------
        >>> AllocationTrace(np.array([8, 16, 4]), np.array([1, 3, 3]), ("a", "b", "c")).peak_bytes
        20
        """
        return int(live_totals(self.sizes, self.freed_before).max(initial=0))


def live_totals(amounts: npt.ArrayLike, freed_before: Integers) -> npt.NDArray[Any]:
    """Return what is alive after each allocation: the sum of amounts not freed before it.

    Amounts are bytes or any coefficient of them; all arrays have shape (allocations,), and
    ``freed_before`` is that of :class:`AllocationTrace`.

    Examples
    --------
    >>> live_totals([8, 16, 4], np.array([1, 3, 3]))
    array([ 8, 16, 20])
    """
    values = np.asarray(amounts)
    change = np.append(values, 0)
    np.subtract.at(change, np.minimum(freed_before, len(values)), values)
    return np.cumsum(change[:-1])


def trace_training_step(
    workload: Workload, model: nn.Module, indices: Sequence[int]
) -> AllocationTrace:
    """Run two training steps and record the allocations on the model's device.

    Two steps, because only the second has the optimizer's state beside the activations. Weights do
    not move (learning rate zero). ``model`` is a copy made before, so its own bytes are not traced.

    Raises
    ------
    DataError
        The workload cannot be evaluated.
    """
    device = next(model.parameters()).device
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler: Any = torch.profiler.profile(
        activities=activities, profile_memory=True, acc_events=True
    )
    collecting = gc.isenabled()
    gc.disable()  # a collection inside the trace would free at a random moment
    try:
        with _quiet_profiler():
            profiler.__enter__()
        try:
            two_training_steps(workload, model, indices)
        finally:
            with _quiet_profiler():
                profiler.__exit__(None, None, None)
    finally:
        if collecting:
            gc.enable()
    return _allocations(profiler, device.type)


def two_training_steps(workload: Workload, model: nn.Module, indices: Sequence[int]) -> None:
    """Train twice as a plain loop does, keeping alive what it keeps alive; weights do not move."""
    optimizer = still_optimizer(workload, model)
    for _ in range(2):
        minibatch = workload.minibatch(indices)
        loss = scalar_loss(workload, model, minibatch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    del minibatch, loss


def _allocations(profiler: Any, device_type: str) -> AllocationTrace:
    # The tree is the only interface that gives pointers, without which lifetimes are unknown.
    from torch._C._profiler import _EventType

    events = []
    waiting = list(profiler.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == _EventType.Allocation:
            fields = event.extra_fields
            if fields.device.type == device_type:
                operation = event.parent.name if event.parent is not None else "Python"
                events.append((event.start_time_ns, fields.alloc_size, fields.ptr, operation))
    events.sort(key=lambda event: event[0])
    sizes: list[int] = []
    freed: list[int] = []
    operations: list[str] = []
    alive: dict[int, int] = {}
    for _, size, pointer, operation in events:
        if size > 0:
            alive[pointer] = len(sizes)
            sizes.append(size)
            freed.append(-1)
            operations.append(operation)
        elif pointer in alive:
            freed[alive.pop(pointer)] = len(sizes)
    ends = np.array(freed, dtype=np.int64)
    ends[ends < 0] = len(sizes)
    return AllocationTrace(np.array(sizes, dtype=np.int64), ends, tuple(operations))


@contextlib.contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Silence what the profiler's C++ code writes to stderr when it starts and stops."""
    try:
        saved = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)
