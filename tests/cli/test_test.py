"""``batchsense test``: the answer, the table, the refusal, and corrected files that are noticed."""

from __future__ import annotations

import csv
import gzip
import json
import warnings

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.experiments import CombatCorrection, Table, correct, plant, read, testing, write
from published import check_document


@pytest.fixture
def planted():
    """A small experiment with a known truth."""
    return plant(specimens=24, features=40, months=3, treated_share=0.75, seed=1)


def save(table, folder, values=None, stem="m"):
    """Write a matrix (specimens × features) and its sheet."""
    frame = pd.DataFrame(
        table.values if values is None else values, index=table.specimens, columns=table.features
    )
    frame.to_csv(folder / f"{stem}.csv")
    pd.DataFrame({"id": table.specimens, **table.sheet}).to_csv(folder / "s.csv", index=False)
    return [str(folder / f"{stem}.csv"), str(folder / "s.csv")]


@pytest.fixture
def files(planted, tmp_path):
    return save(planted.table, tmp_path)


def document(capsys):
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "test")
    return parsed


def codes(parsed):
    return [note["code"] for note in parsed["notes"]]


def test_document(files, planted, capsys):
    """The document validates and holds the numbers of the Python function."""
    assert run(["test", *files, "--batch", "month", "--contrast", "drug", "--json"]) == 0
    result = document(capsys)["result"]
    found = testing.test(planted.table, "drug", "month")
    first = result["effects"][0]
    place = found.features.index(first["top"][0]["feature"])

    assert (first["contrast"], first["upper"], first["lower"]) == ("drug: yes - no", "yes", "no")
    assert first["tested"] == 40
    assert first["called"] == int((found.effects[0].q_value <= 0.05).sum()) > 5
    assert first["top"][0]["p_value"] == found.effects[0].p_value.min()
    assert first["top"][0]["t"] == pytest.approx(found.effects[0].t[place], rel=1e-9)
    assert first["vif"] == pytest.approx(found.effects[0].vif)
    assert result["prior_df"] == pytest.approx(found.prior_df[0]) or np.isinf(found.prior_df[0])
    assert result["values"] == "original"


def test_page(files, capsys):
    """The page names the model and the contrast, with intervals, and says where the rest is."""
    words = ["test", *files, "--batch", "month", "--contrast", "drug", "--ordinary", "-vv"]

    assert run(words) == 0
    page = capsys.readouterr().out
    assert "Model: drug, month. Ordinary t and F" in page
    assert "drug: yes - no · " in page
    assert "95 % interval" in page


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt.gz"])
def test_table_of_all_features(files, planted, tmp_path, name):
    """-o writes every feature in full precision, compressed where the name says so."""
    target = tmp_path / name
    words = ["test", *files, "--batch", "month", "--contrast", "drug", "-o", str(target)]

    assert run(words) == 0
    content = target.read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode()
    rows = list(csv.DictReader(text.splitlines(), delimiter="," if "csv" in name else "\t"))
    effect = testing.test(planted.table, "drug", "month").effects[0]
    assert [row["feature"] for row in rows] == list(planted.table.features)
    assert np.allclose([float(row["effect"]) for row in rows], effect.effect, rtol=1e-9)
    assert np.allclose([float(row["p"]) for row in rows], effect.p_value, rtol=1e-9)
    assert {row["kind"] for row in rows} == {"t"}


def test_table_to_stdout(files, capsys):
    """With -o - stdout is the table and the page goes to stderr."""
    assert run(["test", *files, "--batch", "month", "--contrast", "drug", "-o", "-"]) == 0
    said = capsys.readouterr()

    assert said.out.startswith("contrast,feature,mean,effect,low,high")
    assert len(said.out.splitlines()) == 41
    assert "Model: drug, month" in said.err


