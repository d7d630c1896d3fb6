"""Peak memory of a training step as a function of the batch size, and the largest that fits."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.machine_memory import format_bytes, resident_bytes
from batchsense.progress import Progress, silent
from batchsense.training.memory.allocations import (
    AllocationTrace,
    available_bytes,
    live_totals,
    trace_training_step,
    two_training_steps,
)
from batchsense.training.workload import Workload, admitted, borrowed_randomness

#: Equally spaced batch sizes that are traced; never 1 or 2, which take special paths.
PROBE_SIZES: tuple[tuple[int, int, int, int], ...] = (
    (4, 8, 12, 16),
    (8, 16, 24, 32),
    (16, 32, 48, 64),
)
#: Bytes by which an allocation may miss its line: kernels round workspaces to pages of 4096.
_ROUNDING_BYTES = 8192
#: Relative error at the larger size at which larger probes are tried, and beyond which an
#: envelope is rejected.
_GOOD_ERROR = 0.005
_CHECK_ERROR = 0.05
#: Share of the available memory that a probe may take: half leaves room for what it gets wrong.
_PROBE_SHARE = 0.5
#: The check at a larger size is made only where it takes less than this.
_CHECK_BYTES = 1 << 30
#: Examples whose sizes are looked at: one in a hundred that is larger is missed in 8 % of cases.
_LOOKED_AT = 256
#: Stands for "memory does not grow".
_LARGEST = 1 << 40
#: Margin: resident memory runs 3 to 12 MB ahead of what is allocated (a small net and a transformer
#: trained at 0.95 of the limit and failed at 1.0), and by up to 30 % where tensors are smaller than
#: 32 MiB, because the C allocator then keeps what is freed.
USABLE_SHARE = 0.94
RESERVE_BYTES = 32 * 2**20
_KEPT_SHARE, _KEPT_BYTES = 0.3, 512 * 2**20
#: No GPU result stands behind the envelope: caching allocators fragment.
_USABLE_SHARE_GPU = 0.85


@dataclass(frozen=True, slots=True, eq=False)
class MemoryEnvelope:
    """Peak memory of a training step at every batch size.

    At moment t of a step A_t + S_t·B + Q_t·B² bytes are alive, so the peak is the maximum over
    t: convex, and not a line through two small measurements.

    Attributes
    ----------
    constant, slope, curvature : arrays of shape (moments,)
        A in bytes, with the model's own weights; S in bytes per example; Q, zero unless something
        of size B × B is stored.
    operations : tuple of str
        What was allocated at each moment.
    probe_sizes : tuple of int
        The batch sizes that were traced.
    checked_batch_size : int or None
        A larger size at which the envelope was compared with a real step.
    checked_error : float or None
        Relative difference there: (measured − predicted) / predicted.
    variable_examples : bool
        Whether examples differ in size; the largest of those looked at was used.
    """

    constant: Floats
    slope: Floats
    curvature: Floats
    operations: tuple[str, ...]
    probe_sizes: tuple[int, ...]
    checked_batch_size: int | None = None
    checked_error: float | None = None
    variable_examples: bool = False

    def peak_bytes(self, batch_size: int) -> int:
        """Return the most bytes alive at once in a step of ``batch_size`` examples."""
        return int(np.ceil(self._live(batch_size).max()))

    def peak_operation(self, batch_size: int) -> str:
        """Name the operation that allocates at the peak."""
        return self.operations[int(self._live(batch_size).argmax())]

    def bytes_per_example(self, batch_size: int) -> float:
        """Return the bytes that one more example costs at the peak."""
        moment = int(self._live(batch_size).argmax())
        return float(self.slope[moment] + 2 * self.curvature[moment] * batch_size)

    def max_batch_size(self, budget_bytes: float) -> int:
        """Return the largest batch size whose peak fits; 0 if none does.

        The bytes are for weights, gradients, optimizer state, minibatch and activations together;
        2⁴⁰ examples stand for "memory does not grow".
        """
        low, high = 0, 1
        while high < _LARGEST and self.peak_bytes(high) <= budget_bytes:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self.peak_bytes(middle) <= budget_bytes:
                low = middle
            else:
                high = middle
        return low

    def _live(self, batch_size: int) -> Floats:
        return self.constant + self.slope * batch_size + self.curvature * float(batch_size) ** 2


def fit_memory_envelope(
    workload: Workload, *, seed: int = 0, progress: Progress = silent
) -> MemoryEnvelope:
    r"""Trace real training steps at four tiny batch sizes and extend each allocation to all sizes.

    Each allocation grows with the batch size as :math:`a + sB` (or :math:`a + sB + qB^2`), so

    .. math:: \mathrm{peak}(B) = \max_t (A_t + S_t B + Q_t B^2).

    The prediction is compared with a real step at a size four times as large where that is cheap.
    Not counted: the interpreter, the data set itself, and what kernels take from the system
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
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        model_device = next(model.parameters()).device
        order, variable = _largest_examples(workload)
        two_training_steps(workload, model, _first(order, 4))  # lazy start-up
        gc.collect()
        fitted, refusals = [], []
        for sizes in PROBE_SIZES if model_device.type == "cpu" else PROBE_SIZES[-1:]:
            try:
                fitted.append(_fit(workload, model, order, sizes, progress))
            except UnresolvedError as refusal:
                refusals.append(refusal)
            if fitted and abs(fitted[-1].checked_error or 0.0) <= _GOOD_ERROR:
                break
        best = min(fitted, key=lambda envelope: abs(envelope.checked_error or 0.0), default=None)
        if best is None:
            raise refusals[0]
        return replace(best, variable_examples=variable)


