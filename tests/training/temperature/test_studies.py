"""What the committed studies of heat found; what they did not reach is marked as that."""

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


def test_bowls_are_predicted_for_every_sampling() -> None:
    """All 96 cells within [.95, 1.06]; η tr C/(4B(1 − m)) is over 50 times off in one."""
    found = study("stationary_heat")

    assert len(found["cells"]) == 96
    assert all(0.95 <= cell["ratio"] <= 1.06 for cell in found["cells"])
    assert found["naive_furthest_off"] > 50


def test_escapes_follow_the_law_and_shuffling_forbids_them() -> None:
    """Arrhenius slope in [.92, 1.08] with R² ≥ .99; under .02 of the law in short epochs."""
    found = study("escapes")
    shuffled = {row["relaxations_per_epoch"]: row for row in found["shuffling"]}

    assert 0.92 <= found["slope"] <= 1.08
    assert found["r_squared"] >= 0.99
    assert shuffled[5.0]["ratio"] < 0.02
    assert shuffled[5.0]["warned"]
    assert shuffled[500.0]["ratio"] > 0.8


def costs(kind: str) -> dict[str, dict[str, Any]]:
    """Rows of the study of costs, by job."""
    return {row["job"]: row for row in study("thermometer_cost")["rows"] if row["kind"] == kind}


def test_a_thermometer_costs_little_and_changes_nothing() -> None:
    """Weights equal to the bit; its own work within 1.10 on a small net."""
    assert all(row["equal_weights"] for row in study("thermometer_cost")["rows"])
    assert costs("thermometer")["digits"]["ratio"] <= 1.10
