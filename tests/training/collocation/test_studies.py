"""What the committed studies of collocation minibatches found."""

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


@pytest.mark.parametrize("way", ["uniform", "importance", "as_workload"])
def test_memory_does_not_grow_with_the_points(way: str) -> None:
    """A million points take at most 1.2 times the memory of ten thousand; a step takes the same."""
    ratios = study("collocation_memory")["ratios"][way]

    assert ratios["peak_mib"] <= 1.2
    assert ratios["envelope_of_a_step_mib"] == 1
