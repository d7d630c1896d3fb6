"""Cases in several processes, for all tests of this folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def run_all(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[dict[str, dict[str, Any]]], tuple[Path, Any]]:
    """Run cases in forked processes; the folder of what they left, and their exit codes."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")

    def run(cases: dict[str, dict[str, Any]]) -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp("processes")
        (folder / "cases.json").write_text(json.dumps(cases))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(HERE / "processes.py"), folder, "cases.json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return folder, json.loads((folder / "codes.json").read_text())

    return run
