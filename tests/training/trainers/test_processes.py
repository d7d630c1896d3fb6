"""Callbacks in two real processes of each trainer: the same numbers as one process, by hand."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
#: How far mixed precision may move an estimate.
CLOSE = {"full": 1e-4, "bf16": 3e-2, "fp16": 3e-3}


def loaded(name: str) -> Any:
    """A file of this folder, of which there is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


single = loaded("test_callbacks")
HALF = single.MICRO // 2


@pytest.fixture(scope="module", params=["lightning", "hf"])
def run(request: Any, tmp_path_factory: Any) -> tuple[str, list[dict[str, Any]]]:
    """What both processes saved."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")
    folder = tmp_path_factory.mktemp(request.param)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    worker = [str(HERE / "trainer_process.py"), request.param, str(folder)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words, *worker],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for case in ranks[0]:
        assert torch.equal(ranks[0][case]["weights"], ranks[1][case]["weights"])
    return request.param, ranks


def shares(trainer: str) -> Any:
    """How a step lies in the processes: each has every other example in Lightning."""

    def split(step: torch.Tensor) -> list[torch.Tensor]:
        if trainer == "hf":
            return list(step.split(HALF))
        return [rows[rank::2] for rows in step.split(single.MICRO) for rank in range(2)]

    return split


@pytest.mark.parametrize("precision", ["full", "bf16", "fp16"])
@pytest.mark.parametrize("mode", ["per_example", "micro_batch"])
def test_noise_is_that_of_one_process(run: Any, mode: str, precision: str) -> None:
    """Over all examples of both; with accumulation, mixed precision and a scale that doubles."""
    trainer, ranks = run
    wanted, weights = single.by_hand(mode, shares(trainer))
    expected = [
        getattr(getattr(wanted.noise, name), end)
        for name in ("noise_scale", "trace_covariance")
        for end in ("estimate", "low")
    ]
    for rank in ranks:
        found = rank[f"{mode} {precision}"]
        assert (found["measured"], found["examples"]) == (wanted.measured, wanted.examples_used)
        assert found["values"] == pytest.approx(expected, rel=CLOSE[precision])
        assert torch.allclose(found["weights"], weights, atol=1e-6 if precision == "full" else 0.02)


@pytest.mark.parametrize("micro", [None, HALF])
def test_a_plan_counts_the_examples_of_both(run: Any, micro: int | None) -> None:
    """Sizes, accumulation and learning rate of the trainer's own state in each process."""
    size = single.MICRO * single.PARTS
    for rank in run[1]:
        found = rank[f"planned {micro}"]
        assert found["sizes"] == [micro or size // 2]
        assert found["parts"] == (1 if micro is None else single.PARTS)
        assert found["steps"] == single.EPOCHS * single.COUNT // size
        assert len(found["rates"]) == found["steps"]
        assert all(rate == pytest.approx(single.RATE * 7 / 3) for rate in found["rates"])


def test_a_schedule_counts_the_examples_of_both(run: Any) -> None:
    """The weights are those of the loop written out, in one process."""
    net, data = single.Net(), single.Rows()
    optimizer = single.optimizer_of(net)
    for epoch in range(single.EPOCHS):
        factor = 1 if epoch == 0 else 2
        optimizer.param_groups[0]["lr"] = single.RATE * factor
        for rows in torch.arange(single.COUNT).split(single.MICRO * factor):
            optimizer.zero_grad()
            net(data.x[rows], data.y[rows])["loss"].backward()
            optimizer.step()
    for rank in run[1]:
        found = rank["scheduled"]
        assert found["switches"] == [(0, single.MICRO), (single.COUNT, 2 * single.MICRO)]
        assert torch.allclose(found["weights"], single.weights(net), atol=1e-6)
