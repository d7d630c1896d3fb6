"""What the committed studies of memory found; what they did not reach is marked as that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


def plain_steps(found: Any) -> list[float]:
    """Every cost of a measurement, in plain steps of its largest probe."""
    if isinstance(found, dict):
        own = [found["in_plain_steps"]] if "in_plain_steps" in found else []
        return own + [each for value in found.values() for each in plain_steps(value)]
    return [each for one in found for each in plain_steps(one)] if isinstance(found, list) else []


@pytest.mark.xfail(
    strict=True,
    reason="measured 11 to 1,085 plain steps, wanted 40 at most: .3 CPU seconds are needed at "
    "least, which is more than 40 steps of a job whose step takes less than 8 ms",
)
def test_measuring_costs_at_most_forty_plain_steps() -> None:
    """Every job, with either kind of data set."""
    assert max(plain_steps(study("memory_prediction"))) <= 40
