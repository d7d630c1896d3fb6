"""``batchsense correct``: the written matrix, the account of it, and the refusal."""

from __future__ import annotations

import csv
import json
import warnings

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.datasets import digit_forms, load_digits
from batchsense.experiments import CombatCorrection, plant, scene_table
from published import check_document


@pytest.fixture
def planted():
    """A small experiment with a known truth."""
    return plant(specimens=18, features=5, months=3, treated_share=0.67, seed=1)


@pytest.fixture
def files(planted, tmp_path):
    """Write it as features × specimens, compressed, with a shuffled sheet."""
    table = planted.table
    frame = pd.DataFrame(table.values, index=table.specimens, columns=table.features)
    frame.T.to_csv(tmp_path / "m.tsv.gz", sep="\t")
    save_sheet(table, tmp_path / "s.csv")
    return [str(tmp_path / "m.tsv.gz"), str(tmp_path / "s.csv")]


def save_sheet(table, path):
    """Write a sheet with its rows reversed."""
    rows = [{"specimen": s} for s in table.specimens]
    for name, column in table.sheet.items():
        for row, label in zip(rows, column, strict=True):
            row[name] = label
    with path.open("w", newline="") as stream:
        lines = csv.DictWriter(stream, list(rows[0]))
        lines.writeheader()
        lines.writerows(reversed(rows))


def twin(planted):
    """Correct by one dense least-squares fit."""
    table = planted.table
    month = np.array(table.sheet["month"])
    batches = (month[:, None] == np.unique(month)).astype(float)
    drug = (np.array(table.sheet["drug"]) == "yes").astype(float)
    design = np.column_stack([drug, batches])
    effects = np.linalg.lstsq(design, table.values, rcond=None)[0][1:]
    return table.values - batches @ (effects - effects.mean(axis=0))


def document(capsys):
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "correct")
    return parsed


def test_writes_the_layout_of_the_input(files, planted, tmp_path, capsys):
    """The output has the ids, order and orientation of the input, and the values of a twin."""
    output = tmp_path / "o.tsv.gz"
    words = ["correct", *files, "--batch", "month", "--keep", "drug", "-o", str(output)]

    assert run(words) == 0
    written = pd.read_csv(output, sep="\t", index_col=0, float_precision="round_trip")
    original = pd.read_csv(files[0], sep="\t", index_col=0)
    assert list(written.index) == list(original.index)
    assert list(written.columns) == list(original.columns)
    assert np.abs(written.to_numpy().T - twin(planted)).max() < 1e-10
    page = capsys.readouterr().out
    assert "features × specimens" in page
    assert "A later test must keep month in its model" in page


def test_document(files, tmp_path, capsys):
    """The document validates: method, output, kept with its numbers, notes by code."""
    output = str(tmp_path / "o.csv")
    words = ["correct", *files, "--batch", "month", "--keep", "drug", "-o", output, "--json"]

    assert run([*words, "-vv"]) == 0
    result = document(capsys)["result"]
    assert (result["method"], result["output"]) == ("linear", output)
    assert [entry["name"] for entry in result["kept"]] == ["drug"]
    assert [note["code"] for note in result["notes"]] == ["additive_only", "later_tests"]
    assert 0 < result["removed_share"] < 1
    assert result["rank_lost"] == 2


def test_nothing_kept_is_warned_about(files, tmp_path, capsys):
    """Without --keep the notes say what centring takes away."""
    words = ["correct", *files, "--batch", "month", "-o", str(tmp_path / "o.csv"), "--json"]

    assert run(words) == 0
    notes = document(capsys)["result"]["notes"]
    assert [note["code"] for note in notes] == ["nothing_kept", "attenuation"]
    assert notes[1]["where"] == ["drug"]


