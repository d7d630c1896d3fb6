"""How long a step of several workers takes: buckets of gradients leave while backward runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from batchsense.arrays import Floats
from batchsense.training.workers.probing.compute import Compute
from batchsense.training.workers.probing.link import Count, Link

MEBIBYTE = 1 << 20
#: DistributedDataParallel's own caps, where none is given. A cap that is given holds for the first
#: bucket too, so that an explicit 25 is not the default.
DEFAULT_CAP_BYTES, FIRST_CAP_BYTES = 25 * MEBIBYTE, MEBIBYTE


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients that are summed together, or one gradient."""

    bytes: Count  #: Their size.
    #: Part of the backward pass after which all of them are known, from 0 to 1.
    ready: Annotated[float, Field(ge=0, le=1)]


def fill_buckets(gradients: Sequence[Bucket], cap_bytes: int | None = None) -> tuple[Bucket, ...]:
    """Fill buckets as DistributedDataParallel does: in order of readiness, closed at the cap."""
    filled, size, cap = [], 0, FIRST_CAP_BYTES if cap_bytes is None else cap_bytes
    for place, gradient in enumerate(gradients):
        size += gradient.bytes
        if size >= cap or place == len(gradients) - 1:
            filled.append(Bucket(size, gradient.ready))
            size, cap = 0, DEFAULT_CAP_BYTES if cap_bytes is None else cap_bytes
    return tuple(filled)


@dataclass(frozen=True, slots=True)
class Exchange:
    """How gradients are exchanged."""

    buckets: tuple[Bucket, ...]  #: In the order in which they are sent.
    compression: float = 1.0  #: Bytes that are sent for each byte of gradient.
    #: Optimizer steps between two exchanges; from 2 on weights are averaged instead, after the
    #: step.
    every: int = 1

    @property
    def sent_bytes(self) -> float:
        """All bytes of one exchange."""
        return self.compression * sum(bucket.bytes for bucket in self.buckets)


def step_seconds(
    compute: Compute,
    link: Link,
    exchange: Exchange,
    workers: int,
    micro_batch: float,
    accumulation: int = 1,
) -> Floats:
    r"""Time of one optimizer step, each draw.

    .. math:: e_0 = 0, \quad e_j = \max(e_{j-1},\ t_f + \varphi_j t_b) + AR(n_j, K), \quad
        T = \max(e_J, t_f + t_b) + t_{opt}

    after the passes of the accumulation but the last, in which nothing is sent. With an exchange
    every H steps, weights are averaged after the step: :math:`T = t_c + AR(n, K)/H`.

    >>> from batchsense.training.workers.probing.compute import given_compute
    >>> from batchsense.training.workers.probing.link import given_link
    >>> compute = given_compute(fixed=0.0, per_example=3e-4)
    >>> link = given_link(bytes_per_second=50e6, round_seconds=0.0, kind="shared")
    >>> late = Exchange((Bucket(4_000_000, 1.0),))
    >>> [round(float(step_seconds(compute, link, late, k, 1024 / k)[0]), 4) for k in (1, 2, 4)]
    [0.3072, 0.3136, 0.5568]
    """
    forward, backward = compute.forward_seconds(micro_batch), compute.backward_seconds(micro_batch)
    before = (accumulation - 1) * (forward + backward)
    passes = before + forward + backward
    if workers == 1:
        return passes + compute.optimizer
    if exchange.every > 1:
        whole = link.seconds(exchange.sent_bytes, workers)
        return passes + compute.optimizer + whole / exchange.every
    end = np.zeros_like(forward)
    for bucket in exchange.buckets:
        ready = before + forward + bucket.ready * backward
        sent = link.seconds(exchange.compression * bucket.bytes, workers)
        end = np.maximum(end, ready) + sent
    return np.maximum(end, passes) + compute.optimizer


def step_bounds(
    compute: Compute, link: Link, exchange: Exchange, workers: int, micro_batch: float
) -> tuple[Floats, Floats]:
    """The least and the most that a step takes, however well its exchange overlaps.

    At best all is sent during the backward pass, at once; at worst after it, bucket by bucket.
    """
    forward, passes = compute.forward_seconds(micro_batch), compute.step_seconds(micro_batch)
    if workers == 1:
        return passes, passes
    at_once = link.seconds(exchange.sent_bytes, workers)
    one_by_one = sum(
        (link.seconds(exchange.compression * b.bytes, workers) for b in exchange.buckets),
        np.zeros_like(forward),
    )
    least = np.maximum(passes, forward + at_once + compute.optimizer)
    return least, passes + one_by_one
