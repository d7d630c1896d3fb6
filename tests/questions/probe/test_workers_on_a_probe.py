"""``batchsense workers`` answers from a probe as from a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchsense.cli.main import run


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """Four workers over a shared 50 MB/s, 0.3 ms an example, 4 MB of gradients in two buckets."""

    def row(size: int) -> dict[str, Any]:
        parts = {"forward": size * 1e-4, "backward": size * 2e-4, "optimizer": 1e-3}
        return {f"{name}_seconds": [value] * 5 for name, value in parts.items()}

    buckets = [{"bytes": 1_000_000, "ready": 0.25}, {"bytes": 3_000_000, "ready": 1.0}]
    result = {
        "target": "job.py:workload", "workers": 4, "nodes": 1, "backend": "gloo",
        "interface": "lo", "device": "cpu", "dtype": "float32", "versions": {},
        "buckets": buckets, "gradients": buckets,
        "steps": [{"workers": 4, "micro_batch": 64, "seconds": [0.492] * 5}],
        "compute": [
            {"workers": k, "micro_batch": b, **row(b)} for k in (1, 4) for b in (64, 512)
        ],
        "allreduce": [
            {"bytes": n, "workers": k, "seconds": [2 * (k - 1) * (1e-4 + n / 50e6)] * 5}
            for k in (4, 2)
            for n in (4096, 1_000_000, 3_000_000)
        ],
    }  # fmt: skip
    file = tmp_path / "probe.json"
    file.write_text(json.dumps({"command": "probe", "result": result}))
    return file


def test_more_workers_are_slower_for_certain_at_a_small_batch(
    probe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1; what holds whatever overlaps, and each lever as an option of train."""
    assert run(["workers", str(probe), "--workers", "1,2,4,8", "--batch-size", "256"]) == 1
    said = " ".join(capsys.readouterr().out.split())

    assert "8 workers are slower for certain" in said
    assert "slower than one, even if all of the exchange overlaps" in said
    for option in ("--compress fp16", "--sync-every 8", "--batch-size 1024 --accumulate 4"):
        assert option in said
    assert "Preliminary" not in said


def test_two_workers_are_best_in_between(probe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Faster from one to two, slower from two to four."""
    run(["workers", str(probe), "--workers", "1,2,4", "--batch-size", "1024", "--json"])
    result = json.loads(capsys.readouterr().out)["result"]

    assert result["best"]["workers"] == 2
    assert result["turning"]["workers"]["estimate"] == 2
    verdicts = {(o["from"]["workers"], o["to"]["workers"]): o["verdict"] for o in
                result["comparisons"]}  # fmt: skip
    assert verdicts[1, 2] == "faster"
    assert verdicts[2, 4] == "slower"
    assert [one["form"] for one in result["model"]] == ["white_box"]


def test_without_a_batch_size_the_probe_gives_one(
    probe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with a table, what was measured says how many examples."""
    assert run(["workers", str(probe), "--json"]) in (0, 1)
    result = json.loads(capsys.readouterr().out)["result"]

    assert [one["workers"] for one in result["predictions"]] == [1, 2, 4, 8]
