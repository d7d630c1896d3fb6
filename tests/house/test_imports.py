"""Import is cheap: the heavy libraries load only with the work that needs them."""

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


#: Runs the command line and says how many Python functions were called for it.
COUNTING = """
import runpy, sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event == "call"
sys.argv = ["batchsense", "--help"]
sys.setprofile(count)
try:
    runpy.run_module("batchsense", run_name="__main__")
finally:
    sys.setprofile(None)
    print(calls, file=sys.stderr)
"""


def test_help_is_little_work() -> None:
    """`batchsense --help` calls at most 200,000 functions, about half a CPU second.

    Calls, not seconds: they are the same on every machine, however busy. Today's 90,000 take 0.25
    CPU seconds; importing pandas calls 190,000 more, scipy.stats 750,000.
    """
    done = subprocess.run(
        [sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True
    )

    assert 0 < int(done.stderr.splitlines()[-1]) <= 200_000
