"""What ``batchsense memory --json`` prints: how much memory a step takes, and what fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from batchsense.reports.envelope import Model

if TYPE_CHECKING:
    import torch

    from batchsense.training import MemoryEnvelope
    from batchsense.training.memory import MemoryAdvice
    from batchsense.training.memory.trial import Trial


@dataclass(frozen=True, slots=True)
class Job:
    """The job that was asked about."""

    name: str  #: Its target, or what describes it
    examples: int  #: How many there are
    device: torch.device  #: Where the model is
    without_data: bool  #: Whether no step was run
    described: bool  #: Whether it is only described, so that its full batch is asked about too


class BindingResult(Model):
    """What takes the most memory."""

    operation: str = Field(description="What allocates at the peak.")
    at: int = Field(description="The batch size at which it does: that of peak_bytes.")


class BreakdownResult(Model):
    """What the bytes at the peak are for; they add up to peak_bytes, but for rounding."""

    weights: int = Field(description="Weights and buffers of the model.")
    gradients: int
    optimizer: int = Field(description="What the optimizer keeps, such as moments.")
    activations: int = Field(description="What the forward pass keeps for the backward pass.")
    workspace: int = Field(
        description="Temporaries of kernels, of the backward pass and of the optimizer."
    )
    data: int = Field(description="The minibatch, and the next one while it is loaded.")


class PointResult(Model):
    """One batch size of the curve."""

    batch_size: int
    peak_bytes: int
    counted_bytes: int = Field(description="What the step counts against usable_bytes.")
    operation: str = Field(description="What allocates at the peak.")


class AccumulationResult(Model):
    """How a batch size that does not fit can be trained: gradients of parts are added up."""

    micro_batch: int = Field(description="Examples of each part; the last may be smaller.")
    count: int = Field(description="Parts.")
    peak_bytes: int


class AllocatorResult(Model):
    """How the C library treats memory that is freed."""

    returns_memory: bool = Field(
        description="Whether MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ are 65536 or less "
        "in this process; max_batch_size holds for a process with the same settings."
    )
    kept_factor: float | None = Field(
        description="How many times blocks below kept_below_bytes count, because they are kept in "
        "pieces when they are freed; null where they are returned, or on a GPU."
    )
    kept_below_bytes: int | None
    max_batch_size_returning: int | None = Field(
        description="max_batch_size where training runs with both at 65536."
    )


class TrialResult(Model):
    """Real steps in a process of its own under the limit."""

    batch_size: int = Field(description="The largest that trained; 0 if none of those tried did.")
    tried: list[int] = Field(description="In the order in which they were tried.")
    resident_bytes: int = Field(description="By how much the resident memory rose.")


class MemoryResult(Model):
    """The memory of a training step at every batch size, and the largest that fits."""

    target: str = Field(description="The training job.")
    device: str
    limit_bytes: int = Field(description="Memory of the whole process, or what is free.")
    usable_bytes: int = Field(description="Of it for a step: without this process and a margin.")
    limit_source: str = Field(description="Where the limit comes from, in words.")
    max_batch_size: int | None = Field(
        description="Most examples that fit with the margin, at most all; null if memory does not "
        "grow with them."
    )
    batch_size: int = Field(description="The size asked about, else the largest that fits.")
    fits: bool
    peak_bytes: int = Field(description="Most bytes alive at once in a step of batch_size.")
    counted_bytes: int = Field(
        description="What the step counts against usable_bytes: peak_bytes, or more where the C "
        "library keeps blocks. It fits if this is no larger."
    )
    minibatch_bytes: int = Field(description="Of batch_size examples, collated.")
    bytes_per_example: float = Field(description="What one more example costs there.")
    binding: BindingResult
    breakdown: BreakdownResult
    accumulation: AccumulationResult | None = Field(
        description="Where batch_size does not fit; null if it does, or not even one example does."
    )
    max_batch_size_when_deleted: int | None = Field(
        description="max_batch_size of a loop that deletes each minibatch before it loads the "
        "next; null where loading does not bind."
    )
    curve: list[PointResult]
    verified: bool = Field(description="Whether a real step of batch_size ran under the limit.")
    trial: TrialResult | None = Field(description="null without --check.")
    allocator: AllocatorResult
    lower_bound: list[str] = Field(
        description="Modules whose kernels take memory that steps without data do not show; then "
        "all numbers are lower bounds. Empty otherwise."
    )
    without_data: bool = Field(description="Whether no step was run.")
    probe_sizes: list[int] = Field(description="Batch sizes that were traced.")
    checked_batch_size: int | None = Field(
        description="A larger size at which prediction and a real step were compared."
    )
    checked_error: float | None = Field(description="(measured − predicted) / predicted there.")
    examples: int = Field(description="Examples in the data set.")
    largest_of: int | None = Field(
        description="How many examples were looked at, where they differ in size: each counts as "
        "the largest of these. null where all are alike."
    )
    full_batch_bytes: int | None = Field(
        description="Peak of a step over all examples; null for a TARGET."
    )

    @classmethod
    def of(
        cls,
        job: Job,
        envelope: MemoryEnvelope,
        advice: MemoryAdvice,
        trial: Trial | None,
        *,
        asked: bool,
    ) -> MemoryResult:
        """Turn what was found into its JSON form."""
        from batchsense.training.memory import (
            ALWAYS_RETURNED,
            KEPT_FACTOR,
            counted_bytes,
            full_batch_bytes,
            returns_memory,
        )

        kept = job.device.type == "cpu" and not returns_memory()
        trained = None if trial is None else trial.batch_size
        lowered = trained is not None and trained < advice.batch_size
        size = advice.batch_size if asked or not lowered else trained or advice.batch_size
        peak = envelope.peak_bytes(size)
        return cls(
            target=job.name,
            device=job.device.type,
            limit_bytes=advice.limit.limit_bytes or 0,
            usable_bytes=advice.limit.usable_bytes or 0,
            limit_source=advice.limit.source,
            max_batch_size=(trained if lowered else advice.max_batch_size),
            batch_size=size,
            fits=advice.fits and (trained is None or trained >= size > 0),
            peak_bytes=peak,
            counted_bytes=counted_bytes(envelope, job.device, size),
            minibatch_bytes=envelope.minibatch_bytes(size),
            bytes_per_example=envelope.bytes_per_example(size),
            binding=BindingResult(operation=envelope.peak_operation(size), at=size),
            breakdown=BreakdownResult(**envelope.breakdown(size)),
            accumulation=None
            if advice.accumulation is None
            else AccumulationResult.like(advice.accumulation),
            max_batch_size_when_deleted=advice.max_when_deleted,
            curve=[PointResult.like(point) for point in advice.curve],
            verified=trained is not None and trained >= size,
            trial=None if trial is None else TrialResult.like(trial, tried=list(trial.tried)),
            allocator=AllocatorResult(
                returns_memory=returns_memory(),
                kept_factor=KEPT_FACTOR if kept else None,
                kept_below_bytes=ALWAYS_RETURNED if kept else None,
                max_batch_size_returning=advice.returned.max_batch_size,
            ),
            lower_bound=list(envelope.lower_bound),
            without_data=job.without_data,
            probe_sizes=list(envelope.probe_sizes),
            checked_batch_size=envelope.checked_batch_size,
            checked_error=envelope.checked_error,
            examples=job.examples,
            largest_of=None
            if envelope.differing_examples is None
            else envelope.differing_examples.looked_at,
            full_batch_bytes=full_batch_bytes(envelope, job.examples) if job.described else None,
        )
