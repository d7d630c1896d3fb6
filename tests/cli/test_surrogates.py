"""``batchsense surrogates``: the written sheet and the account of it."""

from __future__ import annotations

import csv
import json

import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.experiments import PlantedEffects, plant
from published import check_document


@pytest.fixture
def files(tmp_path):
    """Features × specimens with a sheet in another order."""
    table = plant(24, 300, 2, treated_share=0.7, effects=PlantedEffects(drug_share=0.1)).table
    frame = pd.DataFrame(table.values, index=table.specimens, columns=table.features)
    frame.T.to_csv(tmp_path / "m.csv")
    sheet = pd.DataFrame({"specimen": table.specimens, **table.sheet})
    sheet[::-1].to_csv(tmp_path / "s.csv", index=False)
    return [str(tmp_path / "m.csv"), str(tmp_path / "s.csv")]


def document(capsys):
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "surrogates")
    return parsed


def test_writes_the_sheet_with_surrogates(files, tmp_path, capsys):
    """The new columns belong to the right specimens, and diagnose accepts them as kept."""
    output = tmp_path / "sv.csv"
    words = ["surrogates", *files, "--keep", "drug", "-o", str(output)]

    assert run([*words, "--report", str(tmp_path / "r.html")]) == 0
    page = capsys.readouterr().out
    assert "1 direction of the residual variation exceeds what 50 permutations show" in page
    assert "month (0.9" in page or "month (1.00)" in page
    rows = list(csv.DictReader(output.read_text().splitlines()))
    signs = {(float(row["sv1"]) > 0, row["month"]) for row in rows}
    assert len(signs) == 2
    assert (tmp_path / "r.html").read_text().count("<svg") == 1
    again = ["diagnose", files[0], str(output), "--batch", "month", "--keep", "drug"]
    # The surrogate is the month: kept beside it, it cannot be told from it or nearly so.
    assert run([*again, "--keep", "sv1", "--permutations", "20"]) in (0, 1)


def test_document(files, tmp_path, capsys):
    """The document validates and agrees with the written file."""
    output = tmp_path / "sv.tsv"
    words = ["surrogates", *files, "--keep", "drug", "-o", str(output), "--count", "2", "--json"]

    assert run([*words, "--method", "two-step"]) == 0
    result = document(capsys)["result"]
    rows = list(csv.DictReader(output.read_text().splitlines(), delimiter="\t"))
    assert [float(row["sv1"]) for row in rows] == result["surrogates"][0]["values"]
    assert [row["specimen"] for row in rows] == result["specimens"]
    assert result["method"] == "two-step"


def test_nothing_found_writes_the_sheet_as_it_is(files, tmp_path, capsys):
    """With the month known no column is added."""
    output = tmp_path / "sv.csv"
    words = ["surrogates", *files, "--keep", "drug", "--known", "month", "-o", str(output)]

    assert run(words) == 0
    assert "No direction" in capsys.readouterr().out
    assert output.read_text().splitlines()[0] == "specimen,month,drug"


def test_stdout_and_wrong_words(files, tmp_path, capsys):
    """The sheet goes to stdout with -o -; inputs are not overwritten."""
    assert run(["surrogates", *files, "--keep", "drug", "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("specimen,month,drug,sv1\n")
    assert run(["surrogates", *files, "--keep", "drug", "-o", files[1], "--force"]) == 2
    assert run(["surrogates", *files, "--keep", "dose", "-o", str(tmp_path / "o.csv")]) == 3
