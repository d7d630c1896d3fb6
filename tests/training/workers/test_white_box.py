"""The white box recovers planted networks, and says what a probe cannot tell."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.workers.from_probe import (
    compare_from_probe,
    fit_white_box,
    predict_from_probe,
)
from batchsense.training.workers.prediction import StepConfiguration
from batchsense.training.workers.probing.compute import ComputeReading, given_compute
from batchsense.training.workers.probing.evidence import evidence_from_probe
from batchsense.training.workers.probing.levers import predict_levers
from batchsense.training.workers.probing.link import AllReduceReading, Link, LinkClass, given_link
from batchsense.training.workers.probing.overlap import (
    MEBIBYTE,
    Bucket,
    Exchange,
    fill_buckets,
    step_bounds,
    step_seconds,
)
from batchsense.training.workers.probing.readings import Probe, StepReading, probe_from, read_probe
from batchsense.training.workers.turning_point import best_workers

COMPUTE = given_compute(fixed=0.009, per_example=3e-4)
#: Sixteen layers of 256 KiB, ready one after another.
GRADIENTS = tuple(Bucket(MEBIBYTE // 4, (place + 1) / 16) for place in range(16))
HUB = given_link(bytes_per_second=50e6, round_seconds=2e-4, kind="shared")


def repeats(seconds: float, rng: np.random.Generator, noise: float) -> tuple[float, ...]:
    """Ten readings around a time."""
    return tuple((seconds * np.exp(rng.normal(0, noise, 10))).tolist())


def planted(
    link: Link = HUB, workers: tuple[int, ...] = (4, 2), noise: float = 0.01, **changed: Any
) -> Probe:
    """A probe of a job whose network is known."""
    rng = np.random.default_rng(7)
    buckets = fill_buckets(GRADIENTS)
    compute = []
    for count in dict.fromkeys((1, *workers[:1])):
        for size in (64, 512):
            forward, backward = COMPUTE.forward_seconds(size), COMPUTE.backward_seconds(size)
            parts = (float(forward[0]), float(backward[0]), 1e-3)
            rows = (repeats(part, rng, noise) for part in parts)
            compute.append(ComputeReading(count, size, *rows))
    sizes = (4096, *(bucket.bytes for bucket in buckets))
    exchange = [
        AllReduceReading(size, count, repeats(float(link.seconds(size, count)[0]), rng, noise))
        for count in workers
        for size in sizes
    ]
    probe = Probe(
        target="job.py:workload", workers=max(workers, default=1), nodes=1, backend="gloo",
        interface="lo", device="cpu", dtype="float32", versions={}, compute=tuple(compute),
        allreduce=tuple(exchange), buckets=buckets, gradients=GRADIENTS,
    )  # fmt: skip
    return dataclasses.replace(probe, **changed)


def step(workers: int, batch_size: int) -> StepConfiguration:
    """All on one machine."""
    return StepConfiguration(1, workers, batch_size // workers)


@pytest.mark.parametrize("kind", ["switched", "shared"])
def test_two_numbers_of_workers_tell_the_class_and_the_numbers_of_a_link(kind: LinkClass) -> None:
    """Rate and time of a round are recovered within their noise, and the class with them."""
    link = given_link(bytes_per_second=25e6, round_seconds=2e-3, kind=kind)
    found = fit_white_box(planted(link)).links

    assert [one.kind for one in found] == [kind]
    assert found[0].bytes_per_second[0] == pytest.approx(25e6, rel=0.02)
    assert found[0].round_seconds[0] == pytest.approx(2e-3, rel=0.05)


def test_two_workers_alone_leave_both_classes_which_differ_twofold() -> None:
    """The interval of four workers reaches from one class to the other, and a flag says why."""
    box = fit_white_box(planted(workers=(2,)))
    sent = box.exchange.sent_bytes
    switched, shared = (float(link.seconds(sent, 4)[0]) for link in box.links)
    two, four = predict_from_probe(box, [step(2, 256), step(4, 256)])

    assert [link.kind for link in box.links] == ["switched", "shared"]
    assert shared / switched == pytest.approx(2, rel=0.02)
    assert two.flags == ()
    assert four.flags == ("link_class_unknown",)
    assert four.seconds.low < switched + 0.03 < shared < four.seconds.high


def test_predictions_are_those_of_the_planted_network_and_inside_their_intervals() -> None:
    """Also for numbers of workers that the probe did not have."""
    exchange = Exchange(fill_buckets(GRADIENTS))
    asked = [step(k, size) for k in (1, 2, 4, 8) for size in (256, 1024, 4096)]
    for found in predict_from_probe(planted(), asked):
        one = found.configuration
        truth = step_seconds(COMPUTE, HUB, exchange, one.workers, one.micro_batch)[0] + 1e-3
        assert truth in found.seconds
        assert found.seconds.estimate == pytest.approx(truth, rel=0.03)


def test_more_workers_are_slower_for_a_small_batch_and_faster_for_a_large_one() -> None:
    """The laboratory of a shared 400 Mbit link: verdicts, best workers and least batch size."""
    box = fit_white_box(planted())
    verdicts = {
        size: compare_from_probe(box, step(1, size), step(2, size)).verdict
        for size in (256, 1024, 4096)
    }
    evidence = evidence_from_probe(planted())
    said = {size: evidence.remarks(size, 2)[0].message for size in verdicts}

    assert verdicts == {256: "slower", 1024: "faster", 4096: "faster"}
    assert "slower than one, even if all of the exchange overlaps" in said[256]
    assert "depends on what overlaps" in said[1024]
    assert "faster than one, even if nothing overlaps" in said[4096]
    assert "from 1,1" in said[256]  # 2 · 0.168 s / 0.3 ms, and the rounds of two buckets
    assert evidence.turning is not None
    assert evidence.turning(1024).workers.estimate == 2
    assert evidence.turning(256).workers.high == 1


@pytest.mark.parametrize("kind", ["switched", "shared"])
@pytest.mark.parametrize("batch_size", [64, 1000, 9000])
def test_the_best_number_of_workers_is_that_of_a_search(kind: LinkClass, batch_size: int) -> None:
    """The root and its neighbours are the least of all, without overlap."""
    link = given_link(bytes_per_second=100e6, round_seconds=4e-3, kind=kind)
    times = [
        3e-4 * batch_size / count + float(link.seconds(2e6, count)[0]) for count in range(1, 65)
    ]

    assert best_workers(batch_size, 3e-4, *link.law(2e6), 64) == 1 + int(np.argmin(times))


def test_overlap_lies_between_its_bounds_and_early_buckets_gain() -> None:
    """The step is never below full overlap nor above none, for any cap."""
    for cap in (None, 1, 2, 5, 25):
        exchange = Exchange(fill_buckets(GRADIENTS, cap and cap * MEBIBYTE))
        taken = step_seconds(COMPUTE, HUB, exchange, 2, 1024)[0]
        least, most = (ends[0] for ends in step_bounds(COMPUTE, HUB, exchange, 2, 1024))
        assert least <= taken <= most + 1e-12
    small, one = (Exchange(fill_buckets(GRADIENTS, cap * MEBIBYTE)) for cap in (1, 25))
    ratio = step_seconds(COMPUTE, HUB, one, 2, 1024) / step_seconds(COMPUTE, HUB, small, 2, 1024)
    assert ratio[0] > 1.15


@pytest.mark.parametrize("cap", [None, 1, 2, 25])
def test_buckets_are_those_that_torch_assigns(cap: int | None) -> None:
    """Sizes as of torch's own function, on parameters of many shapes."""
    rng = np.random.default_rng(1)
    tensors = [torch.zeros(int(n)) for n in rng.integers(1, 600_000, 60)]
    limits = [MEBIBYTE, 25 * MEBIBYTE] if cap is None else [cap * MEBIBYTE]
    assigned, _ = distributed._compute_bucket_assignment_by_size(tensors, limits)
    theirs = [sum(4 * tensors[place].numel() for place in group) for group in assigned]
    gradients = [Bucket(4 * tensor.numel(), 1.0) for tensor in tensors]
    ours = fill_buckets(gradients, cap and cap * MEBIBYTE)

    assert [bucket.bytes for bucket in ours] == theirs


