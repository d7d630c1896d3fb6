"""What the committed study of speed and memory found; what it did not reach is marked as that.

The script is ``benchmarks/combat_speed.py``; timings are judged by its result alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

STUDY = Path(__file__).parents[3] / "benchmarks" / "results" / "combat_speed.json"


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    """Read the committed result."""
    found: dict[str, Any] = json.loads(STUDY.read_text())
    return found


def test_it_says_where_when_and_against_what(study):
    """Machine, versions, seed, date, numba, and three peers with their versions at both sizes."""
    assert {"machine", "versions", "seed", "date", "numba"} <= set(study)
    for size in ("specimens_200", "specimens_2000"):
        assert set(study[size]["peers"]) == {"scanpy", "inmoose", "neuroCombat"}
        assert all(peer["version"] for peer in study[size]["peers"].values())


@pytest.mark.parametrize(("size", "least"), [(200, 12), (2_000, 40)])
def test_faster_than_the_best_other_package(study, size, least):
    """20,000 features: 12 times at 200 specimens and 40 times at 2,000, in both ways."""
    assert min(study[f"specimens_{size}"]["times_faster_than_best_peer"].values()) >= least


@pytest.mark.parametrize("how", ["new_array", "in_place"])
def test_near_the_time_that_reading_and_writing_takes(study, how):
    """2,000 specimens: at most 3 times reading once and reading and writing once."""
    assert study["specimens_2000"]["floor_ratio"][how] <= 3


@pytest.mark.parametrize(("how", "most"), [("new_array", 1.1), ("in_place", 0.15)])
def test_little_memory_beside_the_matrix(study, how, most):
    """2,000 specimens, in matrices: 1.1 with the result, 0.15 in place."""
    assert study["specimens_2000"]["extra_memory_in_matrices"][how] <= most


def test_little_memory_beside_a_small_matrix(study):
    """200 specimens in place: at most 0.15 matrices."""
    assert study["specimens_200"]["extra_memory_in_matrices"]["in_place"] <= 0.15


@pytest.mark.xfail(
    strict=True,
    reason="measured 1.12, wanted 1.1: with 200 specimens in five batches a table of batches × "
    "features is a fortieth of the matrix, and a fit that can be merged, saved and applied holds "
    "four of them",
)
def test_little_memory_for_a_new_small_matrix(study):
    """200 specimens with the result: at most 1.1 matrices."""
    assert study["specimens_200"]["extra_memory_in_matrices"]["new_array"] <= 1.1


def test_a_first_call_compiles_in_three_seconds(study):
    """Nothing compiled: at most 3 s, and less where code lies on disk."""
    first = study["first_call_seconds"]

    assert first["nothing_compiled"] <= 3
    assert first["compiled"] < first["nothing_compiled"]


@pytest.mark.parametrize("kept", ["nothing", "category", "category_and_number"])
def test_missing_values_cost_little(study, kept):
    """2,000 specimens, 5 % missing: fitting takes at most three times as long as without."""
    assert study["specimens_2000"]["fit_seconds_by_kept_terms"][kept]["ratio"] <= 3
