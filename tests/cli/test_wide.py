"""One wide table, sheet columns beside features: every command that takes MATRIX SHEET reads it."""

import json

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.experiments import read

SHEET = ("month", "drug", "age")
COLUMNS = [word for name in SHEET for word in ("--sheet-columns", name)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same experiment as a wide table in every kind of file, and in two files."""
    place = tmp_path_factory.mktemp("wide")
    generator = np.random.default_rng(0)
    ids = pd.Index([f"s{row}" for row in range(24)], name="id")
    sheet = pd.DataFrame(
        {
            "month": [*"MJA"] * 8,
            "drug": ["no"] * 12 + ["yes"] * 12,
            "age": pd.array(generator.integers(20, 80, 24), "Int64"),
        },
        index=ids,
    )
    sheet.loc["s3", "age"] = None
    matrix = pd.DataFrame(generator.normal(size=(24, 120)), index=ids).add_prefix("gene ")
    matrix.iloc[2, 5] = None
    wide = pd.concat([matrix.iloc[:, :7], sheet, matrix.iloc[:, 7:]], axis=1)
    matrix.to_csv(place / "m.csv")
    sheet.to_csv(place / "s.csv")
    wide.to_csv(place / "w.csv")
    wide.to_csv(place / "w.tsv.gz", sep="\t")
    wide.to_parquet(place / "w.parquet")
    wide.reset_index().to_excel(place / "w.xlsx", index=False)
    return place


@pytest.mark.parametrize("name", ["w.csv", "w.tsv.gz", "w.parquet", "w.xlsx"])
def test_wide_table_is_its_two_parts(folder, name):
    """Values, ids, features and sheet are those of a matrix with a sheet."""
    apart = read(folder / "m.csv", folder / "s.csv")

    wide = read(folder / name, sheet_columns=SHEET)

    # Workbooks hold 16 digits.
    assert np.allclose(apart.values, wide.values, rtol=1e-14, atol=0.0, equal_nan=True)
    assert (apart.specimens, apart.features) == (wide.specimens, wide.features)
    assert dict(wide.sheet) == {name: tuple(apart.sheet[name]) for name in ("id", *SHEET)}
    assert "wide_table" in [note.code for note in wide.notes]


@pytest.mark.parametrize(
    "words",
    [
        ["diagnose", "--batch", "month", "--keep", "drug", "--no-placebo", "--permutations", "20"],
        ["test", "--batch", "month", "--contrast", "drug"],
        ["gap", "--batch", "month", "--predict", "drug", "--repeats", "1"],
        ["surrogates", "--keep", "drug", "-o", "sv.csv", "--permutations", "20", "--force"],
        ["correct", "--batch", "month", "-o", "c.csv", "--force"],
    ],
    ids=lambda words: words[0],
)
def test_commands_answer_as_for_two_files(folder, words, capsys, monkeypatch):
    """The numbers are the same, and the words of the run name the columns."""
    monkeypatch.chdir(folder)
    results = []
    for files in (["m.csv", "s.csv"], ["w.csv", *COLUMNS]):
        run([words[0], *files, *words[1:], "--json"])
        results.append(json.loads(capsys.readouterr().out))

    assert results[0]["result"] == results[1]["result"]
    assert list(SHEET) == results[1]["asked"]["sheet_columns"]


@pytest.mark.parametrize("name", ["w.csv", "w.tsv.gz", "w.parquet"])
def test_correction_of_a_wide_table_is_one(folder, name, tmp_path):
    """The result has the columns of the sheet, and is read with the same words."""
    corrected = tmp_path / name
    words = ["correct", str(folder / name), *COLUMNS, "--batch", "month", "-o", str(corrected)]
    assert run(words) == 0

    before, after = (read(one, sheet_columns=SHEET) for one in (folder / name, corrected))

    assert (before.sheet, before.features) == (after.sheet, after.features)
    assert run(["test", str(corrected), *COLUMNS, "--batch", "month", "--contrast", "drug"]) == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["w.csv"], 3, "--sheet-columns"),
        (["w.csv", "s.csv"], 3, "--sheet-columns"),
        (["w.csv", "w.csv"], 3, "one file is given as matrix and as sheet"),
        (["m.csv"], 3, "--sheet-columns"),
        (["w.csv", "s.csv", *COLUMNS], 2, "MATRIX without SHEET"),
        (COLUMNS, 2, "MATRIX without SHEET"),
        (["w.csv", "--sheet-columns", "mnth"], 3, "did you mean 'month'?"),
        (["w.csv", *COLUMNS[:2]], 3, "column 'drug' holds 'no', which is not a number"),
        (["w.csv", *COLUMNS, "--id", "drug"], 3, "must name every specimen once"),
        (["s.csv", *COLUMNS], 3, "has no features beside it"),
    ],
)
def test_what_is_no_wide_table_is_refused(folder, words, code, said, capsys, monkeypatch):
    """The refusal says which option is meant."""
    monkeypatch.chdir(folder)
    assert code == run(["diagnose", *words, "--batch", "month"])
    assert said in capsys.readouterr().err.replace("\n", " ")
