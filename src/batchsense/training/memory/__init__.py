"""How much memory a training step takes, and the largest batch size that fits."""

from batchsense.training.memory.advice import (
    Accumulation,
    CurvePoint,
    MemoryAdvice,
    advise_memory,
)
from batchsense.training.memory.allocations import available_bytes
from batchsense.training.memory.envelope import MemoryEnvelope
from batchsense.training.memory.fake import fake_memory_envelope
from batchsense.training.memory.limit import (
    ALWAYS_RETURNED,
    KEPT_FACTOR,
    RETURNING_MEMORY,
    MemoryLimit,
    counted_bytes,
    memory_limit,
    returns_memory,
)
from batchsense.training.memory.probing import fit_memory_envelope
from batchsense.training.memory.shapes import PlainNet, full_batch_bytes

__all__ = [
    "ALWAYS_RETURNED",
    "KEPT_FACTOR",
    "RETURNING_MEMORY",
    "Accumulation",
    "CurvePoint",
    "MemoryAdvice",
    "MemoryEnvelope",
    "MemoryLimit",
    "PlainNet",
    "advise_memory",
    "available_bytes",
    "counted_bytes",
    "fake_memory_envelope",
    "fit_memory_envelope",
    "full_batch_bytes",
    "memory_limit",
    "returns_memory",
]
