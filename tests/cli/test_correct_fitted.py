"""``batchsense correct --save-fitted`` and ``--fitted``: learned once, applied later."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.experiments import CombatCorrection, LinearCorrection, Table, plant
from published import check_document

METHODS = ["linear", "combat"]


def write(table: Table, folder, name: str) -> list[str]:
    """Write a table as two files, and give their paths."""
    matrix, sheet = folder / f"{name}.csv", folder / f"{name}-sheet.csv"
    pd.DataFrame(table.values, index=table.specimens, columns=table.features).to_csv(matrix)
    pd.DataFrame(table.sheet, index=table.specimens).to_csv(sheet, index_label="specimen")
    return [str(matrix), str(sheet)]


def read(path) -> pd.DataFrame:
    """Read a corrected matrix."""
    return pd.read_csv(path, index_col=0, float_precision="round_trip")


def part(table: Table, chosen) -> Table:
    """Take some specimens."""
    places = np.flatnonzero(chosen)
    sheet = {name: tuple(column[i] for i in places) for name, column in table.sheet.items()}
    return Table.from_arrays(
        table.values[places], sheet, [table.specimens[i] for i in places], table.features
    )


@pytest.fixture
def table() -> Table:
    """Three months of which the last comes later."""
    return plant(specimens=30, features=8, months=3, treated_share=0.6, seed=4).table


@pytest.fixture
def months(table):
    """The months as an array."""
    return np.array(table.sheet["month"])


@pytest.mark.parametrize("method", METHODS)
def test_the_fitted_table_again(table, tmp_path, method) -> None:
    """The same specimens get the same bytes, without being fitted again."""
    files = write(table, tmp_path, "m")
    first, again, fitted = (str(tmp_path / name) for name in ("1.csv", "2.csv", "f.npz"))
    words = ["--batch", "month", "--keep", "drug", "--method", method, "--save-fitted", fitted]

    assert run(["correct", *files, *words, "-o", first]) == 0
    assert run(["correct", *files, "--fitted", fitted, "-o", again]) == 0
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_new_batch_is_refused_or_estimated(table, months, tmp_path, capsys, method) -> None:
    """As asked; the estimate equals that of the library, and the answer says so."""
    old, new = part(table, months != "m2"), part(table, months == "m2")
    fitted, output = str(tmp_path / "f.npz"), str(tmp_path / "new-c.csv")
    words = ["--batch", "month", "--keep", "drug", "--method", method, "--save-fitted", fitted]
    first = ["correct", *write(old, tmp_path, "old"), *words, "-o", str(tmp_path / "o.csv")]
    assert run(first) == 0
    later = ["correct", *write(new, tmp_path, "new"), "--fitted", fitted, "-o", output]
    capsys.readouterr()

    assert run(later) == 3
    assert "m2; known are m0, m1" in capsys.readouterr().err
    assert not (tmp_path / "new-c.csv").exists()
    report = str(tmp_path / "r.html")
    assert run([*later, "--new-batches", "--json", "--report", report]) == 0
    found = json.loads(capsys.readouterr().out)
    check_document(found, "correct")
    assert found["result"]["reused"] == {"file": fitted, "specimens": 20, "new_batches": ["m2"]}
    assert [file["path"] for file in found["inputs"]][-1] == fitted
    assert f"--fitted {fitted} --new-batches" in (tmp_path / "r.html").read_text()
    correction = CombatCorrection if method == "combat" else LinearCorrection
    expected = correction(keep=("drug",)).fit(old, "month").extend(new).transform(new)
    assert np.abs(read(output).to_numpy() - expected.values).max() < 1e-12


def test_counts_take_no_new_batch(tmp_path, capsys) -> None:
    """Other specimens of the fitted batches they take; a new batch is refused by name."""
    rng = np.random.default_rng(3)
    months = np.repeat(["May", "July", "August"], 6)
    table = Table.from_arrays(rng.poisson(30, size=(18, 12)), {"month": list(months)})
    old, new = part(table, months != "August"), part(table, months == "August")
    fitted = str(tmp_path / "f.npz")
    words = ["--batch", "month", "--method", "combat-seq", "--save-fitted", fitted]
    first = ["correct", *write(old, tmp_path, "old"), *words, "-o", str(tmp_path / "o.csv")]
    assert run(first) == 0
    again = ["correct", *write(old, tmp_path, "again"), "--fitted", fitted]
    assert run([*again, "-o", str(tmp_path / "a.csv")]) == 0
    assert read(tmp_path / "a.csv").equals(read(tmp_path / "o.csv"))
    later = ["correct", *write(new, tmp_path, "new"), "--fitted", fitted, "--new-batches"]

    assert run([*later, "-o", str(tmp_path / "n.csv")]) == 3
    assert "combat-seq has no way to add batches" in capsys.readouterr().err


def test_provenance_names_the_file(table, tmp_path) -> None:
    """An AnnData result says by which fit it was corrected, not a method that was not chosen."""
    anndata = pytest.importorskip("anndata")
    files = write(table, tmp_path, "m")
    fitted, store = str(tmp_path / "f.npz"), tmp_path / "m.h5ad"
    words = ["--batch", "month", "--method", "combat", "--save-fitted", fitted]
    assert run(["correct", *files, *words, "-o", str(tmp_path / "c.csv")]) == 0
    cells = anndata.AnnData(table.values, obs=pd.DataFrame(table.sheet, index=table.specimens))
    cells.var_names = list(table.features)
    cells.write_h5ad(store)

    assert run(["correct", str(store), "--fitted", fitted, "-o", str(tmp_path / "c.h5ad")]) == 0
    done = anndata.read_h5ad(tmp_path / "c.h5ad").uns["batchsense"]
    assert done["method"] == "combat"
    assert list(done["options"]) == [f"fitted={fitted}"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fitted", "{f}", "--batch", "month"], "--batch and --fitted contradict"),
        (["--fitted", "{f}", "--method", "linear"], "--method and --fitted contradict"),
        (["--batch", "a", "--batch", "b", "--despite-confounding"], "takes one --batch"),
        (["--batch", "month", "--new-batches"], "--new-batches belongs to --fitted"),
        (["--batch", "month", "--save-fitted", "f.txt"], "name it FILE.npz"),
        (["--batch", "month", "--save-fitted", "{o}"], "give each a name of its own"),
        (["--batch", "month", "--save-fitted", "{f}", "--memory", "1GB"], "works in memory"),
        (["--fitted", "{f}", "--out-of-core"], "works in memory"),
    ],
)
def test_contradictions_are_usage_errors(table, tmp_path, capsys, words, says) -> None:
    """Named before anything is read."""
    files = write(table, tmp_path, "m")
    paths = {"{f}": str(tmp_path / "f.npz"), "{o}": str(tmp_path / "o.npz")}
    given = [paths.get(word, word) for word in words]

    assert run(["correct", *files, *given, "-o", str(tmp_path / "o.npz")]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_no_correction(table, tmp_path, capsys) -> None:
    """Is bad data, named."""
    files = write(table, tmp_path, "m")

    assert run(["correct", *files, "--fitted", files[0], "-o", str(tmp_path / "c.csv")]) == 3
    assert "not a correction that batchsense saved" in capsys.readouterr().err
