"""What a memory envelope and a limit advise: the largest size, what binds, how to go beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from batchsense.errors import UnresolvedError
from batchsense.training.memory.envelope import LARGEST, LOADING, MemoryEnvelope
from batchsense.training.memory.limit import (
    MemoryLimit,
    counted_bytes,
    memory_limit,
    returns_memory,
)

#: Powers of two below the size in the curve: all that matters to a choice, on one screen.
_OCTAVES = 6


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The memory of one batch size."""

    #: Examples, and the most bytes alive at once.
    batch_size: int
    peak_bytes: int
    counted_bytes: int  #: What the step counts against the usable memory.
    operation: str  #: What allocates at the peak.


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A batch size that does not fit, in parts whose gradients are added up."""

    micro_batch: int  #: Examples of each part but the last.
    count: int  #: Parts.
    peak_bytes: int  #: The most bytes alive at once.


@dataclass(frozen=True, slots=True)
class MemoryAdvice:
    """What fits, and why no more."""

    limit: MemoryLimit  #: The limit with its margin, where training runs as this process does.
    returned: MemoryLimit  #: The same where the C library returns what is freed.
    #: The largest size that fits, at most ``examples``; None if memory does not grow with it.
    max_batch_size: int | None
    #: The size that the rest is about: the one asked for, else the largest that fits.
    batch_size: int
    fits: bool  #: Whether it does.
    #: Powers of two from a sixty-fourth to twice the size, and the size itself.
    curve: tuple[CurvePoint, ...]
    #: How the size asked for can be trained where it does not fit; None where it does or cannot.
    accumulation: Accumulation | None
    #: The largest size where a loop deletes each minibatch before it loads the next; None where
    #: loading does not bind.
    max_when_deleted: int | None


def advise_memory(
    envelope: MemoryEnvelope,
    device: torch.device,
    allowed_bytes: int | None = None,
    *,
    batch_size: int | None = None,
    examples: int | None = None,
) -> MemoryAdvice:
    """Find what fits into a limit of the whole process, or what is available now, and what binds.

    Asked about is ``batch_size``, or the largest that fits; no minibatch is larger than there are
    examples.

    Raises UnresolvedError: the system does not say how much memory there is, and none was allowed.

    >>> from batchsense.training import fit_memory_envelope, load_target
    >>> envelope = fit_memory_envelope(load_target("digits"))
    >>> advice = advise_memory(envelope, torch.device("cpu"), 8 * 10**9, batch_size=10**8)
    >>> advice.fits, advice.accumulation.count > 10
    (False, True)
    """
    limit = memory_limit(envelope, device, allowed_bytes)
    if limit.max_batch_size is None or limit.usable_bytes is None:
        raise UnresolvedError(limit.source, "an allowed amount, --limit 8GiB")
    returned = limit if returns_memory() else memory_limit(
        envelope, device, allowed_bytes, returning=True
    )  # fmt: skip
    most = limit.max_batch_size
    largest = None if most >= LARGEST else most
    fitting = min(most, examples or most)
    size = batch_size or max(min(fitting, LARGEST), 1)
    accumulation = None
    if size > most:
        accumulation = _accumulation(envelope.accumulating(), device, allowed_bytes, size)
    near = int(math.log2(size))
    powers = [1 << k for k in range(max(near - _OCTAVES, 0), near + 2)]
    return MemoryAdvice(
        limit,
        returned,
        largest if examples is None or largest is None else min(largest, examples),
        size,
        size <= most,
        tuple(_point(envelope, device, one) for one in sorted({*powers, size})),
        accumulation,
        _when_deleted(envelope, device, allowed_bytes, most),
    )


def _when_deleted(
    envelope: MemoryEnvelope, device: torch.device, allowed_bytes: int | None, most: int
) -> int | None:
    if envelope.peak_operation(most + 1) != LOADING:
        return None
    alone = memory_limit(envelope.without_loading(), device, allowed_bytes)
    return alone.max_batch_size


def _accumulation(
    envelope: MemoryEnvelope, device: torch.device, allowed_bytes: int | None, size: int
) -> Accumulation | None:
    most = memory_limit(envelope, device, allowed_bytes).max_batch_size
    if not most:
        return None
    count = math.ceil(size / most)
    micro_batch = math.ceil(size / count)
    return Accumulation(micro_batch, count, envelope.peak_bytes(micro_batch))


def _point(envelope: MemoryEnvelope, device: torch.device, size: int) -> CurvePoint:
    return CurvePoint(
        size,
        envelope.peak_bytes(size),
        counted_bytes(envelope, device, size),
        envelope.peak_operation(size),
    )
