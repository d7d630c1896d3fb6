"""Batch size and workers together: known networks, and what cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from batchsense.arrays import Floats
from batchsense.cli.main import run
from batchsense.errors import UnresolvedError
from batchsense.questions.plan.result import PlanResult, WorkersChoiceResult, WorkersResult
from batchsense.training.planning.batch_size import Limits
from batchsense.training.planning.workers import StepSeconds, plan_workers
from batchsense.variation.interval import Interval

CRITICAL = Interval(1000.0, 700.0, 1400.0)
MANY = Limits(examples=100_000, memory=4096)


def steps(exchange_seconds: float) -> StepSeconds:
    """Ten milliseconds, a third for each thousand examples, and an exchange that grows with K."""

    def seconds(workers: int, micro_batch: int) -> Floats:
        noise = np.exp(np.random.default_rng(workers).normal(0, 0.02, 201))
        noise[0] = 1.0
        return np.asarray((0.01 + 3e-4 * micro_batch + (workers - 1) * exchange_seconds) * noise)

    return seconds


def test_a_free_network_wants_all_workers_and_a_dear_one_a_single() -> None:
    """Cost is least for one worker in both; each choice has intervals that hold its estimate."""
    free, dear = (plan_workers(CRITICAL, 1000.0, steps(s), [1, 2, 4, 8], MANY) for s in (0.0, 1.0))

    assert (free.fastest, free.cheapest, dear.fastest, dear.cheapest) == (8, 1, 1, 1)
    for one in (*free.choices, *dear.choices):
        assert one.batch_size == one.workers * one.micro_batch
        assert one.relative_time.estimate in one.relative_time
        assert one.relative_cost.estimate in one.relative_cost
    assert free.choices[1].saved is not None
    assert free.choices[1].saved.low > 0.2
    assert dear.choices[1].saved is not None
    assert dear.choices[1].saved.high < 0


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_batch_size_of_each_is_that_of_a_full_search(workers: int) -> None:
    """The coarse grid loses less than 2 % of the least time."""
    seconds = steps(0.05)
    (choice,) = plan_workers(CRITICAL, 1000.0, seconds, [workers], MANY).choices
    sizes = np.arange(1, 4097)
    times = [(1 + 1000 / (workers * b)) * float(seconds(workers, b)[0]) for b in sizes]
    found = (1 + 1000 / choice.batch_size) * choice.step_seconds.estimate

    assert found <= 1.02 * min(times)


def test_limits_hold_for_all_workers_together_and_memory_for_one() -> None:
    """No minibatch beyond the data or the maximum, no micro-batch beyond memory."""
    limits = Limits(examples=3000, memory=100, minimum=64, maximum=600)
    plan = plan_workers(CRITICAL, 1000.0, steps(0.0), [1, 2, 4, 8], limits)

    assert all(64 <= one.batch_size <= 600 for one in plan.choices)
    assert all(one.micro_batch <= 100 for one in plan.choices)
    with pytest.raises(UnresolvedError, match="needed: at least 4000 examples"):
        plan_workers(CRITICAL, 1000.0, steps(0.0), [4000], limits)


def test_a_worker_gets_two_examples_where_batch_norm_takes_its_statistics_from_them() -> None:
    """A wanted precision counts for all together; what one worker needs, for each."""
    dear = lambda workers, micro_batch: np.array([float(micro_batch)])  # noqa: E731
    alone, mixed, exact = (
        plan_workers(CRITICAL, 1e-3, dear, [4], limits, least_micro_batch=least).choices[0]
        for limits, least in ((MANY, 1), (MANY, 2), (Limits(100_000, precision=64), 1))
    )

    assert [one.batch_size for one in (alone, mixed, exact)] == [4, 8, 64]
    with pytest.raises(UnresolvedError, match="needed: at least 6 examples"):
        plan_workers(CRITICAL, 1000.0, dear, [3], Limits(examples=5), least_micro_batch=2)


def test_plan_with_a_bandwidth_has_workers_in_text_and_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small steps over a slow network: one worker is advised, and the page says so too."""
    words = ["plan", "digits", "--budget", "1", "--workers", "1,2", "--quiet"]
    page = tmp_path / "plan.html"
    network = ["--bandwidth", "10Mbit", "--latency", "1ms", "--report", str(page), "--json"]
    assert run([*words, *network]) == 0
    found = json.loads(capsys.readouterr().out)["result"]["workers"]

    assert [one["workers"] for one in found["choices"]] == [1, 2]
    assert (found["fastest"], found["cheapest"], found["knee"]) == (1, 1, 1)
    assert "How many workers" in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "1,2"], "--workers needs --probe"),
        (["--workers", "0", "--bandwidth", "1Gbit", "--latency", "1ms"], "whole numbers from 1"),
        (["--workers", "2", "--bandwidth", "fast", "--latency", "1ms"], "--bandwidth fast"),
        (["--workers", "2", "--bandwidth", "1Gbit"], "given together"),
        (["--latency", "1ms", "--bandwidth", "1Gbit"], "--workers needs --probe"),
    ],
)
def test_what_is_half_said_is_refused_before_any_work(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A usage error that names the options."""
    assert run(["plan", "digits", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_probe_of_another_model_or_of_one_worker_is_refused_before_any_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 names both sizes; exit code 1 names the probe that is needed."""
    row = {"forward_seconds": [0.1], "backward_seconds": [0.2], "optimizer_seconds": [0.01]}
    gradients = [{"bytes": 1000, "ready": 1.0}]
    result = {
        "target": "other.py:job", "workers": 2, "nodes": 1, "backend": "gloo", "interface": None,
        "device": "cpu", "dtype": "float32", "versions": {}, "buckets": gradients,
        "gradients": gradients,
        "compute": [{"workers": 1, "micro_batch": b, **row} for b in (1, 2)],
        "allreduce": [{"bytes": n, "workers": 2, "seconds": [n * 1e-8]} for n in (4096, 65536)],
    }  # fmt: skip
    file = tmp_path / "probe.json"
    words = ["plan", "digits", "--workers", "1,8", "--probe", str(file), "--quiet"]
    file.write_text(json.dumps({"command": "probe", "result": result}))
    assert run(words) == 3
    assert "1,000 bytes of gradients, but TARGET has 104,488" in capsys.readouterr().err
    file.write_text(json.dumps({"command": "probe", "result": result | {"allreduce": []}}))
    assert run(words) == 1
    assert "torchrun --nproc_per_node 4 -m batchsense probe other.py:job" in "".join(
        capsys.readouterr()
    ).replace("\n", " ")


def test_a_plan_names_the_batch_size_of_each_number_of_workers() -> None:
    """That of the choice where it was asked about, of one worker otherwise."""
    choices = [WorkersChoiceResult.model_construct(workers=k, batch_size=100 * k) for k in (2, 4)]
    workers = WorkersResult.model_construct(choices=choices)
    plan = PlanResult.model_construct(batch_size=64, workers=workers)

    assert [plan.batch_size_of(count) for count in (1, 2, 4, 8)] == [64, 200, 400, 64]
