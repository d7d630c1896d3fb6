"""The committed studies of counts, judged."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def test_false_positives_are_as_many_as_promised() -> None:
    """At 0.05 between 4.5 and 5.5 %, at least 500 tables a scenario; limma's rate is the same."""
    scenarios = json.loads((RESULTS / "counts_false_positives.json").read_text())["scenarios"]

    assert {(one["specimens_a_group"], one["lots_differ"]) for one in scenarios} == {
        (each, differ) for each in (3, 6, 20, 100) for differ in (False, True)
    }
    for one in scenarios:
        assert one["tables"] >= 500
        assert 0.045 <= one["rate"] <= 0.055
        assert one["ours_on_tables_of_limma"] == one["limma"]


def test_as_much_is_found_as_by_limma() -> None:
    """On the same tables with planted effects: the same power, and as many false calls."""
    for one in json.loads((RESULTS / "counts_false_positives.json").read_text())["power"]:
        assert one["power"] == one["limma_power"]
        assert one["false_share"] == one["limma_false_share"]


def test_measured_tables_equal_limma() -> None:
    """Fifty simulated and four measured tables: filter and calls equal, numbers to 1e-8."""
    study = json.loads((RESULTS / "counts_against_limma.json").read_text())
    names = [row["study"] for row in study["each"]]

    assert study["studies"] == study["filters_equal"] == study["calls_equal"] == 54
    assert names[-4:] == ["marioni", "sultan", "lung", "mouse"]
    assert study["worst"]["tmm"] < 1e-10
    assert max(study["worst"][one] for one in ("trend", "weights", "log_cpm")) < 1e-8
    assert max(study["worst_but_for_robust"].values()) < 1e-8


def test_robust_p_values_are_limmas_to_as_many_digits_as_limma_has() -> None:
    """Its root is found to 1e-8; once found to double precision, its p values are ours."""
    worst = json.loads((RESULTS / "counts_against_limma.json").read_text())["worst"]

    assert worst["p_exact_root"] < 1e-8
    assert worst["p"] <= worst["limma_p_to_its_exact_root"] + 1e-10
