"""What the committed study of answers beyond memory found, on 600 MB and 400 MB of float32.

The script is ``benchmarks/beyond_memory.py``; only its result is judged here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
FORMS = ("h5ad", "zarr")


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    """Read the result."""
    found: dict[str, Any] = json.loads((RESULTS / "beyond_memory.json").read_text())
    assert {"machine", "versions", "seed", "date"} <= set(found)
    assert found["tall"] == [20_000, 20_000]
    assert found["wide"] == [1_000, 100_000]
    return found


@pytest.mark.parametrize("form", FORMS)
def test_the_numbers_are_those_in_memory(study, form):
    """Tests of 20,000 × 20,000, the diagnosis and the surrogates of 1,000 × 100,000: to 1e-9."""
    for row in ("test_tall_loaded", "diagnose_wide_loaded"):
        assert study[row][f"largest_difference_{form}"] <= 1e-9
    assert study["surrogates_wide_loaded"]["largest_difference_h5ad"] <= 1e-9


@pytest.mark.parametrize("form", FORMS)
def test_memory_is_kept(study, form):
    """A gigabyte was allowed."""
    assert study[f"test_tall_{form}"]["peak_mb"] <= 1_000
    assert study[f"diagnose_tall_{form}"]["peak_mb"] <= 1_000


def test_a_sketch_keeps_within_its_stated_error(study):
    """Nulls of 4,000 specimens × 20,000 features within one standard error; raw shares exact."""
    assert study["sketch"]["largest_of_nulls_in_stated_errors"] <= 1
    relative = study["sketch"]["relative_difference"]
    for term in ("lane", "drug", "age", "joint", "interaction"):
        assert relative[term][0] <= 1e-9


def test_a_killed_test_goes_on(study):
    """By SIGKILL after sums were kept; the next run took them up, and gave the same numbers."""
    assert study["killed"]["killed_after_sums_were_kept"]
    assert study["killed"]["resumed"]
    assert study["killed"]["largest_difference"] <= 1e-9


def test_workers_give_the_same_numbers(study):
    """One and two one-thread workers."""
    for question in ("test", "diagnose"):
        assert study[f"dask_{question}"]["largest_difference"] <= 1e-9


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            "h5ad",
            marks=pytest.mark.xfail(
                strict=True,
                reason="measured 2.1 (median of five pairs: 1.9 to 2.2), wanted 2: sums take .6 "
                "of .9 s, a sheet of 20,000 rows and its model the rest",
            ),
        ),
        "zarr",
    ],
)
def test_a_test_takes_twice_a_bare_read(study, form):
    """CPU seconds of a test over those of reading every block, the median of five pairs."""
    assert study[f"test_tall_{form}"]["cpu_against_bare"] <= 2


@pytest.mark.xfail(
    strict=True,
    reason="measured 12 (.h5ad) and 6.0 (.zarr), medians of three, wanted 5: 6 to 7 s, two of "
    "them the clusters of 20,000 specimens, whose labels are permuted",
)
@pytest.mark.parametrize("form", FORMS)
def test_a_sketch_takes_five_bare_reads(study, form):
    """CPU seconds of a sketched diagnosis over those of reading every block, of three pairs."""
    assert study[f"diagnose_tall_{form}"]["cpu_against_bare"] <= 5


def test_two_workers_are_half_as_fast_again(study):
    """Wall seconds of a test by one worker over those by two, all of which were asked before."""
    assert study["dask_test"]["ratio"] >= 1.5


def test_tests_and_surrogates_beside_r():
    """20,000 features of 200 specimens, CPU seconds in turn; the same t, the same surrogate."""
    found = json.loads((RESULTS / "limma_speed.json").read_text())
    first = found["first_number"]
    assert found["limma_over_ours"] >= 1
    assert found["sva_over_ours"] >= 2
    assert first["ours"] == pytest.approx(first["limma"], rel=1e-4)
    assert first["our_surrogates"] == pytest.approx(first["sva"], rel=1e-4)
