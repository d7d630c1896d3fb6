"""What the committed studies of batch sizes found; what they did not reach is marked as that.

The scripts are under ``benchmarks/``; they take minutes to an hour, so that only their results are
judged here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def study(name: str) -> dict[str, Any]:
    """Read a committed result."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize(
    "name",
    [
        "critical_batch_size",
        "noise_coverage",
        "noise_scale_peer",
        "plan_regret",
        "rescaling",
        "tolerance_promises",
        "noise_cost",
    ],
)
def test_results_say_where_and_when(name: str) -> None:
    """Machine, versions, seed and date stand in every result."""
    found = study(name)

    assert {"machine", "versions", "seed", "date"} <= set(found)


def coverage_rows(way: str, seen: str | None = None) -> list[dict[str, Any]]:
    """Rows of the coverage study."""
    rows = study("noise_coverage")["rows"]
    return [row for row in rows if row["way"] == way and seen in (None, row["seen"])]


def test_intervals_of_a_meter_cover() -> None:
    """Four moments, three ways of seeing, two lengths: 92 to 98.5 % of 1,000 intervals each."""
    rows = coverage_rows("meter")

    assert len(rows) == 4 * 3 * 2
    assert study("noise_coverage")["repeats"] >= 300
    assert all(0.92 <= row["coverage"] <= 0.985 for row in rows)
    assert all(row["wrong_by_two"] <= 0.02 for row in rows)
    assert all(row["below_zero"] == 0 for row in rows)


def test_intervals_of_a_survey_cover() -> None:
    """From single examples likewise; micro-batches never cover less."""
    assert all(
        0.92 <= row["coverage"] <= 0.985 for row in coverage_rows("survey", "single examples")
    )
    assert all(row["coverage"] >= 0.92 for row in coverage_rows("survey"))
    assert all(row["wrong_by_two"] <= 0.02 for row in coverage_rows("survey"))


@pytest.mark.xfail(
    strict=True,
    reason="measured .986 to 1.0 in 6 of 16 rows, wanted at most .985: where a few examples hold "
    "the noise, a survey by micro-batches is too careful",
)
def test_intervals_of_a_survey_by_micro_batches_are_no_wider_than_needed() -> None:
    """At most 98.5 % coverage."""
    assert all(row["coverage"] <= 0.985 for row in coverage_rows("survey"))


def test_right_within_twofold_more_often_than_the_peer() -> None:
    """At equal examples: ahead of the peer's default and of its best setting, both ways."""
    shares = study("noise_scale_peer")["mean_within_twofold"]
    for way, ours in (("stream", "ours, distinct examples"), ("one_pass", "ours, single examples")):
        peers = [share for name, share in shares[way].items() if name.startswith("traintools")]

        assert len(peers) >= 5
        assert shares[way][ours] > max(peers)


def critical(name: str) -> list[dict[str, Any]]:
    """Rows of one task of the study of B_crit."""
    return [row for row in study("critical_batch_size")["tasks"] if row["task"].startswith(name)]


def agrees(row: dict[str, Any], factor: float = 1.6) -> bool:
    """Whether path and sweep are within a factor."""
    return bool(1 / factor <= row["ratio"] <= factor)


def test_path_agrees_with_sweep() -> None:
    """Within 1.6 at four targets of an SGD MLP, two of an Adam transformer, two of a regression."""
    assert sum(agrees(row) for row in critical("digits, MLP, SGD")) >= 4
    assert sum(agrees(row) for row in critical("characters")) >= 2
    assert sum(agrees(row) for row in critical("regression")) >= 1


@pytest.mark.xfail(
    strict=True,
    reason="measured 3.3 (digits to 1.0) and 4.2 (regression to 0.4), wanted 1.6: in the first ten "
    "to fifty steps the stable learning rate, not noise, sets the least number of steps",
)
def test_path_agrees_with_sweep_from_the_first_steps_on() -> None:
    """At every target of SGD, the easiest included."""
    assert all(agrees(row) for row in critical("digits, MLP, SGD") + critical("regression"))


@pytest.mark.xfail(strict=True, reason="measured 3.2, wanted 3: the path sees 36, the sweep 114")
def test_path_agrees_with_sweep_for_an_adam_net() -> None:
    """Within three."""
    assert all(agrees(row, 3.0) for row in critical("digits, MLP, Adam"))


def test_adam_is_marked() -> None:
    """Every row with Adam carries low confidence."""
    rows = critical("digits, MLP, Adam") + critical("characters")

    assert all(row["marked_low_confidence"] for row in rows)


def test_a_pilot_keeps_its_promise_at_every_moment() -> None:
    """At most 1.2 δ misses in 90 % of 200 pilots, with at most 1.6 times the least batch size.

    Heavy tails included, and without a pilot that gives no answer.
    """
    for row in study("tolerance_promises")["moments"]:
        found = row["rungs"]["calibrated"]
        assert found["promise_kept"] >= 0.9
        assert found["over_least_median"] <= 1.6
        assert found["answered"] >= 0.95


