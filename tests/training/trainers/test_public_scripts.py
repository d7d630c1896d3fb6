"""Ten public training scripts: the committed study, judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STUDY = Path(__file__).parents[3] / "benchmarks" / "results" / "public_scripts.json"
SCRIPTS: dict[str, Any] = json.loads(STUDY.read_text())["scripts"]


def test_every_script_is_planned_audited_and_metered() -> None:
    """A plan is refused only where examples meet in the loss itself."""
    assert len(SCRIPTS) == 10
    refused = {name for name, found in SCRIPTS.items() if "refused" in found["plan"]}
    assert refused == {"sim_clr"}
    assert all(found["plan"]["batch_size"] > 0 for n, found in SCRIPTS.items() if n != "sim_clr")
    assert all(found["meter"]["measured"] == 24 for found in SCRIPTS.values())


def test_every_audit_is_right() -> None:
    """A sum, BatchNorm and negatives from the same minibatch are found; nothing else is blamed."""
    assert all(found["audit"]["verdict"] == found["may_be_split"] for found in SCRIPTS.values())
    kinds = {name: found["audit"]["kind"] for name, found in SCRIPTS.items()}
    assert {name for name, kind in kinds.items() if kind == "interacting"} == {
        "sim_clr",
        "residual_net",
    }


def test_what_the_meter_asks_for_is_enough() -> None:
    """Five loops need nothing; where it asks for micro-batches, they do."""
    told = [found["meter"]["told"] for found in SCRIPTS.values()]
    assert (told.count("nothing"), told.count("micro-batches")) == (5, 5)
