"""Import is cheap: the heavy libraries load only with the work that needs them."""

import os
import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "anndata", "matplotlib", "pandas", "scipy.stats")


def loaded_by(*arguments: str) -> set[str]:
    """Give the modules that a fresh interpreter imports for these arguments."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import batchsense"),
        ("-m", "batchsense", "--help"),
        ("-m", "batchsense", "plan", "--help"),
        ("-m", "batchsense", "diagnose", "--help"),
        ("-m", "batchsense", "--version"),
    ],
)
def test_heavy_libraries_stay_out(arguments: tuple[str, ...]) -> None:
    """Neither the import nor any help loads torch, scikit-learn, AnnData or Matplotlib."""
    modules = loaded_by(*arguments)

    assert "batchsense" in modules or "batchsense.errors" in modules
    assert not {m for m in modules if m in HEAVY or m.split(".")[0] in HEAVY}


def test_help_costs_half_a_cpu_second_at_most() -> None:
    """`batchsense --help` uses at most 0.5 CPU seconds (best of three, CPU time not wall time)."""

    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "batchsense", "--help"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(cpu_seconds() for _ in range(3)) <= 0.5