def test_refusal_writes_nothing(tmp_path, capsys):
    """Total confounding: exit code 1, the relation named, no file; with --json a refusal."""
    table = scene_table(digit_forms("total"))
    pd.DataFrame(table.values, index=table.specimens, columns=table.features).to_csv(
        tmp_path / "m.csv"
    )
    save_sheet(table, tmp_path / "s.csv")
    words = ["correct", str(tmp_path / "m.csv"), str(tmp_path / "s.csv"), "--batch", "form"]
    words += ["--keep", "digit", "-o", str(tmp_path / "o.csv")]

    assert run(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "digit cannot be told from form: digit[8] = form[" in said.err

    assert run([*words, "--json"]) == 1
    found = document(capsys)
    assert found["result"] is None
    assert found["refusal"]["kind"] == "confounded"
    assert found["refusal"]["aliased"][0].startswith("digit[8] = form[")
    assert len(found["inputs"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "s.csv"]


def test_digits_by_default(tmp_path, capsys):
    """Without MATRIX the digits are corrected for form, digit kept; -o is still needed."""
    assert run(["correct"]) == 2
    assert "--output" in capsys.readouterr().err

    assert run(["correct", "-o", str(tmp_path / "o.parquet")]) == 0
    written = pd.read_parquet(tmp_path / "o.parquet").set_index("id")
    digits = load_digits()
    assert written.shape == (1797, 64)
    assert np.abs(written.to_numpy().mean(axis=0) - digits.observations.mean(axis=0)).max() < 0.1


def test_matrix_to_stdout(files, planted, capsys):
    """With -o - stdout is the matrix, delimited as the input, and the account goes to stderr."""
    words = ["correct", *files, "--batch", "month", "--keep", "drug", "-o", "-"]

    assert run(words) == 0
    said = capsys.readouterr()
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert [line[0] for line in lines[1:]] == list(planted.table.features)
    assert np.abs(
        np.array([line[1:] for line in lines[1:]], dtype=float).T - twin(planted)
    ).max() < (1e-10)
    assert "Kept: drug" in said.err


def test_annotated_data(planted, tmp_path, capsys):
    """An .h5ad gets a layer beside an untouched X, and says in uns what was done."""
    anndata = pytest.importorskip("anndata")
    table = planted.table
    obs = pd.DataFrame({k: list(v) for k, v in table.sheet.items()}, index=list(table.specimens))
    data = anndata.AnnData(table.values, obs=obs, var=pd.DataFrame(index=list(table.features)))
    data.write_h5ad(tmp_path / "a.h5ad")
    words = ["correct", str(tmp_path / "a.h5ad"), "--batch", "month", "--keep", "drug"]

    assert run([*words, "-o", str(tmp_path / "o.h5ad")]) == 0
    out = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert np.array_equal(table.values, out.X)
    assert np.abs(out.layers["batchsense"] - twin(planted)).max() < 1e-10
    said = out.uns["batchsense"]
    assert (said["method"], said["batch"], list(said["keep"])) == ("linear", "month", ["drug"])
    assert len(said["notes"]) == 2


@pytest.mark.parametrize(
    ("output", "more", "code", "says"),
    [
        ("exists.csv", [], 2, "exists"),
        ("none/o.csv", [], 2, "not a folder"),
        ("m.tsv.gz", ["--force"], 2, "is an input"),
        ("o.h5ad", [], 3, "needs an .h5ad input"),
        ("o.doc", [], 3, "unknown kind of file"),
        ("-", ["--json"], 2, "choose one"),
        ("o.csv", ["--method", "magic"], 2, "magic"),
        ("o.csv", ["--mean-only"], 2, "--mean-only belongs to --method combat"),
        ("o.csv", ["--method", "combat-seq", "--reference", "m0"], 2, "--reference belongs"),
        ("o.csv", ["--method", "combat", "--reference", "mm"], 3, "no batch 'mm'"),
    ],
)
def test_wrong_outputs(files, tmp_path, capsys, output, more, code, says):
    """An unsuitable output is refused before any work, and nothing is written."""
    (tmp_path / "exists.csv").write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    target = output if output == "-" else str(tmp_path / output)
    words = ["correct", *files, "--batch", "month", "--keep", "drug", "-o", target, *more]

    assert run(words) == code
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert before == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "exists.csv").read_text() == "mine"


def test_force_replaces(files, tmp_path):
    """--force replaces an existing output."""
    (tmp_path / "o.csv").write_text("old")
    words = ["correct", *files, "--batch", "month", "-o", str(tmp_path / "o.csv"), "--force"]

    assert run(words) == 0
    assert (tmp_path / "o.csv").read_text().startswith(",specimen 1,specimen 2")


def test_report(files, tmp_path, capsys):
    """--report writes one page beside the matrix."""
    words = ["correct", *files, "--batch", "month", "--keep", "drug"]
    words += ["-o", str(tmp_path / "o.csv"), "--report", str(tmp_path / "r.html"), "--json"]

    assert run(words) == 0
    assert document(capsys)["inputs"][0]["sha256"] in (tmp_path / "r.html").read_text()


def test_stores_folders_and_workbooks(planted, tmp_path, capsys):
    """A .zarr, a folder with a matrix.mtx and an .xlsx sheet are read; results have their form."""
    anndata = pytest.importorskip("anndata")
    from scipy.io import mmwrite
    from scipy.sparse import coo_array

    table = planted.table
    sheet = pd.DataFrame({"id": list(table.specimens), "month": list(table.sheet["month"])})
    with pd.ExcelWriter(tmp_path / "s.xlsx") as book:
        sheet.to_excel(book, sheet_name="Notes", index=False)
        sheet.to_excel(book, sheet_name="Sheet 2", index=False)
    data = anndata.AnnData(table.values, pd.DataFrame(index=list(table.specimens)))
    data.var_names = list(table.features)
    with anndata.settings.override(zarr_write_format=3), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_zarr(tmp_path / "m.zarr")
    (tmp_path / "m").mkdir()
    mmwrite(tmp_path / "m" / "matrix.mtx", coo_array(table.values.T))
    for name, ids in (("barcodes", table.specimens), ("features", table.features)):
        (tmp_path / "m" / f"{name}.tsv").write_text("\n".join(ids) + "\n")

    named = f"{tmp_path / 's.xlsx'}#Sheet 2"
    for name in ("m.zarr", "m"):
        words = ["correct", str(tmp_path / name), named, "--batch", "month"]
        assert run([*words, "-o", str(tmp_path / f"o{name}"), "--json"]) == 0
        found = document(capsys)
        assert found["inputs"][1]["path"] == named
        assert len(found["inputs"][1]["sha256"]) == 64
    layer = anndata.read_zarr(tmp_path / "om.zarr").layers["batchsense"]
    from batchsense.experiments import read

    folder = read(tmp_path / "om", named)
    assert np.array_equal(layer, folder.values)
    assert json.loads((tmp_path / "om" / "batchsense.json").read_text())["method"] == "linear"


@pytest.mark.parametrize("command", ["correct", "diagnose"])
def test_densify(planted, tmp_path, capsys, monkeypatch, command):
    """A sparse matrix beyond the limit needs --densify; the message states GB and says so."""
    anndata = pytest.importorskip("anndata")
    from scipy.sparse import csr_matrix

    obs = pd.DataFrame({"month": list(planted.table.sheet["month"])})
    obs.index = list(planted.table.specimens)
    anndata.AnnData(csr_matrix(planted.table.values), obs).write_h5ad(tmp_path / "m.h5ad")
    monkeypatch.setattr("batchsense.experiments.tables.matrix.DENSE_LIMIT_GB", 1e-9)
    words = [command, str(tmp_path / "m.h5ad"), "--batch", "month"]
    words += ["-o", str(tmp_path / "o.h5ad")] if command == "correct" else []

    assert run(words) == 3
    assert "GB" in (said := capsys.readouterr().err)
    assert "--densify" in said
    assert run([*words, "--densify"]) == 0


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ([], {}),
        (["--mean-only"], {"mean_only": True}),
        (["--non-parametric", "--reference", "m1"], {"parametric": False, "reference_batch": "m1"}),
    ],
)
def test_combat(files, planted, tmp_path, capsys, more, options):
    """--method combat and its options give what CombatCorrection gives, and say what they saw."""
    output = tmp_path / "o.tsv.gz"
    words = ["correct", *files, "--batch", "month", "--keep", "drug", "--method", "combat", *more]

    assert run([*words, "-o", str(output), "--report", str(tmp_path / "r.html"), "--json"]) == 0
    written = pd.read_csv(output, sep="\t", index_col=0, float_precision="round_trip")
    table = planted.table
    expected = CombatCorrection(keep=("drug",), **options).fit(table, "month").transform(table)
    assert np.abs(written.to_numpy().T - expected.values).max() < 1e-12
    result = document(capsys)["result"]
    assert result["method"] == "combat"
    assert [one["level"] for one in result["learned"]] == ["m0", "m1", "m2"]
    assert sum(one["specimens"] for one in result["learned"]) == 18
    page = (tmp_path / "r.html").read_text()
    assert "What was learned of each batch" in page
    assert all(word in page for word in ["--method combat", *more])


