"""What the committed study of corrections out of core found, on 1.6 GB of float32.

The script is ``benchmarks/out_of_core.py``; it takes minutes and ten gigabytes of disk: only its
result is judged here. Its times are those of a machine that other work shared. That a kill leaves
nothing that opens is tested on small data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
FORMS = ("matrix.h5ad", "annotated.zarr", "plain.zarr")


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    """Read the result."""
    found: dict[str, Any] = json.loads((RESULTS / "out_of_core.json").read_text())
    return found


def test_the_study_says_where_and_when(study):
    """Machine, versions, seed and date; the size and memory that were asked for."""
    assert {"machine", "versions", "seed", "date"} <= set(study)
    assert (study["specimens"], study["features"]) == (20_000, 20_000)
    assert study["memory_asked_mb"] <= 500
    assert set(study["results"]) == set(FORMS)
    assert all(len(study["results"][name]["runs"]["ours"]) >= 3 for name in FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_memory_is_fixed(study, name):
    """No run of any form ever occupied more than 600 MB, libraries included."""
    runs = study["results"][name]["runs"]
    peaks = [run["peak_mb"] for kind, found in runs.items() if kind != "bare" for run in found]

    assert max(peaks) <= 600


@pytest.mark.parametrize("name", FORMS)
def test_the_numbers_are_those_in_memory(study, name):
    """The largest difference to the whole matrix corrected in memory, at float32."""
    assert study["results"][name]["in_memory"]["largest_difference"] <= 1e-5


@pytest.mark.parametrize("name", FORMS)
def test_time_is_at_most_twice_a_bare_copy(study, name):
    """Median over pairs of the time of a read, then a read and write, by the same library."""
    assert study["results"][name]["ratio_to_bare"]["ours"] <= 2


@pytest.mark.xfail(
    strict=True,
    reason="measured 2.19 (five pairs of 2.1 to 4.6 s and 4.9 to 5.1 s), wanted 2: writing a new "
    "HDF5 file without the original takes longer than copying the original and adding a layer",
)
def test_time_without_the_original_is_at_most_twice_a_bare_copy(study):
    """The same where the result does not hold the original, which is not the default."""
    assert study["results"]["matrix.h5ad"]["ratio_to_bare"]["ours-alone"] <= 2


@pytest.mark.parametrize("name", FORMS[:2])
def test_two_processes_give_the_same_numbers(study, name):
    """A local cluster of two processes with 500 MiB each, which they keep."""
    found = study["cluster"][name]

    assert found["in_memory"]["largest_difference"] <= 1e-5
    assert found["run"]["worker_peak_mb"] <= 500 * 2**20 / 1e6
