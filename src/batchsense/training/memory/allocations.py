"""Every allocation of a training step: how many bytes, for what, and until when."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from batchsense.arrays import Integers
from batchsense.machine_memory import available_memory
from batchsense.training.running import Moment, optimizer_step
from batchsense.training.workload import Workload, leaves, still_optimizer

#: What the bytes of a step are for, in the order of a report. Workspace is what operations take
#: for a moment: temporaries of kernels, of the backward pass and of the optimizer.
PURPOSES = ("weights", "gradients", "optimizer", "activations", "workspace", "data")
#: Begins the names of the marks in a trace, which no operation of PyTorch has.
_MARK = "batchsense:"
#: Called at a moment of a step with what the tensors alive then are for.
Mark = Callable[[str, Iterable[Tensor]], None]


@dataclass(frozen=True, slots=True)
class Held:
    """Memory that is held beside a step: what for, and how much."""

    operation: str
    purpose: str
    nbytes: int


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device; None where nothing says.

    On the CPU the smaller of the system's available memory and what the control group has left.

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
    """The allocations of a training step."""

    sizes: Integers  #: Bytes, in the order of allocation; shape (allocations,).
    #: The first later allocation before which each was freed; the number of allocations if never;
    #: shape (allocations,).
    freed_before: Integers
    operations: tuple[str, ...]  #: The operation that allocated.
    purposes: tuple[str, ...]  #: What each was for, one of ``PURPOSES``.

    @property
    def peak_bytes(self) -> int:
        """The most bytes that were alive at once."""
        return int(live_totals(self.sizes, self.freed_before).max(initial=0))


def live_totals(amounts: npt.ArrayLike, freed_before: Integers) -> npt.NDArray[Any]:
    """Return what is alive after each allocation: the sum of amounts not freed before it.

    Amounts are bytes or any coefficient of them; all arrays have shape (allocations,), and
    ``freed_before`` is that of :class:`AllocationTrace`.

    >>> live_totals([8, 16, 4], np.array([1, 3, 3]))
    array([ 8, 16, 20])
    """
    values = np.asarray(amounts)
    change = np.append(values, 0)
    np.subtract.at(change, np.minimum(freed_before, len(values)), values)
    return np.cumsum(change[:-1])


def stored(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """The tensors that have a storage: a sparse one is made of places and values.

    >>> [part.tolist() for part in stored([torch.tensor([0.0, 5.0]).to_sparse()])]
    [[[1]], [5.0]]
    """
    for tensor in tensors:
        if tensor.layout == torch.strided:
            yield tensor
        elif tensor.layout == torch.sparse_coo:
            yield from (tensor._indices(), tensor._values())
        else:
            by_rows = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
            yield from (tensor.crow_indices() if by_rows else tensor.ccol_indices(),)
            yield from (tensor.col_indices() if by_rows else tensor.row_indices(), tensor.values())


def trace_training_step(
    workload: Workload,
    model: nn.Module,
    minibatch: Any,
    before: Iterable[Held] = (),
    after: Iterable[Held] = (),
) -> AllocationTrace:
    """Run two training steps and record the allocations on the model's device.

    Two steps, because only the second has the optimizer's state beside the activations. Weights do
    not move (learning rate zero). ``model`` is a copy and ``minibatch`` was collated before, so
    neither is allocated inside: a loader reads as many examples as it likes, one by one. What is
    held ``before`` the step, and what comes ``after`` it, is put to the trace. Call it inside
    :func:`uncollected`.

    Raises DataError: the workload cannot be evaluated.
    """
    device = next(model.parameters()).device
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler: Any = torch.profiler.profile(
        activities=activities, profile_memory=True, acc_events=True
    )
    marks: list[tuple[str, set[int]]] = []

    def mark(name: str, tensors: Iterable[Tensor]) -> None:
        pointers = {one.untyped_storage().data_ptr() for one in stored(tensors)}
        with torch.profiler.record_function(f"{_MARK}{len(marks)}"):
            marks.append((name, pointers))

    with _quiet_profiler():
        profiler.__enter__()
    # Asked for, or a warning comes; its tables, never read, take longer than the steps.
    profiler.profiler.acc_events = False
    try:
        two_training_steps(workload, model, minibatch, mark=mark)
    finally:
        with _quiet_profiler():
            profiler.__exit__(None, None, None)
    ledger = Ledger(before)
    _follow(profiler, device.type, marks, ledger)
    return ledger.trace(after)


def two_training_steps(
    workload: Workload,
    model: nn.Module,
    minibatch: Any,
    *,
    micro_batches: int = 1,
    mark: Mark = lambda name, tensors: None,
) -> None:
    """Train twice as a plain loop does, keeping alive what it keeps alive; weights do not move.

    ``minibatch`` stands for each of ``micro_batches`` whose gradients are added up.
    """
    optimizer = still_optimizer(workload, model)
    alive: list[Tensor | None] = [None]

    def watch(moment: Moment, loss: Tensor | None) -> None:
        if moment == "start":
            mark("start", ())
        elif moment == "loss":
            alive[0] = loss  # a plain loop keeps its last loss until it has the next
            mark("activations", ())
        elif moment == "gradients":
            mark("gradients", (p.grad for p in model.parameters() if p.grad is not None))
        elif moment == "step":
            mark("optimizer", leaves(list(optimizer.state.values())))

    for _ in range(2):
        optimizer_step(workload, model, optimizer, [minibatch] * micro_batches, watch=watch)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from freeing at a random moment of the traces inside."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Ledger:
    """Allocations as they come: who allocated, until when, and what for.

    >>> ledger = Ledger()
    >>> for key, name, size in ((1, "addmm", 40), (2, "relu", 8)):
    ...     ledger.allocated(key, name, size)
    >>> ledger.freed(1)
    >>> ledger.marked("activations", ())
    >>> ledger.trace().purposes, ledger.trace().freed_before
    (('workspace', 'activations'), array([2, 2]))
    """

    def __init__(self, before: Iterable[Held] = ()) -> None:
        self._sizes: list[int] = []
        self._freed: list[int] = []
        self._operations: list[str] = []
        self._purposes: list[str] = []
        self._alive: dict[int, int] = {}
        self._forward = 0
        for held in before:
            self._hold(held)

    def allocated(self, key: int, operation: str, size: int) -> None:
        """Note an allocation; ``key`` is its own as long as it lives."""
        self._alive[key] = len(self._sizes)
        self._sizes.append(size)
        self._freed.append(-1)
        self._operations.append(operation)
        self._purposes.append("workspace")

    def knows(self, key: int) -> bool:
        """Whether an allocation with this key is alive."""
        return key in self._alive

    def freed(self, key: int) -> None:
        """Note the end of an allocation; one that began before is passed over."""
        if (place := self._alive.pop(key, None)) is not None:
            self._freed[place] = len(self._sizes)

    def marked(self, name: str, keys: Iterable[int]) -> None:
        """Say at a moment what is alive: activations since the start, or what ``keys`` name."""
        if name == "start":
            self._forward = len(self._sizes)
        elif name == "activations":
            for place in self._alive.values():
                if place >= self._forward:
                    self._purposes[place] = name
        else:
            for key in keys:
                if (place := self._alive.get(key, -1)) >= 0:
                    self._purposes[place] = name

    def trace(self, after: Iterable[Held] = ()) -> AllocationTrace:
        """Everything so far, and what is held from now on."""
        for held in after:
            self._hold(held)
        ends = np.array(self._freed, dtype=np.int64)
        ends[ends < 0] = len(self._sizes)
        return AllocationTrace(
            np.array(self._sizes, dtype=np.int64),
            ends,
            tuple(self._operations),
            tuple(self._purposes),
        )

    def _hold(self, held: Held) -> None:
        # Keys count down from -1: pointers are positive.
        self.allocated(-1 - len(self._sizes), held.operation, held.nbytes)
        self._purposes[-1] = held.purpose


def _follow(
    profiler: Any, device_type: str, marks: list[tuple[str, set[int]]], ledger: Ledger
) -> None:
    # The tree is the only interface that gives pointers, without which lifetimes are unknown.
    from torch._C._profiler import _EventType

    events: list[tuple[int, int, int, str]] = []
    waiting = list(profiler.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == _EventType.Allocation:
            fields = event.extra_fields
            if fields.device.type == device_type:
                operation = event.parent.name if event.parent is not None else "Python"
                events.append((event.start_time_ns, fields.alloc_size, fields.ptr, operation))
        elif event.name.startswith(_MARK):
            events.append((event.start_time_ns, 0, 0, event.name))
    events.sort(key=lambda event: event[0])
    for _, size, pointer, operation in events:
        if size > 0:
            ledger.allocated(pointer, operation, size)
        elif size < 0:
            ledger.freed(pointer)
        else:
            ledger.marked(*marks[int(operation.removeprefix(_MARK))])


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
