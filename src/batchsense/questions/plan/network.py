"""What ``plan --workers`` knows of the network: a probe, or a bandwidth and a round trip."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from batchsense.errors import DataError
from batchsense.questions.quantities import whole_numbers

if TYPE_CHECKING:
    from batchsense.arrays import Floats
    from batchsense.training import StepTime, TrainingPlan, Workload
    from batchsense.training.planning.workers import StepSeconds, WorkersPlan
    from batchsense.training.workers.from_probe import WhiteBox
    from batchsense.training.workers.probing.compute import Compute

_BITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "kb": 8e3, "mb": 8e6, "gb": 8e9}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
#: Half the width of a normal 95 % interval, in standard deviations.
_REACH = 1.96
#: Draws of what a step takes; their 80 % interval is known to a few per cent of its width.
_DRAWS = 401


def bytes_per_second(text: str) -> float:
    """Read a bandwidth such as ``1Gbit``, ``400 Mbit/s`` or ``50MB/s``; ValueError otherwise.

    >>> bytes_per_second("400Mbit"), bytes_per_second("50 MB/s")
    (50000000.0, 50000000.0)
    """
    return _quantity(text.lower().removesuffix("/s").removesuffix("ps"), _BITS) / 8


def seconds_of(text: str) -> float:
    """Read a time such as ``0.2ms`` or ``50us``; ValueError otherwise.

    >>> seconds_of("0.2ms")
    0.0002
    """
    return _quantity(text.lower(), _SECONDS)


def _quantity(text: str, units: dict[str, float]) -> float:
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zµ]+)\s*", text)
    if found is None or found[2] not in units or float(found[1]) <= 0:
        raise ValueError(f"write a number above 0 and one of {', '.join(units)}")
    return float(found[1]) * units[found[2]]


def check_same_gradients(workload: Workload, box: WhiteBox, path: str) -> None:
    """Refuse a probe of another model.

    Raises DataError: the bytes of all gradients differ.
    """
    from batchsense.training.workload import trainable

    ours = sum(one.numel() * one.element_size() for one in trainable(workload.model))
    theirs = box.probe.gradient_bytes
    if ours != theirs:
        raise DataError(
            f"is a probe of {box.probe.target} with {theirs:,} bytes of gradients, but TARGET has "
            f"{ours:,}; probe this job",
            where=path,
        )


def from_probe(box: WhiteBox) -> StepSeconds:
    """Steps as a probe predicts them, half of the draws of each link it does not exclude."""
    from batchsense.training.workers.from_probe import links_for
    from batchsense.training.workers.prediction import StepConfiguration

    def step_seconds(workers: int, micro_batch: int) -> Floats:
        links = links_for(box, workers)
        found = [box.seconds(StepConfiguration(1, workers, micro_batch), link) for link in links]
        drawn = np.concatenate(found * (max(len(box.links), 1) // len(found)))
        noise = np.random.default_rng(workers).normal(0, box.model_error, len(drawn))
        noise[0] = 0.0
        if len(found) > 1:
            drawn[0] = np.sqrt(found[0][0] * found[1][0])
        return np.asarray(drawn * np.exp(noise))

    return step_seconds


def from_bandwidth(
    workload: Workload, timed: StepTime, bandwidth: float, round_seconds: float
) -> StepSeconds:
    """Steps of this machine's own time and a switched link, in draws between all overlap and none.

    Where in the backward pass gradients become ready is not known without a probe.
    """
    from batchsense.training.workers.probing.link import given_link
    from batchsense.training.workers.probing.overlap import (
        Bucket,
        Exchange,
        fill_buckets,
        step_bounds,
    )
    from batchsense.training.workload import trainable

    sizes = [one.numel() * one.element_size() for one in reversed(trainable(workload.model))]
    exchange = Exchange(fill_buckets([Bucket(size, 1.0) for size in sizes]))
    link = given_link(bytes_per_second=bandwidth, round_seconds=round_seconds, kind="switched")
    compute = _compute(timed)
    part = np.random.default_rng(0).uniform(size=_DRAWS)
    part[0] = 0.5

    def step_seconds(workers: int, micro_batch: int) -> Floats:
        least, most = step_bounds(compute, link, exchange, workers, micro_batch)
        return np.asarray(least + part * (most - least))

    return step_seconds


def _compute(timed: StepTime) -> Compute:
    """The line of the step time with draws within its intervals."""
    from batchsense.training.workers.probing.compute import given_compute

    rng, ends = np.random.default_rng(1), []
    for interval in (timed.fixed, timed.per_example):
        spread = (interval.high - interval.low) / (2 * _REACH)
        drawn = np.maximum(rng.normal(interval.estimate, spread, _DRAWS), 0.0)
        drawn[0] = interval.estimate
        ends.append(drawn)
    return given_compute(fixed=ends[0], per_example=ends[1])


def planned_workers(
    plan: TrainingPlan,
    step_seconds: StepSeconds,
    workers: str,
    bounds: tuple[int, int | None],
    seed: int,
) -> WorkersPlan:
    """Choose workers with the critical batch size, memory and data of a plan."""
    from batchsense.training.planning.batch_size import Limits
    from batchsense.training.planning.workers import plan_workers

    return plan_workers(
        plan.path.critical_batch_size,
        plan.advice.used_critical_batch_size,
        step_seconds,
        sorted({*whole_numbers(workers)}),
        Limits(
            examples=plan.check.examples,
            memory=None if plan.memory is None else plan.memory.max_batch_size,
            minimum=bounds[0],
            maximum=bounds[1],
            precision=next(
                (rung.batch_size for rung in plan.tolerance if rung.guarantee == "calibrated"), None
            ),
        ),
        least_micro_batch=2 if plan.check.coupled_modules else 1,
        seed=seed,
    )
