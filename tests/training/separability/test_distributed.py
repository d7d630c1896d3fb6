"""What is predicted for DDP in one process happens in two real processes, and the remedy holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from loss_zoo import named

from batchsense.training.separability.probe.probe import GradientProbe
from batchsense.training.separability.remedies.comparison import predict_ddp

pytestmark = pytest.mark.slow  # what training does in two processes is tested beside it

REPAIRABLE = [
    "cross_entropy",
    "cross_entropy_sum",
    "class_weights",
    "token_mean",
    "padded_token_mean",
    "over_positives",
    "hidden_class_weights",
    "graph_nodes",
]
BEYOND_SCALES = ["batch_norm", "contrastive_of_pairs", "root_mean_square"]
SHARDS = [range(16), range(16, 32)]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Gradients that two gloo processes agreed on."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")
    folder = tmp_path_factory.mktemp("gloo")
    names = [f"{name}+" for name in REPAIRABLE] + BEYOND_SCALES
    words = [str(folder), ",".join(names)]
    worker = str(Path(__file__).parent / "ddp_worker.py")
    running = [
        subprocess.Popen(
            [sys.executable, worker, str(rank), "2", *words],
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
    ranks = [np.load(folder / f"rank{rank}.npz") for rank in range(2)]
    for name in ranks[0].files:
        np.testing.assert_allclose(ranks[0][name], ranks[1][name], rtol=0, atol=1e-15)
    return ranks[0]


def whole_gradient(name):
    """Give the gradient over all 32 examples."""
    return GradientProbe(named(name).build(0), range(32)).gradient(range(32)).gradient


@pytest.mark.parametrize("name", REPAIRABLE + BEYOND_SCALES)
def test_the_prediction_is_what_ddp_does(name, two_processes):
    """The predicted deviation equals that of two processes to six digits."""
    whole = whole_gradient(name)
    real = np.linalg.norm(two_processes[f"{name}/plain"] - whole) / np.linalg.norm(whole)
    predicted = predict_ddp(named(name).build(0), SHARDS)

    assert predicted.deviation == pytest.approx(real, rel=1e-6, abs=1e-12)
    if name == "cross_entropy":
        assert predicted.equal
    if name == "cross_entropy_sum":
        assert predicted.factor == "1/world"


@pytest.mark.parametrize("name", REPAIRABLE)
def test_the_remedy_gives_the_whole_gradient(name, two_processes):
    """Two processes with two uneven micro-batches each give the whole gradient to 1e-12."""
    whole = whole_gradient(name)
    repaired = two_processes[f"{name}/remedied"]

    assert np.linalg.norm(repaired - whole) < 1e-12 * np.linalg.norm(whole)
