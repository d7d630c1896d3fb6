"""The largest batch size that fits into a limit, with the margin that the C library needs."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from batchsense.machine_memory import format_bytes, resident_bytes
from batchsense.training.memory.allocations import available_bytes
from batchsense.training.memory.envelope import MemoryEnvelope, largest_that_fits

#: What makes resident memory follow what is allocated: with it the C library hands every large
#: block back to the system as soon as it is freed, and never keeps it in pieces.
RETURNING_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
#: With these settings resident memory runs 3 to 12 MB ahead of what is allocated, independent of
#: the batch size; an encoder, a CNN and an MLP trained at 0.95 of the limit and failed at 1.0.
_USABLE_SHARE = 0.95
_RESERVE_BYTES = 12 * 2**20
#: Without them the C library keeps blocks below 32 MiB after they were freed, in pieces that the
#: next ones do not fit: up to 2.0 times what is allocated was measured (an encoder at 400 MB), and
#: 1.4 to 1.7 for a CNN and an MLP. How much depends on the order of blocks of all sizes, so it is
#: not predicted; a factor a tenth above the worst stands in for it unless a step is tried.
KEPT_FACTOR = 2.2
#: Blocks of this size and more are always returned at once (glibc's largest threshold).
ALWAYS_RETURNED = 32 * 2**20
#: No GPU result stands behind the envelope: caching allocators fragment.
_USABLE_SHARE_GPU = 0.85


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


def returns_memory() -> bool:
    """Whether this process was started so that the C library returns what is freed.

    >>> returns_memory() in (True, False)
    True
    """
    return all(
        os.environ.get(name, "").isdigit() and int(os.environ[name]) <= int(value)
        for name, value in RETURNING_MEMORY.items()
    )


def memory_limit(
    envelope: MemoryEnvelope,
    device: torch.device,
    allowed_bytes: int | None = None,
    *,
    returning: bool | None = None,
) -> MemoryLimit:
    """Find the largest batch size that fits with margin.

    Usable is 95 % of the limit (85 % on a GPU) less 12 MiB; of an allowed amount, which is meant
    for the whole process, what the process occupies already is taken off first. Where the C
    library keeps what is freed, blocks below 32 MiB count 2.2 times. Where the check of the
    envelope came out higher, so much less is usable.

    Parameters
    ----------
    envelope : MemoryEnvelope
        Peak memory per batch size.
    device : torch.device
        Where the model is.
    allowed_bytes : int, optional
        The user's limit; what is available now by default.
    returning : bool, optional
        Whether training will run with the settings of ``RETURNING_MEMORY``; whether this process
        does by default.

    Returns
    -------
    MemoryLimit
        The largest batch size; 0 if not even one example fits.

    Examples
    --------
    >>> import numpy as np
    >>> envelope = MemoryEnvelope(np.zeros(1), np.full(1, 1e6), np.zeros(1), ("addmm",), (4, 8))
    >>> memory_limit(envelope, torch.device("meta"), 10**9, returning=True).max_batch_size
    937
    """
    on_cpu = device.type == "cpu"
    if allowed_bytes is not None:
        limit, source = allowed_bytes, f"the allowed {format_bytes(allowed_bytes)}"
        room = allowed_bytes - (resident_bytes() if on_cpu else 0)
    else:
        available = available_bytes(device)
        if available is None:
            return MemoryLimit(None, None, None, "this system does not say how much there is")
        limit, source = available, f"the {format_bytes(available)} available now"
        room = available
    share = _USABLE_SHARE_GPU if device.type == "cuda" else _USABLE_SHARE
    usable = max(share * room - _RESERVE_BYTES, 0.0)
    usable /= 1 + max(envelope.checked_error or 0.0, 0.0)
    most = largest_that_fits(
        lambda size: counted_bytes(envelope, device, size, returning=returning), usable
    )
    return MemoryLimit(most, int(usable), limit, source)


def counted_bytes(
    envelope: MemoryEnvelope,
    device: torch.device,
    batch_size: int,
    *,
    returning: bool | None = None,
) -> int:
    """Return what a step counts against the usable memory: its peak, or more where blocks are kept.

    Parameters are those of :func:`memory_limit`.

    >>> import numpy as np
    >>> envelope = MemoryEnvelope(np.zeros(1), np.full(1, 1e6), np.zeros(1), ("addmm",), (4, 8))
    >>> counted_bytes(envelope, torch.device("cpu"), 10, returning=False)
    22000000
    """
    if device.type != "cpu" or (returns_memory() if returning is None else returning):
        return envelope.peak_bytes(batch_size)
    return envelope.kept_bytes(batch_size, ALWAYS_RETURNED, KEPT_FACTOR)
