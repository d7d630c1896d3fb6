"""A run that is killed at any moment goes on to what it would have come to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

JOBS = Path(__file__).parent / "jobs.py"
#: Long enough that a signal meets most runs on their way.
STEPS = 150


def words(folder: str, *more: str) -> list[str]:
    """A run with dropout and momentum that writes a checkpoint after nearly every step."""
    return [
        *("train", f"{JOBS}:dropout", "--steps", str(STEPS), "--json", "-q"),
        # The peer of a killed process may wait for it as long as this.
        *("--checkpoint", folder, "--checkpoint-every", "0", "--timeout", "60", *more),
    ]


def cases(kills: int) -> dict[str, dict[str, Any]]:
    """An undisturbed run of two processes; runs that lose one of them, or are asked to stop."""
    found: dict[str, dict[str, Any]] = {"undisturbed": {"world": 2, "words": words("whole")}}
    for k in range(kills):
        hit = ["SIGKILL", k % 2, k] if k else ["SIGTERM", None, 0]
        found[f"hit{k}"] = {
            "world": 2,
            "words": words(f"run{k}"),
            "signal": hit,
            "waits_for": f"run{k}/checkpoint.pt",
            "spread": 0.8,
        }
        found[f"again{k}"] = {"world": 2, "words": words(f"run{k}", "--resume")}
    return found


def check(kills: int, run_all: Callable[..., tuple[Path, Any]]) -> None:
    """The same command with --resume comes to the same result, to the last digit."""
    folder, codes = run_all(cases(kills))

    def result(name: str) -> dict[str, Any]:
        found = json.loads((folder / f"{name}.0.out").read_text())["result"]
        return {key: value for key, value in found.items() if key not in ("seconds", "resumed_at")}

    whole = result("undisturbed")
    assert whole["steps"] == STEPS
    met = 0
    for k in range(kills):
        said = "".join((folder / f"again{k}.{rank}.err").read_text() for rank in range(2))
        assert codes[f"again{k}"] == [0, 0], said
        assert result(f"again{k}") == whole
        met += set(codes[f"hit{k}"]) != {0}
        if k == 0 and set(codes["hit0"]) != {0}:
            assert codes["hit0"] == [130, 130]
            assert "goes on from there" in (folder / "hit0.0.err").read_text()
            assert (folder / "hit0.1.err").read_text() == ""
    assert met > 0, codes


def test_a_killed_process_costs_nothing_but_time(run_all: Callable[..., tuple[Path, Any]]) -> None:
    """SIGTERM to both, then SIGKILL to one of the two, at random moments."""
    check(2, run_all)


@pytest.mark.slow
def test_twenty_kills(run_all: Callable[..., tuple[Path, Any]]) -> None:
    """SIGKILL at twenty random moments."""
    check(21, run_all)


@pytest.mark.slow
def test_torchrun_starts_it(tmp_path: Path) -> None:
    """The command of the documentation: two processes, one answer, and one voice for errors."""

    def torchrun(*more: str) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
        words = ["-m", "batchsense", "train", f"{JOBS}:tokens", "--steps", "9", "-q", *more]
        return subprocess.run(
            [*start, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done, refused = torchrun("--json", "--checkpoint", "run"), torchrun("--checkpoint", "run")
    result = json.loads(done.stdout)["result"]

    assert (result["processes"], result["backend"], result["combined"]) == (2, "gloo", "ratio")
    assert refused.returncode != 0
    assert refused.stderr.count("--resume goes on from it") == 1