def test_levers_gain_what_the_planted_network_gains() -> None:
    """Half the bytes nearly halve a step that is all exchange; a smaller cap hides more of it."""
    box = fit_white_box(planted())
    small = {lever.name: lever for lever in predict_levers(box, step(4, 256))}
    large = {lever.name: lever for lever in predict_levers(box, step(2, 2048))}

    assert small["fp16"].ratio.estimate < 1 / 1.7
    assert small["sync_every"].ratio.high < 1 / 3
    assert large["bucket_cap"].option == "--bucket-cap 1"
    assert 1 / large["bucket_cap"].ratio.estimate == pytest.approx(1.25, rel=0.08)
    assert large["larger_micro_batch"].configuration.batch_size == 4096
    assert "bf16" not in small
    assert predict_levers(box, step(1, 256)) == ()


def test_real_steps_that_the_parts_miss_widen_every_interval() -> None:
    """A probe whose own check is off by 30 % allows for 30 % everywhere."""
    checked = StepReading(4, 64, (1.3 * 0.53,) * 5)
    plain, doubtful = (
        predict_from_probe(planted(steps=steps), [step(2, 1024)])[0] for steps in ((), (checked,))
    )

    assert doubtful.seconds.ratio > 1.5 > 1.2 > plain.seconds.ratio