def _fit(
    workload: Workload,
    model: torch.nn.Module,
    order: list[int],
    sizes: tuple[int, ...],
    progress: Progress,
) -> MemoryEnvelope:
    base = _bytes_of_model(model)
    room = available_bytes(next(model.parameters()).device)
    traces: list[AllocationTrace] = []
    for done, size in enumerate(sizes, start=1):
        if traces and room is not None:
            # Convex in the batch size and positive at 0: at most proportional.
            most = (traces[-1].peak_bytes + base) * size / sizes[done - 2]
            if most > _PROBE_SHARE * room:
                raise UnresolvedError(
                    f"a step of {size} examples may take {format_bytes(most)} of the "
                    f"{format_bytes(room)} available: too near to the limit to try",
                    "more memory, or smaller examples",
                )
        traces.append(trace_training_step(workload, model, _first(order, size)))
        progress("measuring memory", done, len(sizes) + 1)
    envelope = envelope_of_traces(traces, sizes, base_bytes=base)
    larger = 4 * sizes[-1]
    if envelope.peak_bytes(larger) > _CHECK_BYTES:
        return envelope
    measured = trace_training_step(workload, model, _first(order, larger)).peak_bytes + base
    progress("measuring memory", len(sizes) + 1, len(sizes) + 1)
    error = measured / envelope.peak_bytes(larger) - 1
    if abs(error) > _CHECK_ERROR:
        raise UnresolvedError(
            f"a step of {larger} examples takes {error:+.0%} against what smaller ones predict",
            "a measurement at the batch size you want",
        )
    return replace(envelope, checked_batch_size=larger, checked_error=error)


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """What fits into memory.

    Attributes
    ----------
    max_batch_size : int or None
        Most examples of one minibatch, with margin; None where no limit is known.
    usable_bytes : int or None
        Bytes that a step may take: the limit less this process, margin and reserve.
    limit_bytes : int or None
        What was allowed or is available.
    source : str
        Where the limit comes from, in words.
    """

    max_batch_size: int | None
    usable_bytes: int | None
    limit_bytes: int | None
    source: str


def memory_limit(
    envelope: MemoryEnvelope, device: torch.device, allowed_bytes: int | None = None
) -> MemoryLimit:
    """Find the largest batch size that fits with margin.

    Usable is 94 % of the limit (85 % on a GPU) less 32 MiB, and at most 70 % of it below 1.7 GiB;
    of an allowed amount, which is meant for the whole process, what the process occupies already is
    taken off first. Where the check of the envelope came out higher, so much less is usable.

    Parameters
    ----------
    envelope : MemoryEnvelope
        Peak memory per batch size.
    device : torch.device
        Where the model is.
    allowed_bytes : int, optional
        The user's limit; what is available now by default.

    Returns
    -------
    MemoryLimit
        The largest batch size; 0 if not even one example fits.

    Examples
    --------
    >>> import numpy as np
    >>> envelope = MemoryEnvelope(np.zeros(1), np.full(1, 1e6), np.zeros(1), ("addmm",), (4, 8))
    >>> memory_limit(envelope, torch.device("meta"), 10**9).max_batch_size
    700
    """
    share = _USABLE_SHARE_GPU if device.type == "cuda" else USABLE_SHARE
    if allowed_bytes is not None:
        occupied = resident_bytes() if device.type == "cpu" else 0
        limit, source = allowed_bytes, f"the allowed {format_bytes(allowed_bytes)}"
        room = allowed_bytes - occupied
    else:
        available = available_bytes(device)
        if available is None:
            return MemoryLimit(None, None, None, "this system does not say how much there is")
        limit, source = available, f"the {format_bytes(available)} available now"
        room = available
    margin = max((1 - share) * room + RESERVE_BYTES, min(_KEPT_SHARE * room, _KEPT_BYTES))
    usable = max(room - margin, 0.0) / (1 + max(envelope.checked_error or 0.0, 0.0))
    return MemoryLimit(envelope.max_batch_size(usable), int(usable), limit, source)