def test_confounded_contrasts_are_refused_and_the_others_tested(tmp_path, capsys):
    """C is only in batch 3: B - A is tested, C - A refused by name, exit code 1."""
    rng = np.random.default_rng(0)
    sheet = {"lot": ["1", "2"] * 6 + ["3"] * 6, "drug": [*"AABB" * 3, *"CCCCCC"]}
    files = save(Table.from_arrays(rng.normal(size=(18, 6)), sheet), tmp_path)
    words = ["test", *files, "--batch", "lot", "--contrast", "drug"]

    assert run([*words, "--json"]) == 1
    parsed = document(capsys)
    assert [one["contrast"] for one in parsed["result"]["effects"]] == ["drug: B - A"]
    assert [one["contrast"] for one in parsed["result"]["refused"]] == ["drug: C - A"]
    assert parsed["result"]["refused"][0]["aliased"] == ["drug[C] = lot[3]"]
    assert (parsed["result"]["factors"][0]["df"], parsed["result"]["factors"][0]["complete"]) == (
        1,
        False,
    )
    assert run(words) == 1
    page = capsys.readouterr().out
    assert "drug: B - A ·" in page
    assert "drug: C - A cannot be told from lot:\n  drug[C] = lot[3]" in page

    words = ["test", *files, "--batch", "lot", "--contrast", "drug:C-A", "--json"]
    assert run(words) == 1
    parsed = document(capsys)
    assert parsed["result"] is None
    assert parsed["refusal"]["kind"] == "confounded"
    assert parsed["refusal"]["aliased"] == ["drug[C] = lot[3]"]


def test_digits_by_default(tmp_path, capsys):
    """Without MATRIX the digits 8 and 3 are compared, with form in the model."""
    assert run(["test", "--json", "--report", str(tmp_path / "r.html")]) == 0
    parsed = document(capsys)

    assert parsed["result"]["effects"][0]["contrast"] == "digit: 8 - 3"
    assert parsed["result"]["untested"] == {"constant": 3}
    page = (tmp_path / "r.html").read_text()
    assert "digit: 8 - 3" in page
    assert page.count("<figure") == 4


def test_a_corrected_matrix_with_its_flag(planted, tmp_path, capsys):
    """--corrected: the valid answer, that of the original, and the rate of a plain test."""
    corrected = correct(planted.table, "month", ["drug"])
    files = save(planted.table, tmp_path, corrected.values, "c")
    words = ["test", *files, "--batch", "month", "--contrast", "drug", "--json"]
    original = testing.test(planted.table, "drug", "month").effects[0]

    assert run([*words, "--corrected"]) == 0
    parsed = document(capsys)
    top = parsed["result"]["effects"][0]["top"][0]
    assert parsed["result"]["values"] == "corrected"
    assert top["p_value"] == pytest.approx(original.p_value.min(), rel=1e-8)
    assert codes(parsed) == ["removed_terms_in_model"]
    rate = f"{100 * original.plain.false_positive_rate:.1f} %"
    assert rate in parsed["notes"][0]["message"]

    assert run(words) == 0
    assert codes(document(capsys)) == ["looks_corrected"]


def test_a_matrix_corrected_by_another_method(planted, tmp_path, capsys):
    """--corrected with values that are not linearly corrected: said to be approximate."""
    rescaled = correct(planted.table, "month", ["drug"]).values + 0.1 * planted.table.values
    files = save(planted.table, tmp_path, rescaled, "c")
    words = ["test", *files, "--batch", "month", "--contrast", "drug", "--corrected", "--json"]

    assert run(words) == 0
    assert codes(document(capsys)) == ["approximate"]


def annotated(planted, path):
    """Write the experiment as AnnData."""
    anndata = pytest.importorskip("anndata")
    table = planted.table
    obs = pd.DataFrame({k: list(v) for k, v in table.sheet.items()}, index=list(table.specimens))
    data = anndata.AnnData(table.values, obs=obs, var=pd.DataFrame(index=list(table.features)))
    data.write_h5ad(path)
    return anndata


def corrected_file(planted, folder, method):
    """Correct it into c.h5ad: by the command, or by ComBat from Python."""
    anndata = annotated(planted, folder / "a.h5ad")
    target = folder / "c.h5ad"
    if method == "linear":
        words = ["correct", str(folder / "a.h5ad"), "--batch", "month", "--keep", "drug"]
        assert run([*words, "-o", str(target)]) == 0
        return anndata
    table = read(folder / "a.h5ad")
    found = CombatCorrection(keep=("drug",)).fit(table, "month").transform(table)
    record = {"method": found.method, "batch": "month", "keep": ["drug"]}
    write(table, found.values, target, record)
    return anndata


