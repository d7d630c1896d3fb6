"""Two processes and one process measure the same noise."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batchsense.training import GradientNoiseMeter, LossForm, digits_workload

WORKER = Path(__file__).parent / "ddp_meter_worker.py"
pytestmark = pytest.mark.slow  # two real processes

CASES: list[dict[str, Any]] = [
    {"mode": "micro_batch", "passes": 1, "views": False},
    {"mode": "micro_batch", "passes": 2, "views": True},
    {"mode": "per_example", "passes": 2, "views": False},
]


def worker_module() -> Any:
    """Load the worker's functions, so that one process trains exactly as two do."""
    spec = importlib.util.spec_from_file_location("ddp_meter_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What both processes saved, case by case."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")
    folder = tmp_path_factory.mktemp("gloo")
    words = [str(folder), json.dumps(CASES)]
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(WORKER), str(rank), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    if any(process.returncode for process in running):
        if any("init_process_group" in text for text in said):
            pytest.skip(f"gloo cannot start here: {said[0].splitlines()[-1]}")
        pytest.fail("\n".join(said))
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def one_process(mode: str, parts: int) -> GradientNoiseMeter:
    """Accumulate the same parts in one process."""
    functions = worker_module()
    job = digits_workload()
    optimizer = torch.optim.SGD(job.model.parameters(), lr=0.1)
    form = LossForm(loss_scale=1 / parts)
    meter = GradientNoiseMeter(job.model, optimizer, mode=mode, every=1, form=form)
    functions.train(job.model, job, optimizer, meter, lambda step: functions.draw(step, parts))
    return meter


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_equal_one(number: int, ranks: list[list[dict[str, Any]]]) -> None:
    """Replicas are micro-batches: step by step the same noise, to the rounding of the sums."""
    case, (first, second) = CASES[number], (rank[number] for rank in ranks)
    single = one_process(case["mode"], 2 * case["passes"]).state_dict()

    assert torch.equal(first["weights"], second["weights"])
    for name in ("trace_covariance", "squared_gradient_norm", "examples", "step"):
        one, two = (rank["meter"]["book"][name] for rank in (first, second))
        assert torch.equal(one, two)
        assert len(one) == 64
        np.testing.assert_allclose(one, single["book"][name], rtol=2e-3, atol=1e-6)


def test_another_split_agrees_within_its_interval(ranks: list[list[dict[str, Any]]]) -> None:
    """Two processes and a single one that sees single examples agree within their intervals."""
    job = digits_workload()
    read = GradientNoiseMeter(
        job.model, torch.optim.SGD(job.model.parameters(), lr=0.1), mode="micro_batch"
    )
    read.load_state_dict(ranks[0][0]["meter"])
    double, single = read.report(), one_process("per_example", 1).report()

    assert double.noise_scale.estimate in single.noise_scale
    assert single.noise_scale.estimate in double.noise_scale
    assert double.critical_batch_size is not None
    assert single.critical_batch_size is not None
    assert single.critical_batch_size.estimate in double.critical_batch_size
