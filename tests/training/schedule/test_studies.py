"""What the committed studies of schedules found; what they did not reach is marked as that."""

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


def pair(name: str) -> dict[str, Any]:
    """One pair of growth against decay."""
    return {row["pair"]: row for row in study("growth_against_decay")["pairs"]}[name]


@pytest.mark.parametrize(("name", "updates"), [("rugged", 0.35), ("digits", 0.55)])
def test_growth_does_what_decay_does_in_fewer_steps(name: str, updates: float) -> None:
    """Eight seeds each: losses within two standard errors of their difference."""
    row = pair(name)

    assert row["seeds"] >= 8
    assert abs(row["difference_in_errors"]) <= 2
    assert row["updates"] <= updates


@pytest.mark.xfail(
    strict=True,
    reason="measured .044 nats above the cosine, 3.2 standard errors, on two seeds of 10,000 "
    "examples, at .53 of the updates: the last sizes lie far above the critical batch size",
)
def test_seesaw_does_what_a_cosine_does() -> None:
    """The transformer with AdamW: within two standard errors at .70 of the updates, eight seeds."""
    row = pair("cosine")
    assert row["updates"] <= 0.70
    assert row["seeds"] >= 8
    assert abs(row["difference_in_errors"]) <= 2


@pytest.mark.xfail(
    strict=True,
    reason="no worse (.2 standard errors, three seeds), but at 1.00 of the updates: from the "
    "planned 32 examples on the size was not raised in 40,000 examples",
)
def test_following_the_noise_is_no_worse_than_the_planned_size() -> None:
    """The transformer with AdamW: no higher loss at .70 of the updates."""
    row = pair("noise")
    assert row["difference"] <= 2 * row["standard_error"]
    assert row["updates"] <= 0.70


def test_annealing_is_worth_its_while_where_growth_is_compared() -> None:
    """On the rippled bowl a run that is cold from the start stays far above."""
    row = pair("rugged")
    assert row["cold_from_the_start"] > 5 * row["growth"]["mean"]


def test_ours_keeps_every_count_and_the_peer_does_not() -> None:
    """Sizes, rates, examples, lengths and resumed runs, with and without worker processes."""
    rows = study("schedule_peers")["scenarios"]
    ours = [row for row in rows if row["way"] == "batchsense"]
    peer = [row for row in rows if row["way"] != "batchsense"]

    assert len(ours) == len(peer) == 4
    for row in ours:
        assert row["steps_of_the_wrong_size"] == row["steps_at_the_wrong_learning_rate"] == 0
        assert row["examples_at_the_rate_of_another_size"] == 0
        assert row["steps_that_differ_after_resuming"] == 0
        assert all(promised == came for promised, came in row["lengths_promised_and_came"])
        # Once, at the end of the run, and less than a step.
        assert row["examples_missed"] < 16 * row["drop_last"] + 1
    assert all(row["steps_that_differ_after_resuming"] > 0 for row in peer)
    assert sum(row["steps_of_the_wrong_size"] > 0 for row in peer) == 3
