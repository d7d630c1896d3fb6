"""The largest batch size that fits, with margin, into what is available or allowed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from batchsense.training.memory.available import available_bytes, format_bytes, resident_bytes
from batchsense.training.memory.envelope import MemoryEnvelope

#: Margin: resident memory runs a little ahead of what is allocated, and by up to 30 % where
#: tensors are smaller than 32 MiB, because the C allocator then keeps what is freed.
USABLE_SHARE = 0.94
RESERVE_BYTES = 32 * 2**20
_KEPT_SHARE, _KEPT_BYTES = 0.3, 512 * 2**20
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


def memory_limit(
    envelope: MemoryEnvelope, device: torch.device, allowed_bytes: int | None = None
) -> MemoryLimit:
    """Find the largest batch size that fits with margin.

    Usable is 94 % of the limit (85 % on a GPU) less 32 MiB, and at most 70 % of it below 1.7 GiB;
    of an allowed amount, which is meant for the whole process, what the process occupies already is
    taken off first. Where the check of
    the envelope came out higher than predicted, so much less is usable.

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
