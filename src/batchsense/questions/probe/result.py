"""What ``batchsense probe --json`` prints: raw readings of the parts of a step, and their law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from batchsense.reports.envelope import Estimate, Model

if TYPE_CHECKING:
    from batchsense.arrays import Floats
    from batchsense.training.workers.from_probe import WhiteBox


class ComputeResult(Model):
    """Repeated local steps at one micro-batch size, by the slowest worker."""

    workers: int = Field(description="How many computed at the same time.")
    micro_batch: int = Field(description="Examples of one worker.")
    forward_seconds: list[float] = Field(description="Fetching, collating and loss, each repeat.")
    backward_seconds: list[float]
    optimizer_seconds: list[float]


class AllReduceResult(Model):
    """Repeated sums of one message over workers."""

    bytes: int
    workers: int
    seconds: list[float]


class BucketResult(Model):
    """Gradients that are sent together, or one gradient."""

    bytes: int
    ready: float = Field(description="Part of the backward pass after which they are known.")


class StepResult(Model):
    """Repeated real steps of DistributedDataParallel."""

    workers: int
    micro_batch: int
    seconds: list[float]
    predicted_seconds: float = Field(description="From the parts.")


class LinkResult(Model):
    """A law of the exchange that the readings do not exclude."""

    kind: Literal["switched", "shared"] = Field(
        description="switched: 2(K-1)/K times the bytes cross it; shared: 2(K-1) times."
    )
    bytes_per_second: Estimate
    round_seconds: Estimate = Field(description="One of 2(K-1) rounds of messages, however small.")


class LocalStepResult(Model):
    """Time of a local step: fixed + per_example · micro-batch, in seconds."""

    workers: int = Field(description="How many compute at the same time.")
    fixed: Estimate
    per_example: Estimate


class ProbeResult(Model):
    """Raw readings, and what follows from them."""

    target: str
    workers: int
    nodes: int = Field(description="Machines.")
    backend: str = Field(description="gloo, nccl, or none for one worker.")
    interface: str | None = Field(description="Network interface, where it was named.")
    device: str
    dtype: str = Field(description="Of the gradients.")
    versions: dict[str, str]
    compute: list[ComputeResult]
    allreduce: list[AllReduceResult] = Field(description="Empty for one worker.")
    buckets: list[BucketResult] = Field(description="In the order in which they are sent.")
    gradients: list[BucketResult] = Field(
        description="One a parameter, in the order in which they become ready."
    )
    steps: list[StepResult] = Field(description="The check; empty for one worker.")
    local_step: list[LocalStepResult]
    links: list[LinkResult] = Field(
        description="One, both where the probe cannot tell, none for one worker."
    )

    @classmethod
    def of(cls, box: WhiteBox, predicted: Sequence[float]) -> ProbeResult:
        """Turn a fitted probe into its JSON form."""
        raw = asdict(box.probe)
        for step, seconds in zip(raw["steps"], predicted, strict=True):
            step["predicted_seconds"] = seconds
        local = [
            LocalStepResult(
                workers=workers,
                fixed=_estimate(compute.step_seconds(0)),
                per_example=_estimate(compute.seconds_per_example),
            )
            for workers, compute in sorted(box.compute.items())
        ]
        links = [
            LinkResult(
                kind=link.kind,
                bytes_per_second=_estimate(link.bytes_per_second),
                round_seconds=_estimate(link.round_seconds),
            )
            for link in box.links
        ]
        return cls(**raw, local_step=local, links=links)


def _estimate(draws: Floats) -> Estimate:
    """The first draw with the 95 % interval of the others."""
    ends = np.quantile(draws, [0.025, 0.975], method="nearest")
    values = [float(draws[0]), min(float(ends[0]), float(draws[0])), max(*ends, float(draws[0]))]
    estimate, low, high = (value if np.isfinite(value) else None for value in values)
    reason = None if estimate is not None else "no time that grows with the size was seen"
    return Estimate(estimate=estimate, low=low, high=high, reason=reason)