@pytest.mark.parametrize("method", ["linear", "combat"])
def test_insisting(planted, tmp_path, capsys, method):
    """Despite confounding it corrects if told to, and does not call lost what is lost kept."""
    table = planted.table
    pd.DataFrame(table.values, index=table.specimens, columns=table.features).to_csv(
        tmp_path / "m.csv"
    )
    batch = ["late" if drug == "yes" else "early" for drug in table.sheet["drug"]]
    sheet = pd.DataFrame({"id": table.specimens, "run": batch, "drug": table.sheet["drug"]})
    sheet.to_csv(tmp_path / "s.csv", index=False)
    words = ["correct", str(tmp_path / "m.csv"), str(tmp_path / "s.csv"), "--batch", "run"]
    words += ["--keep", "drug", "-o", str(tmp_path / "o.csv"), "--method", method]

    assert run(words) == 1
    capsys.readouterr()
    words += ["--despite-confounding", "--report", str(tmp_path / "r.html")]
    assert run(words) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "Kept: nothing. Lost, at least in part: drug." in page
    assert "1 of 1 independent differences of drug" in page
    assert "--despite-confounding" in (tmp_path / "r.html").read_text()
    assert "Lost, at least in part: drug" in (tmp_path / "r.html").read_text()


@pytest.fixture
def counted(tmp_path):
    """Write counts with few means, as text and as a layer of an .h5ad whose X is on a log scale."""
    anndata = pytest.importorskip("anndata")
    rng = np.random.default_rng(4)
    month = np.repeat(["May", "July"], 6)
    shift = np.where(month == "July", 2.0, 1.0)[:, None] ** np.where(np.arange(80) % 2, 1, -1)
    counts = rng.negative_binomial(6, 6 / (6 + 50 * shift))
    frame = pd.DataFrame(counts, [f"s{i}" for i in range(12)], [f"g{j}" for j in range(80)])
    frame.to_csv(tmp_path / "m.csv")
    sheet = pd.DataFrame({"id": frame.index, "month": month, "drug": [*"nnynyy"] * 2})
    sheet.to_csv(tmp_path / "s.csv", index=False)
    data = anndata.AnnData(np.log2(counts + 1.0), sheet.set_index("id"))
    data.var_names = frame.columns
    data.layers["counts"] = counts
    data.write_h5ad(tmp_path / "m.h5ad")
    return frame


