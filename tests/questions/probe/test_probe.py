"""What ``batchsense probe`` measures under torchrun, alone, and where workers do not agree."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import distributed, nn

from batchsense.cli.main import run
from batchsense.errors import DataError
from batchsense.training.workers.from_probe import fit_white_box, predict_from_probe
from batchsense.training.workers.prediction import StepConfiguration
from batchsense.training.workers.probing.local_steps import refuse_unlike_models
from batchsense.training.workers.probing.readings import read_probe


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def as_torchrun_says(rank: int, port: str) -> dict[str, str]:
    """What torchrun tells each of two processes of one machine."""
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    return {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), **here,
            "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"}  # fmt: skip


def test_two_workers_probe_real_buckets_and_say_what_two_cannot_tell(tmp_path: Path) -> None:
    """One document from both: buckets are the Reducer's, the exchange is timed, both links stay."""
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")
    file = tmp_path / "probe.json"
    words = [sys.executable, "-W", "ignore", "-m", "batchsense", "probe", "digits"]
    words += ["--budget", "1", "-o", str(file), "--json"]
    port = str(free_port())
    started = [
        subprocess.Popen(
            words,
            env={**os.environ, **as_torchrun_says(rank, port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        told = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], told
    assert told[1][0] == ""  # one of the two tells
    document = json.loads(told[0][0])
    probe = read_probe(file)

    assert document == json.loads(file.read_text())
    assert (probe.workers, probe.backend, probe.interface) == (2, "gloo", "lo")
    assert {(row.workers, row.micro_batch) for row in probe.compute} == {
        (count, size) for count in (1, 2) for size in (4, 32)
    }
    assert sum(bucket.bytes for bucket in probe.buckets) == probe.gradient_bytes == 4 * 26122
    assert [row.bytes for row in probe.allreduce] == [4096, 4 * 26122]
    assert next(note["code"] for note in document["notes"]) == "link_class_unknown"
    four = predict_from_probe(fit_white_box(probe), [StepConfiguration(1, 4, 8)])[0]
    assert four.seconds.low < four.seconds.estimate < four.seconds.high


def test_alone_the_local_steps_are_measured_and_the_way_to_more_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, a document that can be read, and the words that start torchrun."""
    file = tmp_path / "probe.json"
    code = run(["probe", "digits", "--budget", "1", "--micro-batches", "8,64", "-o", str(file)])
    said = " ".join(capsys.readouterr().out.split())

    assert code == 0
    assert "torchrun --nproc_per_node 4 -m batchsense probe digits -o probe.json" in said
    assert read_probe(file).allreduce == ()


def test_a_worker_that_nobody_meets_gives_up_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second of two, whose first does not exist: exit code 3 and the address."""
    port = str(free_port())
    for name, value in as_torchrun_says(1, port).items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    code = run(["probe", "digits", "--timeout", "1"])

    assert code == 3
    assert f"127.0.0.1:{port}" in capsys.readouterr().err
    assert time.monotonic() - began < 30


@dataclass
class Neighbours:
    """Ranks whose other member says something of its own."""

    other: Any

    def gathered(self, mine: Any) -> list[Any]:
        """Mine, and what the other says."""
        return [mine, self.other]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([("weight", (3, 2), "float32")], r"1 and|2 and 1 trained parameters"),
        (
            [("weight", (3, 4), "float32"), ("bias", (3,), "float32")],
            r"weight of \(3, 2\) float32 and weight of \(3, 4\) float32",
        ),
    ],
)
def test_workers_with_unlike_models_are_refused_by_the_first_difference(
    other: Any, said: str
) -> None:
    """Names, shapes and types of what is trained must agree."""
    with pytest.raises(DataError, match=said):
        refuse_unlike_models(nn.Linear(2, 3), Neighbours(other))  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", ["16", "16,16", "0,4", "a,b", "1,2,3"])
def test_two_different_micro_batches_are_needed(
    sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A usage error that says how to write them."""
    assert run(["probe", "digits", "--micro-batches", sizes]) == 2
    assert "such as 16,128" in capsys.readouterr().err
