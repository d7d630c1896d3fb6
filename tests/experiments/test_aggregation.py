"""Replicates and cells made specimens: what is summed, averaged, left out and refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.errors import DataError
from batchsense.experiments import Table, aggregate


def cells(**columns: object) -> Table:
    """Twelve cells of four donors, counted in three genes."""
    counts = np.random.default_rng(0).poisson(60, size=(12, 3))
    sheet = {
        "donor": np.repeat([*"BADC"], 3),
        "lane": np.repeat([*"xyxy"], 3),
        "drug": np.repeat([*"nnyy"], 3),
        "phase": np.tile([*"GSM"], 4),
    }
    return Table.from_arrays(counts, {**sheet, **columns}, values_are="counts")


def test_counts_are_summed() -> None:
    """One specimen a donor, in the order of the rows; what varies within it is left out."""
    whole = cells()
    found = aggregate(whole, "donor", ["lane", "drug"])

    assert found.specimens == ("B", "A", "D", "C")
    assert np.array_equal(found.values, whole.values.reshape(4, 3, 3).sum(axis=1))
    assert found.sheet["drug"] == ("n", "n", "y", "y")
    assert "phase" not in found.sheet
    assert found.notes[-1].message == (
        "12 rows became 4 specimens, one for each donor (3 rows): counts were summed. Left out of "
        "the sheet, because they vary within donor: phase."
    )


def test_other_values_are_averaged_where_observed() -> None:
    """A gap takes no part; a feature that a specimen never showed stays missing."""
    values = np.array([[1.5, 1.0], [2.5, np.nan], [7.0, np.nan], [9.5, np.nan]])
    found = aggregate(Table.from_arrays(values, {"donor": [*"aabb"]}), "donor")

    assert np.array_equal(found.values, [[2.0, 1.0], [8.25, np.nan]], equal_nan=True)


def test_combinations() -> None:
    """Two columns make one specimen of each combination."""
    found = aggregate(cells(), ["donor", "drug"], ["drug"])

    assert found.specimens[0] == "B / n"
    assert len(found.specimens) == 4


def test_measured_numbers_say_which_rows_belong_together_beside_others_only() -> None:
    """Rows of one age are no specimen; those of one donor at one dose are."""
    table = cells(age=[40.5, 40.5, 41.5] * 4, dose=[0.5, 0.5, 1.0] * 4)
    with pytest.raises(DataError, match="'age' holds fractional numbers"):
        aggregate(table, "age")
    assert len(aggregate(table, ["donor", "dose"]).specimens) == 8


@pytest.mark.parametrize(
    ("by", "needed", "words"),
    [
        ("donor", ["phase"], "'phase' varies within donor 'B': 'G', 'S', 'M'"),
        ("doner", [], "did you mean 'donor'"),
        ("all", [], "all rows into one specimen"),
        ("row", [], "no two rows into one specimen"),
    ],
)
def test_refused(by: str, needed: list[str], words: str) -> None:
    """A needed column that varies is named with what to do, as is a column that makes no sense."""
    table = cells(all=["one"] * 12, row=[f"r{k}" for k in range(12)])
    with pytest.raises(DataError, match=words):
        aggregate(table, by, needed)


def test_whole_numbers_of_unknown_kind_are_asked_about() -> None:
    """Scores may be sums or means; nothing is guessed."""
    with pytest.raises(DataError, match="--values counts, or --values numbers"):
        aggregate(Table.from_arrays([[1], [2], [3], [4]], {"donor": [*"aabb"]}), "donor")


def test_from_the_command_line(tmp_path, capsys) -> None:
    """The contrast and the batch count as needed; many rows of one donor are called cells."""
    rng = np.random.default_rng(0)
    donors = np.repeat([f"D{k}" for k in range(8)], 25)
    ids = [f"c{k}" for k in range(200)]
    sheet = {"id": ids, "donor": donors, "lane": np.repeat([*"xyxyxyxy"], 25)}
    sheet |= {"drug": np.repeat([*"nnnnyyyy"], 25), "phase": np.tile([*"GSMGS"], 40)}
    pd.DataFrame(sheet).to_csv(tmp_path / "s.csv", index=False)
    values = rng.normal(size=(8, 20))[np.repeat(np.arange(8), 25)] + rng.normal(size=(200, 20))
    names = [f"g{k}" for k in range(20)]
    pd.DataFrame(values, index=ids, columns=names).to_csv(tmp_path / "m.csv")
    words = ["test", str(tmp_path / "m.csv"), str(tmp_path / "s.csv"), "--batch", "lane", "--json"]

    assert run([*words, "--contrast", "drug:y-n"]) == 0
    said = json.loads(capsys.readouterr().out)["notes"]
    assert any("a cell is no specimen, and --aggregate donor" in note["message"] for note in said)
    assert run([*words, "--contrast", "drug:y-n", "--aggregate", "donor"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["result"]["specimens"] == 8
    assert "dependent_rows" not in {note["code"] for note in found["notes"]}
    assert run([*words, "--contrast", "phase", "--aggregate", "donor"]) == 3
    assert "--aggregate donor --aggregate phase" in capsys.readouterr().err
