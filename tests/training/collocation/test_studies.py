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


@pytest.mark.parametrize(("problem", "noise"), [("burgers", 0.5), ("allen_cahn", 1.2)])
def test_importance_lowers_noise_on_one_problem_and_errors_on_none(
    problem: str, noise: float
) -> None:
    """Five runs each at equal points: the interval of the ratio of errors holds 1 on both."""
    found = study("collocation_sampling")["problems"][problem]
    low, high = found["importance"]["interval"]

    assert len(found["runs"]) == 15
    assert len({run["seed"] for run in found["runs"]}) == 15
    assert low < 1 < high
    assert found["noise_ratio"]["uniform"] < noise
