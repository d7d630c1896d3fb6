"""Compiled code is kept where it can be, is shared by processes, and is never needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import batchsense

pytestmark = pytest.mark.slow

#: Corrects 2.2 million values and prints where the code of the first pass was kept, how often it
#: was found there, and a number that depends on every value.
SCRIPT = """
import numpy as np
from batchsense.experiments import CombatCorrection, Table
from batchsense.experiments.correction.two_passes import kernels
codes = np.arange(220) % 4
values = np.random.default_rng(0).normal(size=(220, 10_000)) + codes[:, None]
table = Table.from_arrays(values, {"lane": codes})
corrected = CombatCorrection().fit(table, "lane").transform(table).values
stats = kernels.sum_rows.stats
print(stats.cache_path, sum(stats.cache_hits.values()), repr(float((corrected**2).sum())))
"""


@pytest.fixture
def package(tmp_path):
    """Give a copy of the package in whose folders nothing can be written, whoever asks."""
    pytest.importorskip("numba")
    root = tmp_path / "site"
    source = Path(batchsense.__file__).parent
    shutil.copytree(source, root / "batchsense", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [root, *root.rglob("*")]:
        if folder.is_dir():
            (folder / "__pycache__").write_text("a file where a folder would be")
    return root


def start(package, cache):
    """Start a fresh process that corrects with this package and this cache of the user."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")
    }
    environment |= {"PYTHONPATH": str(package), "XDG_CACHE_HOME": str(cache), "HOME": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=environment, text=True, stdout=subprocess.PIPE
    )


def result(process):
    """Wait, and give where, how often and the number."""
    where, hits, number = process.communicate(timeout=300)[0].split()
    assert process.returncode == 0
    return where, int(hits), number


def test_where_the_package_cannot_be_written_the_users_cache_is_used(package, tmp_path):
    """The first process compiles, the second one finds the code, with equal numbers."""
    cache = tmp_path / "cache"
    where, hits, number = result(start(package, cache))
    again = result(start(package, cache))

    assert Path(where).is_relative_to(cache)
    assert hits == 0
    assert again == (where, 1, number)


def test_several_processes_may_fill_the_cache_at_once(package, tmp_path):
    """Three processes that start together, and one after them, give the same number."""
    processes = [start(package, tmp_path / "cache") for _ in range(3)]
    together = [result(process) for process in processes]
    after = result(start(package, tmp_path / "cache"))

    assert {number for _, _, number in [*together, after]} == {after[2]}
    assert after[1] == 1


def test_without_any_folder_code_is_compiled_anew(package, tmp_path):
    """Nothing can be written anywhere: no error, equal numbers."""
    (tmp_path / "file").write_text("")
    where, hits, number = result(start(package, tmp_path / "file" / "below"))

    assert (where, hits) == ("None", 0)
    assert number == result(start(package, tmp_path / "cache"))[2]
