"""A slice of the hostile inputs, and the committed study of all of them, judged.

The inputs are drawn in ``benchmarks/hostile``; the whole study is ``benchmarks/hostile_inputs.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TABLES, JOBS, FIRST = 50, 8, 100_000


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that draws one input and asks about it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import hostile.asking

    yield hostile.asking
    for name in [name for name in sys.modules if name.partition(".")[0] == "hostile"]:
        del sys.modules[name]


@pytest.mark.parametrize(("what", "number"), [("table", TABLES), ("job", JOBS)])
@pytest.mark.filterwarnings("default")
def test_hostile_inputs_end_in_an_answer_or_a_refusal(
    what: str, number: int, asking: Any, tmp_path: Path
) -> None:
    """No traceback, no bug, no half output, no lost value, no changed input, valid documents."""
    from hostile.judge import in_process

    ask = getattr(asking, f"ask_about_a_{what}")
    found = {}
    for index in range(FIRST, FIRST + number):
        folder = tmp_path / str(index)
        folder.mkdir()
        tried = ask((0, index), folder, in_process)
        if tried.faults:
            found[f"{what}-{index}"] = (" ".join(tried.words), tried.faults)

    assert found == {}


def test_commands_that_were_ended_left_nothing_half() -> None:
    """110 KILL, TERM and INT over eleven writing commands: nothing half, nothing lost."""
    found = json.loads((BENCHMARKS / "results" / "hostile_kills.json").read_text())

    assert sum(found["kills"][name] for name in ("SIGKILL", "SIGTERM", "SIGINT")) >= 100
    assert found["faults"] == {}


def test_ten_thousand_hostile_inputs_ended_well() -> None:
    """The whole study: tables in process, real processes and jobs, none with a fault."""
    found = json.loads((BENCHMARKS / "results" / "hostile_inputs.json").read_text())

    assert found["inputs"]["tables"] >= 10_000
    assert found["inputs"]["processes"] >= 300
    assert found["inputs"]["jobs"] >= 200
    assert found["faults"] == {}
