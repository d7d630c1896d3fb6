"""Specimens without a label that is needed: left out, listed, and compared with the others."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.errors import DataError
from batchsense.experiments import Table
from batchsense.experiments.sheets.incomplete import leave_out_incomplete


def draw(rng, out, apart):
    """A table of 60 specimens; those that lack a drug are ``apart`` in age, site and values."""
    n = 60
    lacking = np.zeros(n, dtype=bool)
    lacking[rng.choice(n, out, replace=False)] = True
    sheet = {
        "drug": np.where(lacking, None, rng.choice(["a", "b"], n)),
        "age": rng.normal(50, 8, n) + 3 * apart * 8 * lacking,
        "site": np.where(rng.random(n) < 0.5 + 0.5 * apart * lacking, "x", "y"),
    }
    values = rng.normal(size=(n, 30)) + 2 * apart * lacking[:, None]
    return Table.from_arrays(values, sheet), lacking


def test_p_values_keep_their_level():
    """Left out at random, a corrected p is below 0.05 in about 5 % of tables, and rarely apart."""
    seen = 0
    for seed in range(60):
        table, _ = draw(np.random.default_rng(900 + seed), out=8, apart=False)
        _, found = leave_out_incomplete(table, ["drug"], seed)
        assert len(found) == 5  # age, site and three components
        seen += any(one.holm <= 0.05 for one in found)
    assert seen <= 8  # 60 tables at 5 %: more than 8 in 0.5 % of series


def test_differences_are_named():
    """Specimens that differ are said to, with both groups and a p value; the table is complete."""
    table, lacking = draw(np.random.default_rng(1), out=10, apart=True)
    complete, found = leave_out_incomplete(table, ["drug", "site"])
    assert complete.specimens == tuple(np.array(table.specimens)[~lacking])
    np.testing.assert_array_equal(complete.values, table.values[~lacking])
    assert None not in complete.sheet["drug"]
    assert {one.name for one in found if one.holm <= 0.05} >= {"age", "site", "component 1"}
    (note,) = [one for one in complete.notes if one.code == "incomplete_left_out"]
    assert note.where == tuple(np.array(table.specimens)[lacking])
    assert "10 of 60 specimens were left out, without a label of drug" in note.message
    assert "They differ from the others in age (median " in note.message
    ages = np.array(table.sheet["age"], dtype=float)
    assert f"median {np.median(ages[lacking]):.3g} beside" in found[0].says


def test_what_cannot_be_told():
    """One of a few is too few to tell; nobody left is refused; complete labels change nothing."""
    sheet = {"drug": ["a", "b", None, "a", "b"], "age": [3.5, 4.0, 9.0, 2.0, 1.0]}
    table = Table.from_arrays(np.eye(5), sheet, [f"s{k}" for k in range(1, 6)])
    assert leave_out_incomplete(table, ["age"]) == (table, ())
    message = leave_out_incomplete(table, ["drug"])[0].notes[-1].message
    assert message.endswith("drug: s3. Too few to tell whether it differs.")
    nobody = Table.from_arrays(np.eye(2), {"drug": ["a", None], "lot": [None, "b"]})
    with pytest.raises(DataError, match="no specimen has a label in all of drug, lot"):
        leave_out_incomplete(nobody, ["drug", "lot"])


def test_what_is_lost_with_the_left_out_is_said():
    """A level that nobody else has, and a column of which one level is left."""
    sheet = {"drug": [*"abcabc"], "lot": [*"xxxyyy"], "age": [1.5, 2.5, None, 3.5, 4.5, None]}
    table = Table.from_arrays(np.random.default_rng(0).normal(size=(6, 3)), sheet)
    note = leave_out_incomplete(table, ["lot", "drug", "age"])[0].notes[-1].message
    assert "No other has drug c. " in note
    early = Table.from_arrays(table.values, {**sheet, "age": [1.5, 2.5, 3.5, None, None, None]})
    with pytest.raises(DataError, match=r"without the 3 of 6 .* of age, .* holds 'x' only"):
        leave_out_incomplete(early, ["lot", "age"])


def test_the_subjects_of_a_test_are_needed_labels(tmp_path, capsys, monkeypatch):
    """A row without a subject is left out too, where that was asked for."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(24)]
    sheet = pd.DataFrame({"lot": ["P", "Q"] * 12, "drug": [*"aabb"] * 6}, ids)
    sheet["subject"] = [None, *(f"P{k // 3}" for k in range(1, 24))]
    sheet.to_csv("s.csv")
    pd.DataFrame(rng.normal(size=(24, 20)), ids, [f"g{k}" for k in range(20)]).to_csv("m.csv")
    words = ["test", "m.csv", "s.csv", "--batch", "lot", "--contrast", "drug", "--block", "subject"]
    assert run(words) == 3
    assert "--drop-incomplete leaves them out" in capsys.readouterr().err
    assert run([*words, "--drop-incomplete"]) == 0
    assert "without a label of subject: s0" in capsys.readouterr().out.replace("\n  ", " ")


@pytest.mark.parametrize("command", ["diagnose", "test", "correct", "gap"])
def test_commands(command, tmp_path, capsys, monkeypatch):
    """Refused by default with the option named; with it, answered for the others and said."""
    monkeypatch.chdir(tmp_path)
    table, lacking = draw(np.random.default_rng(2), out=6, apart=False)
    frame = pd.DataFrame(table.values, index=table.specimens, columns=table.features)
    frame.to_csv("m.csv")
    sheet = {"id": table.specimens, **table.sheet, "lot": ["P", "Q", "R"] * 20}
    pd.DataFrame(sheet).to_csv("s.csv", index=False)
    asked = {
        "diagnose": ["--keep", "drug", "--no-placebo", "--permutations", "20"],
        "test": ["--contrast", "drug: a - b"],
        "correct": ["--keep", "drug", "-o", "o.csv"],
        "gap": ["--predict", "drug"],
    }[command]
    words = [command, "m.csv", "s.csv", "--batch", "lot", *asked]
    assert run(words) == 3
    assert "--drop-incomplete leaves them out" in capsys.readouterr().err
    assert run([*words, "--drop-incomplete", "--json"]) in (0, 1)
    said = json.loads(capsys.readouterr().out)
    notes = [*said["notes"], *((said["result"] or {}).get("notes") or [])]
    (note,) = [one for one in notes if one["code"] == "incomplete_left_out"]
    assert note["where"] == [table.specimens[i] for i in np.flatnonzero(lacking)]
    if command == "correct":
        assert list(pd.read_csv("o.csv", index_col=0).index) == list(frame.index[~lacking])
        store = ["correct", "m.h5ad", *words[3:-1], "o.h5ad"]
        assert run([*store, "--drop-incomplete"]) == 2
        assert "needs text or Parquet" in capsys.readouterr().err


def test_what_is_read_as_it_lies_is_not_offered_to_be_left_out(tmp_path, capsys):
    """--out-of-core would refuse the very option that a refusal named."""
    from anndata import AnnData

    table, _ = draw(np.random.default_rng(2), out=6, apart=False)
    sheet = {**table.sheet, "lot": ["P", "Q", "R"] * 20}
    AnnData(table.values, pd.DataFrame(sheet, table.specimens)).write_h5ad(tmp_path / "m.h5ad")
    words = ["test", str(tmp_path / "m.h5ad"), "--batch", "lot", "--contrast", "drug: a - b"]
    for more, offered in ([], True), (["--out-of-core"], False):
        assert run([*words, *more]) == 3
        said = capsys.readouterr().err
        assert "no label" in said
        assert ("--drop-incomplete" in said) == offered
