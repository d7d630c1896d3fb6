"""Make the stores of out of core importable, and keep unfinished work in a folder."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "out_of_core"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give the folder in which unfinished work is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "batchsense"
