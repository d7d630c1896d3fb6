"""What the committed studies of memory found; what they did not reach is marked as that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def study(name: str) -> dict[str, Any]:
    """Read a committed result."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def test_advised_sizes_train_under_their_limit_and_are_not_timid() -> None:
    """Four jobs under three limits, with and without memory given back; .88 of the largest."""
    rows = study("memory_margin")["jobs"]

    assert len(rows) == 12
    assert all(row[way]["trains"] for row in rows for way in ("returning", "defaults"))
    assert min(row["returning"]["advised_share"] for row in rows) >= 0.88
