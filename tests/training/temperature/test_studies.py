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


@pytest.mark.xfail(
    strict=True,
    reason="measured 1.040 on charlm (116,834 numbers, 8 examples a step), 1.015 on 301,066 "
    "numbers with 32 examples, wanted 1.03",
)
def test_a_thermometer_costs_little_from_a_hundred_thousand_numbers_on() -> None:
    """1.03 of the step."""
    rows = costs("thermometer")
    assert max(rows[job]["ratio"] for job in ("wide digits", "charlm")) <= 1.03


@pytest.mark.xfail(
    strict=True,
    reason="9 forecasts of 30 moments, heat over gain .19 to 3.7, wanted .85 to 1.15; 6 of 9 in "
    "their interval, wanted .8: late in training the loss comes in bursts",
)
def test_forecasts_are_what_cooling_gains() -> None:
    """Wherever one is given."""
    given = [row for row in study("cooling_forecast")["moments"] if row["forecast"] is not None]
    assert all(0.85 <= row["heat_over_gain"] <= 1.15 for row in given)
    assert sum(row["covered"] for row in given) >= 0.8 * len(given)


def test_no_forecast_is_given_early() -> None:
    """After 8,400 steps, while r is about .75, none of ten."""
    early = [row for row in study("cooling_forecast")["moments"] if row["steps"] == 8400]

    assert len(early) == 10
    assert all(row["forecast"] is None for row in early)


def test_what_is_said_beside_a_forecast_is_what_the_study_found() -> None:
    """How many forecasts held the gain, in the words of the command."""
    from batchsense.questions.temperature.request import _TRIALS

    found = study("cooling_forecast")

    assert f"{found['covered']} of {found['given']} forecasts held" in _TRIALS