@pytest.mark.parametrize("method", ["linear", "combat"])
def test_a_corrected_annotated_file_is_noticed(planted, tmp_path, capsys, method):
    """An .h5ad that was corrected: X, the original, is tested, with the recorded batch."""
    corrected_file(planted, tmp_path, method)
    capsys.readouterr()

    assert run(["test", str(tmp_path / "c.h5ad"), "--contrast", "drug", "--json"]) == 0
    parsed = document(capsys)
    original = testing.test(planted.table, "drug", "month").effects[0]
    assert parsed["result"]["batch"] == "month"
    assert parsed["result"]["values"] == "original"
    assert codes(parsed) == ["recorded_correction"]
    assert f"by {method} for month" in parsed["notes"][0]["message"]
    top = parsed["result"]["effects"][0]["top"][0]
    assert top["p_value"] == pytest.approx(original.p_value.min(), rel=1e-9)


@pytest.mark.parametrize("method", ["linear", "combat"])
def test_a_layer_that_was_moved_to_x_is_noticed(planted, tmp_path, capsys, method):
    """Where X holds the corrected values, that is said, and another batch column is refused."""
    anndata = corrected_file(planted, tmp_path, method)
    data = anndata.read_h5ad(tmp_path / "c.h5ad")
    data.X = data.layers["batchsense"].copy()
    data.obs["half"] = ["a", "b"] * 12
    data.write_h5ad(tmp_path / "moved.h5ad")
    capsys.readouterr()
    words = ["test", str(tmp_path / "moved.h5ad"), "--contrast", "drug", "--json"]

    assert run(words) == 0
    parsed = document(capsys)
    original = testing.test(planted.table, "drug", "month").effects[0]
    smallest = parsed["result"]["effects"][0]["top"][0]["p_value"]
    assert parsed["result"]["values"] == "corrected"
    if method == "linear":
        assert codes(parsed) == ["recorded_correction", "removed_terms_in_model"]
        assert smallest == pytest.approx(original.p_value.min(), rel=1e-6)
    else:
        assert codes(parsed) == ["recorded_correction", "approximate"]
    assert run([*words, "--batch", "half"]) == 3
    assert "corrected for 'month'" in capsys.readouterr().err


def test_a_corrected_layer_is_noticed(planted, tmp_path, capsys):
    """--layer reads the corrected values, and the record says that they are."""
    corrected_file(planted, tmp_path, "linear")
    capsys.readouterr()
    words = ["test", str(tmp_path / "c.h5ad"), "--contrast", "drug", "--layer", "batchsense"]

    assert run([*words, "--json"]) == 0
    parsed = document(capsys)
    original = testing.test(planted.table, "drug", "month").effects[0]
    assert parsed["result"]["values"] == "corrected"
    smallest = parsed["result"]["effects"][0]["top"][0]["p_value"]
    assert smallest == pytest.approx(original.p_value.min(), rel=1e-6)