@pytest.mark.xfail(
    strict=True,
    reason="256 examples without a survey: of the 4 to 6 % that answer on digits after 1,000 steps "
    ".5 and .09 keep their promise, of the 72 % on characters after 200 steps at 1 % .76",
)
def test_a_pilot_without_a_survey_keeps_its_promise_where_it_answers() -> None:
    """What is left where time does not allow a survey."""
    rows = study("tolerance_promises")["moments"]
    assert all(row["rungs"]["few"]["promise_kept"] >= 0.9 for row in rows)


def test_the_stronger_rungs_keep_their_promise() -> None:
    """Chebyshev in every pilot and verified in 95 %, at every moment; whole data sets too."""
    for row in study("tolerance_promises")["moments"]:
        assert row["rungs"]["chebyshev"]["promise_kept"] >= 0.95
        if "verified" in row["rungs"]:
            assert row["rungs"]["verified"]["promise_kept"] >= 0.95
        assert row["whole"]["miss"] <= 1.21 * row["delta"]
        assert row["whole"]["over_least"] <= 1.6


def rescaled(task: str) -> list[dict[str, Any]]:
    """Pairs of runs of one task."""
    return [row for row in study("rescaling")["pairs"] if row["task"] == task]


@pytest.mark.parametrize("task", ["digits, MLP, SGD", "characters, transformer, Adam"])
def test_rescaled_runs_train_alike(task: str) -> None:
    """Four times the batch size, five seeds: the loss at equal examples within 3 %."""
    rows = rescaled(task)

    assert all(row["below_half_the_critical"] for row in rows)
    assert all(len(row["loss_change_by_seed"]) == 5 for row in rows)
    assert all(abs(row["loss_change"]) <= 0.03 for row in rows)


@pytest.mark.xfail(
    strict=True,
    reason="measured 7.4 and 15 %, wanted 3 %: at half and all of the fastest learning "
    "rate; the cause is not known, scaling β₁ as well halved it in a trial",
)
def test_rescaled_runs_of_an_adam_net_train_alike() -> None:
    """Digits with Adam likewise."""
    assert all(abs(row["loss_change"]) <= 0.03 for row in rescaled("digits, MLP, Adam"))


def cost(mode: str, every: int, least: int, model: str) -> list[float]:
    """Ratios to the plain step of a meter on nets of at least so many numbers."""
    return [
        row["ratio"]
        for row in study("noise_cost")["rows"]
        if (row["mode"], row["every"], row["model"]) == (mode, every, model)
        and row["parameters"] >= least
    ]


def test_a_meter_costs_little_on_nets_worth_metering() -> None:
    """Nets of 0.3 M numbers or more: norms 1.6, every 20th step 1.04, micro-batches 1.10."""
    assert max(cost("per_example", 1, 300_000, "MLP")) <= 1.6
    assert max(cost("per_example", 20, 1_000_000, "MLP")) <= 1.04
    assert max(cost("per_example", 20, 1_000_000, "transformer")) <= 1.04
    assert max(cost("micro_batch", 1, 1_000_000, "MLP")) <= 1.10
    assert max(cost("micro_batch", 1, 0, "transformer")) <= 1.10


@pytest.mark.xfail(
    strict=True,
    reason="measured 2.4, 1.15 and 1.45 on an MLP of 26 k numbers, whose plain step takes 0.5 ms, "
    "wanted 1.6, 1.04 and 1.10: what is left is calls of Python, not arithmetic",
)
def test_a_meter_costs_little_on_the_smallest_net() -> None:
    """The same on the digits MLP of 26 k numbers."""
    assert max(cost("per_example", 1, 0, "MLP")) <= 1.6
    assert max(cost("per_example", 20, 0, "MLP")) <= 1.04
    assert max(cost("micro_batch", 1, 0, "MLP")) <= 1.10


@pytest.mark.xfail(
    strict=True, reason="measured 1.41 at 1.2 M numbers, wanted 1.3; norms alone cost 1.22 to 1.35"
)
def test_norms_cost_little_on_a_transformer() -> None:
    """Exact norms every step on a transformer of a million numbers or more."""
    assert max(cost("per_example", 1, 1_000_000, "transformer")) <= 1.3


def test_a_plan_reaches_the_target_as_fast_as_the_best_batch_size() -> None:
    """Five tasks of five: within 1.15 of the best of a sweep, never behind any other advice."""
    tasks = study("plan_regret")["tasks"]

    assert len(tasks) >= 4
    for task in tasks:
        ours = task["contenders"]["plan"]["time_over_best"]
        others = [c["time_over_best"] for n, c in task["contenders"].items() if n != "plan"]
        assert ours <= 1.15
        assert len(others) == 3
        assert ours <= min(others)