def envelope_of_traces(
    traces: Sequence[AllocationTrace], sizes: Sequence[int], base_bytes: int = 0
) -> MemoryEnvelope:
    """Join the traces of four equally spaced batch sizes into an envelope.

    The sizes are equally spaced; ``base_bytes`` are alive before the trace: the model. The envelope
    is not checked at a larger size.

    Raises
    ------
    UnresolvedError
        The traces do not match, or an allocation is no polynomial of degree two.

    Examples
    --------
    >>> traces = [
    ...     AllocationTrace(np.array([100, 8 * b]), np.array([2, 2]), ("weights", "addmm"))
    ...     for b in (4, 8, 12, 16)
    ... ]
    >>> envelope_of_traces(traces, (4, 8, 12, 16)).peak_bytes(1000)
    8100
    """
    counts = [len(trace.sizes) for trace in traces]
    if len(set(counts)) > 1:
        raise UnresolvedError(
            "the allocation pattern changes with the batch size "
            f"({counts[0]} and {counts[-1]} allocations at {sizes[0]} and {sizes[-1]} examples): "
            "kernels are chosen by size, or the code depends on the data",
            "batch sizes nearer to the one you want",
        )
    table = np.stack([trace.sizes for trace in traces]).astype(np.float64)
    freed = np.max([trace.freed_before for trace in traces], axis=0)
    coefficients = _polynomials(table, np.asarray(sizes, dtype=np.float64))
    constant, slope, curvature = (live_totals(part, freed) for part in coefficients)
    return MemoryEnvelope(
        constant + base_bytes, slope, curvature, traces[-1].operations, tuple(sizes)
    )


def _polynomials(table: Floats, sizes: Floats) -> Floats:
    """Return each allocation's coefficients (constant, slope, curvature): shape (3, allocations).

    An exact line, else an exact square, else a line that rounding to pages explains.
    """
    step = sizes[1] - sizes[0]
    bent, uneven = np.diff(table, 2, axis=0).any(axis=0), np.diff(table, 3, axis=0).any(axis=0)
    curvature = np.where(bent & ~uneven, (table[2] - 2 * table[1] + table[0]) / (2 * step**2), 0.0)
    slope = np.where(
        uneven,
        (table[-1] - table[0]) / (sizes[-1] - sizes[0]),
        (table[1] - table[0]) / step - curvature * (sizes[0] + sizes[1]),
    )
    constant = table[0] - slope * sizes[0] - curvature * sizes[0] ** 2
    predicted = constant + np.outer(sizes, slope) + np.outer(sizes**2, curvature)
    wrong = (np.abs(table - predicted).max(axis=0) > _ROUNDING_BYTES) | (curvature < 0)
    if wrong.any():
        raise UnresolvedError(
            f"{int(wrong.sum())} allocations grow neither linearly nor as a square of the batch "
            "size, so no larger size can be predicted",
            "a measurement at the batch size you want",
        )
    constant += np.maximum((table - predicted).max(axis=0), 0.0)  # rounding: the safe side
    return np.stack([constant, slope, curvature])


def _bytes_of_model(model: torch.nn.Module) -> int:
    """Count the bytes of weights and buffers, each storage once."""
    storages = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _largest_examples(workload: Workload) -> tuple[list[int], bool]:
    """Choose the examples to trace: the largest one, repeated, where they differ in size."""
    count = len(workload.examples)
    looked_at = np.random.default_rng(0).permutation(count)[:_LOOKED_AT].tolist()
    if isinstance(workload.examples, torch.utils.data.TensorDataset):
        return looked_at, False
    sizes = [_bytes_of(example) for example in workload.fetch(looked_at)]
    if len(set(sizes)) == 1:
        return looked_at, False
    return [looked_at[int(np.argmax(sizes))]], True


def _bytes_of(example: Any) -> int:
    if isinstance(example, torch.Tensor | np.ndarray):
        return int(example.nbytes)
    if isinstance(example, dict):
        return sum(_bytes_of(value) for value in example.values())
    if isinstance(example, list | tuple):
        return sum(_bytes_of(value) for value in example)
    return len(example) if isinstance(example, str | bytes) else 8


def _first(order: list[int], count: int) -> list[int]:
    """Take the first examples, from the beginning again where there are too few."""
    return [int(index) for index in np.resize(order, count)]