def test_counts(counted, tmp_path, capsys):
    """ComBat-seq writes whole numbers, without the remark on counts; JSON and report say so."""
    words = ["correct", str(tmp_path / "m.csv"), str(tmp_path / "s.csv"), "--batch", "month"]
    words += ["--keep", "drug", "--method", "combat-seq", "-o", str(tmp_path / "o.csv")]
    assert run([*words, "--report", str(tmp_path / "r.html"), "--json"]) == 0
    found = document(capsys)
    written = pd.read_csv(tmp_path / "o.csv", index_col=0)

    assert set(written.dtypes.astype(str)) == {"int64"}
    assert ((written == 0) == (counted == 0)).all(axis=None)
    assert found["notes"] == []
    assert found["result"]["method"] == "combat-seq"
    assert 0.3 < found["result"]["removed_share"] < 1
    assert "log counts per million" in (tmp_path / "r.html").read_text()
    assert "--method combat-seq" in (tmp_path / "r.html").read_text()

    assert run([*words, "--force"]) == 0
    assert "of the total sum of squares of log counts per million" in capsys.readouterr().out


def test_counts_in_a_layer(counted, tmp_path, capsys):
    """--layer reads the counts; the corrected ones have their type, and X stays."""
    import anndata

    words = ["correct", str(tmp_path / "m.h5ad"), "--batch", "month", "--method", "combat-seq"]
    assert run([*words, "--layer", "counts", "-o", str(tmp_path / "o.h5ad")]) == 0
    out = anndata.read_h5ad(tmp_path / "o.h5ad")

    assert np.array_equal(out.X, np.log2(counted + 1.0))
    assert out.layers["batchsense"].dtype == np.int64
    assert out.uns["batchsense"]["layer"] == "counts"
    assert run([*words, "-o", str(tmp_path / "never.h5ad")]) == 3
    assert "s0 / g0 is" in capsys.readouterr().err
    assert not (tmp_path / "never.h5ad").exists()


def test_combat_on_single_precision_data(planted, tmp_path):
    """An .h5ad of float32 gets a float32 layer, as near as that type allows, and its options."""
    anndata = pytest.importorskip("anndata")
    table = planted.table
    obs = pd.DataFrame({k: list(v) for k, v in table.sheet.items()}, index=list(table.specimens))
    data = anndata.AnnData(
        table.values.astype(np.float32), obs=obs, var=pd.DataFrame(index=list(table.features))
    )
    data.write_h5ad(tmp_path / "a.h5ad")
    words = ["correct", str(tmp_path / "a.h5ad"), "--batch", "month", "--keep", "drug"]
    words += ["--method", "combat", "--reference", "m1", "-o", str(tmp_path / "o.h5ad")]

    assert run(words) == 0
    out = anndata.read_h5ad(tmp_path / "o.h5ad")
    method = CombatCorrection(keep=("drug",), reference_batch="m1")
    expected = method.fit(table, "month").transform(table).values
    assert out.layers["batchsense"].dtype == np.float32
    assert np.abs(out.layers["batchsense"] - expected).max() < 1e-5
    assert list(out.uns["batchsense"]["options"]) == ["method=combat", "reference=m1"]
