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


def test_a_second_order_step_takes_hardly_more_memory_for_a_million_points() -> None:
    """At most 1.2 times that of ten thousand, and less than a peer takes for these."""
    found = study("collocation_newton_memory")

    assert found["ratio"] <= 1.2
    assert found["peak_mib"]["batchsense, 1000000"] < found["peak_mib"]["scimba, 10000"]


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


def test_every_built_in_problem_is_solved_as_near_as_wanted() -> None:
    """Within 300 CPU seconds of one thread, one seed each."""
    found = study("collocation_targets")["targets"]

    assert len(found) == 9
    assert all(row["found"] <= row["wanted"] for row in found.values())
    assert all(row["cpu_seconds"] <= 300 for row in found.values())


@pytest.mark.parametrize("problem", ["heat", "poisson-disc", "wave"])
def test_planned_points_cost_hardly_more_than_the_best_fixed_number(problem: str) -> None:
    """Medians over three seeds of the CPU seconds to an error."""
    row = study("collocation_targets")["sweep"][problem]

    assert row["2540_over_planned"] > 1
    assert row["planned_over_best"] <= 1.25


@pytest.mark.parametrize(
    ("problem", "method", "ratio"),
    [
        ("heat", "deepxde", 3.0),
        ("heat", "ssbfgs", 1.3),
        ("heat", "ssbroyden", 1.3),
        ("burgers", "deepxde", 2.0),
        ("burgers", "ssbfgs", 1.3),
    ],
)
def test_the_way_to_an_error_is_shorter_than_that_of_peers(
    problem: str, method: str, ratio: float
) -> None:
    """Medians over three seeds; where a peer's median run was cut short, by what it took."""
    rows = study("collocation_race")["summary"][problem]["methods"]

    assert len(rows["batchsense"]["seconds"]) == len(rows[method]["seconds"]) == 3
    assert rows["batchsense"]["not_reached"] == 0
    assert rows[method]["ratio"] >= ratio


def test_after_equal_time_the_error_is_no_larger_than_that_of_peers() -> None:
    """Medians of the smallest error within the time of the race."""
    for found in study("collocation_race")["summary"].values():
        after = {
            method: row["best_error_after_seconds"][f"{found['limit']:g}"]
            for method, row in found["methods"].items()
        }
        assert after["batchsense"] == min(after.values())
