"""Cases in several processes, for all tests of this folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def run_all(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[dict[str, dict[str, Any]]], tuple[Path, Any]]]:
    """Run cases in forked processes; the folder of what they left, and their exit codes."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")
    errors = tmp_path_factory.mktemp("worker") / "errors.txt"
    with errors.open("w") as said:
        worker = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "processes.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    assert worker.stdin is not None
    assert worker.stdout is not None
    written, read = worker.stdin, worker.stdout

    def run(cases: dict[str, dict[str, Any]]) -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp("processes")
        written.write(json.dumps({"folder": str(folder), "cases": cases}) + "\n")
        written.flush()
        codes = read.readline()
        assert codes, errors.read_text()
        return folder, json.loads(codes)

    yield run
    written.close()
    read.close()
    worker.wait()