def test_an_unmarked_file_is_read_as_it_is(planted, tmp_path, capsys):
    """An .h5ad that records nothing is tested without any remark."""
    annotated(planted, tmp_path / "a.h5ad")
    words = ["test", str(tmp_path / "a.h5ad"), "--batch", "month", "--contrast", "drug", "--json"]

    assert run(words) == 0
    assert codes(document(capsys)) == []


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--contrast", "drug", "-o", "t.xlsx"], 3, "written as .csv"),
        (["--contrast", "drug", "-o", "none/t.csv"], 2, "not a folder"),
        (["--contrast", "drug", "-o", "-", "--json"], 2, "choose one"),
        ([], 2, "--contrast is needed"),
        (["--contrast", "drag"], 3, "did you mean 'drug'"),
        (["--contrast", "drug:yes-maybe"], 3, "no level 'maybe'"),
        (["--contrast", "drug", "--level", "2"], 2, "level"),
    ],
)
def test_wrong_calls(files, tmp_path, capsys, monkeypatch, more, code, says):
    """What cannot be meant is refused with the reason, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    assert run(["test", *files, "--batch", "month", *more]) == code
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert before == sorted(path.name for path in tmp_path.iterdir())


def test_the_batch_column_is_needed(files, capsys):
    """Without --batch the columns of the sheet are named."""
    assert run(["test", *files, "--contrast", "drug"]) == 2
    assert "month, drug" in capsys.readouterr().err


def test_missing_values(planted, tmp_path, capsys):
    """Features with gaps are tested on what was observed."""
    values = planted.table.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    table = Table.from_arrays(values, planted.table.sheet)
    files = save(table, tmp_path)

    assert run(["test", *files, "--batch", "month", "--contrast", "drug", "--json"]) == 0
    assert document(capsys)["result"]["effects"][0]["tested"] == 40


def test_a_written_matrix_can_be_tested_again(files, planted, tmp_path, capsys):
    """What `correct` wrote as text is noticed by `test`, whose answer is that of the original."""
    target = str(tmp_path / "o.csv")
    assert run(["correct", *files, "--batch", "month", "--keep", "drug", "-o", target]) == 0
    capsys.readouterr()

    assert run(["test", target, files[1], "--batch", "month", "--contrast", "drug", "--json"]) == 0
    parsed = document(capsys)
    original = testing.test(planted.table, "drug", "month").effects[0]
    assert codes(parsed) == ["looks_corrected"]
    found = parsed["result"]["effects"][0]["top"][0]["p_value"]
    assert found == pytest.approx(original.p_value.min(), rel=1e-8)


def test_a_record_without_its_layer_is_doubted(planted, tmp_path, capsys):
    """Where the record is there and the layer is gone, X counts as corrected, and that is said."""
    anndata = corrected_file(planted, tmp_path, "linear")
    data = anndata.read_h5ad(tmp_path / "c.h5ad")
    del data.layers["batchsense"]
    data.write_h5ad(tmp_path / "gone.h5ad")
    capsys.readouterr()

    assert run(["test", str(tmp_path / "gone.h5ad"), "--contrast", "drug", "--json"]) == 0
    parsed = document(capsys)
    assert parsed["notes"][0]["code"] == "recorded_correction"
    assert "its layer is gone" in parsed["notes"][0]["message"]


def test_a_corrected_store_is_noticed(planted, tmp_path, capsys):
    """A .zarr store that was corrected says so as an .h5ad does."""
    pytest.importorskip("zarr")
    anndata = annotated(planted, tmp_path / "a.h5ad")
    data = anndata.read_h5ad(tmp_path / "a.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_zarr(tmp_path / "a.zarr")
    words = ["correct", str(tmp_path / "a.zarr"), "--batch", "month", "--keep", "drug"]
    assert run([*words, "-o", str(tmp_path / "c.zarr")]) == 0
    capsys.readouterr()

    assert run(["test", str(tmp_path / "c.zarr"), "--contrast", "drug", "--json"]) == 0
    parsed = document(capsys)
    assert codes(parsed) == ["recorded_correction"]
    assert parsed["result"]["values"] == "original"


def test_any_contrast_and_a_formula(files, capsys):
    """Sums, interactions and a joint F are published with their weights, under a given model."""
    asked = ["--contrast", "drug*month", "--design", "~ drug * month2", "--joint"]
    assert run(["test", *files, "--batch", "month", *asked, "--json"]) == 3
    assert "no column 'month2'" in capsys.readouterr().err
    sheet = pd.read_csv(files[1])
    sheet["sex"] = ["f", "m"] * 12
    sheet.to_csv(files[1], index=False)
    asked = ["--contrast", "drug*sex", "--contrast", "(yes.f - no.f)/2 + (yes.m - no.m)/2"]
    model = ["--design", "~ drug * sex", "--joint"]
    assert run(["test", *files, "--batch", "month", *asked, *model, "--json"]) == 0
    result = document(capsys)["result"]
    assert result["terms"] == ["drug", "sex", "drug:sex"]
    assert [(one["of"], one["df"]) for one in result["factors"]] == [
        ("interaction", 1),
        ("contrasts", 2),
    ]
    weights = {"yes.f": 0.5, "no.f": -0.5, "yes.m": 0.5, "no.m": -0.5}
    assert result["effects"][1]["weights"] == weights
    assert run(["test", *files, "--batch", "month", *asked, *model]) == 0
    text = capsys.readouterr().out
    assert "drug * sex, interaction (F, 1 df)" in text
    assert "joint: drug*sex: yes.m - yes.f - no.m + no.f, " in text
