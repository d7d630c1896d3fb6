"""``test``, ``diagnose`` and ``surrogates`` out of core say what they say in memory, and how."""

from __future__ import annotations

import json

import anndata
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.experiments import plant
from published import check_document

ASKED = {
    "test": ["--batch", "month", "--contrast", "drug"],
    "diagnose": ["--batch", "month", "--keep", "drug", "--no-placebo", "--permutations", "20"],
    "surrogates": ["--keep", "drug", "--count", "1"],
}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """Write 40 specimens with their sheet."""
    table = plant(specimens=40, features=120, months=2, treated_share=0.67, seed=1).table
    obs = pd.DataFrame({name: list(column) for name, column in table.sheet.items()})
    obs.index = list(table.specimens)
    path = tmp_path_factory.mktemp("stores") / "m.h5ad"
    anndata.AnnData(table.values, obs, pd.DataFrame(index=list(table.features))).write_h5ad(path)
    return path


@pytest.mark.parametrize("command", ASKED)
def test_the_document_is_that_of_the_run_in_memory(matrix, tmp_path, monkeypatch, capsys, command):
    """But for how it was read, which its notes and its own field say."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = []
    for way in ("--no-out-of-core", "--out-of-core"):
        words = [command, str(matrix), *ASKED[command], way, "--json"]
        words += ["-o", str(tmp_path / f"{way}.csv")] if command != "test" else []
        assert run(words) == 0, capsys.readouterr().err
        document = json.loads(capsys.readouterr().out)
        check_document(document, command)
        found.append(document)
    loaded, stored = (one["result"] for one in found)
    assert loaded["out_of_core"] is None
    how = stored.pop("out_of_core")
    assert how["reason"] == "asked"
    assert not how["resumed"]
    for one in (loaded, stored):
        one.pop("output", None)
    del loaded["out_of_core"]
    assert close(stored, loaded)
    codes = [one["code"] for one in found[1]["notes"]]
    assert codes == ["read_in_pieces", *(one["code"] for one in found[0]["notes"])]


def close(one, other):
    """Whether two documents agree to nine digits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-9, abs=1e-12)
    return one == other


def test_what_cannot_be_done_is_said(matrix, capsys):
    """Text is not read in pieces, nothing fits in five megabytes, and digits lie in memory."""
    for words, code, says in (
        (["test", "m.csv", "--out-of-core"], 2, "needs a MATRIX that can be read in pieces"),
        (["diagnose", str(matrix), "--batch", "month", "--memory", "5MB"], 3, "too little"),
        (["test", "--cluster", "local:2"], 2, "the built-in digits are small"),
        (["test", str(matrix), "--no-out-of-core", "--memory", "1GB"], 2, "contradict"),
    ):
        assert run(words) == code
        assert says in " ".join(capsys.readouterr().err.split())