def test_far_from_what_was_measured_is_flagged() -> None:
    """Workers, micro-batches and machines beyond the probe."""
    box = fit_white_box(planted())
    flags = [
        found.flags
        for found in predict_from_probe(
            box,
            [step(16, 4096), step(2, 16), step(2, 4096), StepConfiguration(4, 4, 128)],
        )
    ]

    assert flags == [
        ("workers_beyond",),
        ("micro_batch_outside",),
        ("micro_batch_outside",),
        ("regime_unmeasured",),
    ]


def test_one_worker_says_nothing_of_eight() -> None:
    """The refusal names the probe that is needed."""
    alone = planted(workers=())
    assert predict_from_probe(alone, [step(1, 256)])[0].seconds.estimate > 0
    with pytest.raises(UnresolvedError, match="torchrun --nproc_per_node 4 -m batchsense probe"):
        predict_from_probe(alone, [step(8, 256)])


def written(tmp_path: Path, probe: Probe, *path: Any, value: Any = None) -> Path:
    """A document with one value replaced, or left out where it is None."""
    result = json.loads(json.dumps(dataclasses.asdict(probe)))
    inside = result
    for key in path[:-1]:
        inside = inside[key]
    if path and value is None:
        del inside[path[-1]]
    elif path:
        inside[path[-1]] = value
    file = tmp_path / "probe.json"
    file.write_text(json.dumps({"command": "probe", "result": result}))
    return file


def test_a_probe_survives_its_file(tmp_path: Path) -> None:
    """What is read is what was written."""
    assert read_probe(written(tmp_path, planted())) == planted()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("compute",), None, "compute is missing"),
        (("allreduce", 1, "seconds", 3), -1.0, "allreduce.1.seconds.3"),
        (("allreduce", 0, "seconds"), [], "allreduce.0.seconds"),
        (("allreduce", 0, "workers"), 1, "allreduce.0.workers"),
        (("buckets", 0, "ready"), 1.5, "buckets.0.ready"),
        (("compute", 0, "micro_batch"), "many", "compute.0.micro_batch"),
        (("compute", 0, "forward_seconds"), [0.1], "compute.0 has parts of unlike"),
        (("gradients",), [], "gradients"),
    ],
)
def test_a_damaged_probe_names_the_place(
    tmp_path: Path, path: tuple[Any, ...], value: Any, said: str
) -> None:
    """And the file, and what to do."""
    file = written(tmp_path, planted(), *path, value=value)
    with pytest.raises(DataError, match=said) as error:
        read_probe(file)
    assert error.value.where == str(file)
    assert "run batchsense probe again" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"command": "plan", "result": {}}'])
def test_what_is_no_probe_is_refused(tmp_path: Path, text: str) -> None:
    """Cut off, empty, or of another command."""
    file = tmp_path / "probe.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"probe\.json"):
        read_probe(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_probe(tmp_path / "absent.json")


def test_times_that_no_clock_gives_are_refused() -> None:
    """Infinite seconds in a document of another program."""
    result = dataclasses.asdict(planted())
    result["compute"][0]["backward_seconds"] = (math.inf,) * 10
    with pytest.raises(DataError, match=r"compute\.0\.backward_seconds"):
        probe_from(result)
