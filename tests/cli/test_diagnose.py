"""``batchsense diagnose``: answers, documents and refusals of the real command line."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchsense.cli.main import run
from batchsense.datasets import digit_forms
from batchsense.experiments import Table, plant, scene_table, write
from published import check_document


def save_sheet(path, **columns):
    """Write a sheet, ids first."""
    with path.open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(columns)
        lines.writerows(zip(*columns.values(), strict=True))


def save(table, folder, name="m.csv"):
    """Write a table and its sheet; give the words that name them."""
    named = Table.from_arrays(table.values, table.sheet, table.specimens, table.features, "m.csv")
    write(named, named.values, folder / name)
    sheet = {"specimen": table.specimens, **{k: v for k, v in table.sheet.items() if k != "id"}}
    save_sheet(folder / "s.csv", **sheet)
    return [str(folder / name), str(folder / "s.csv")]


@pytest.fixture
def files(tmp_path):
    """A small experiment in files: month is the batch, drug is wanted."""
    planted = plant(specimens=18, features=5, months=3, treated_share=0.67, seed=1)
    return save(planted.table, tmp_path)


def document(capsys):
    """Parse stdout, which must hold exactly one valid JSON document."""
    text = capsys.readouterr().out
    parsed = json.loads(text)
    check_document(parsed, parsed["command"])
    return parsed


def test_digits_by_default(capsys):
    """Without arguments the digits are diagnosed: form needs adjusting, and the page says why."""
    assert run(["diagnose", "--permutations", "20"]) == 0

    page = capsys.readouterr().out
    assert "Verdict: adjust" in page
    assert "form × digit" in page
    assert "An additive correction removes the smaller part only" in page


def test_json_of_the_digits(capsys):
    """The document validates and holds the stable keys with the numbers of the note."""
    assert run(["diagnose", "--json", "--permutations", "40", "-vv"]) == 0

    found = document(capsys)
    result = found["result"]
    assert result["verdict"] == "adjust"
    assert result["batch"]["name"] == "form"
    assert result["batch"]["share"]["raw"] == pytest.approx(0.040, abs=5e-4)
    assert result["batch"]["share"]["raw"] >= 5 * result["batch"]["share"]["null_mean"]
    (digit,) = result["kept"]
    assert digit["cramers_v"] < 0.02
    assert digit["estimable"] is True
    assert digit["aliased"] == []
    assert {"name", "share", "r2_with_batch", "vif", "effective_n"} <= set(digit)
    assert {"estimate", "low", "high"} <= set(digit["share"])


def test_files_and_their_hashes(files, capsys):
    """Inputs are named with their SHA-256; kept columns come in the order given."""
    assert run(["diagnose", *files, "--batch", "month", "--keep", "drug", "--json"]) == 0

    found = document(capsys)
    assert [entry["path"] for entry in found["inputs"]] == files
    assert [entry["sha256"] for entry in found["inputs"]] == [
        hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in files
    ]
    assert found["result"]["batch"]["levels"] == {"m0": 6, "m1": 6, "m2": 6}


def test_not_estimable_is_the_answer_no(tmp_path, capsys):
    """Total confounding: exit code 1, the JSON still printed, vif null with a reason."""
    files = save(scene_table(digit_forms("total")), tmp_path)
    words = ["diagnose", *files, "--batch", "form", "--keep", "digit"]

    assert run([*words, "--json"]) == 1
    result = document(capsys)["result"]
    (digit,) = result["kept"]
    assert result["verdict"] == "not_estimable"
    assert digit["vif"] is None
    assert "infinite" in digit["vif_reason"]
    assert len(digit["aliased"]) == 1
    assert digit["share"]["estimate"] is None
    assert "nothing of digit is left" in digit["share"]["reason"]

    assert run(words) == 1
    page = capsys.readouterr().out
    assert "digit cannot be told from form" in page
    assert digit["aliased"][0] in page


def test_same_seed_same_document(files, capsys):
    """The whole document repeats with the seed."""
    words = ["diagnose", *files, "--batch", "month", "--keep", "drug", "--json", "--seed"]
    texts = []
    for seed in ("3", "3", "4"):
        run([*words, seed])
        texts.append(capsys.readouterr().out)

    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_declared_kind(tmp_path, capsys):
    """A dose of three whole numbers is read as categories with a note, unless declared."""
    planted = plant(specimens=18, features=5)
    table = Table.from_arrays(planted.table.values, {**planted.table.sheet, "dose": [0, 1, 2] * 6})
    words = ["diagnose", *save(table, tmp_path), "--batch", "month", "--keep", "dose", "--json"]
    kinds = []
    for more in ([], ["--numeric", "dose"], ["--categorical", "dose"]):
        run([*words, *more])
        found = document(capsys)
        kinds.append((found["result"]["kept"][0]["kind"], [n["code"] for n in found["notes"]]))

    assert kinds == [("categorical", ["kind_assumed"]), ("numeric", []), ("categorical", [])]


def test_too_few_specimens_is_a_refusal(tmp_path, capsys):
    """No degree of freedom: exit code 1 and, with --json, a refusal that says what is needed."""
    table = Table.from_arrays(
        np.random.default_rng(0).normal(size=(3, 2)),
        {"month": ["May", "May", "July"], "drug": ["no", "yes", "no"]},
    )
    words = ["diagnose", *save(table, tmp_path), "--batch", "month", "--keep", "drug"]

    assert run([*words, "--json"]) == 1
    found = document(capsys)
    assert found["result"] is None
    assert found["refusal"]["kind"] == "unresolved"
    assert "one more specimen" in found["refusal"]["needed"]


def test_report(files, tmp_path, capsys):
    """--report writes one page that holds the numbers of --json."""
    report = tmp_path / "r.html"
    words = ["diagnose", *files, "--batch", "month", "--keep", "drug", "--json"]

    assert run([*words, "--report", str(report)]) == 0
    found = document(capsys)
    page = report.read_text()
    assert found["inputs"][0]["sha256"] in page
    assert f"{found['result']['batch']['share']['raw']}" in page
    assert run([*words, "--report", str(report)]) == 2
    assert "exists" in capsys.readouterr().err


def replaced(path, old, new):
    """Edit a text file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def break_ids(folder):
    text = (folder / "s.csv").read_text()
    (folder / "s.csv").write_text(text.replace("specimen ", "patient "))


def half_ids(folder):
    replaced(folder / "s.csv", "specimen 7,", "specimen 77,")


def text_in_matrix(folder):
    lines = (folder / "m.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[2] = "high"
    lines[3] = ",".join(cells)
    (folder / "m.csv").write_text("\n".join(lines))


def infinite(folder):
    lines = (folder / "m.csv").read_text().splitlines()
    lines[2] = lines[2].rsplit(",", 1)[0] + ",inf"
    (folder / "m.csv").write_text("\n".join(lines))


def one_batch(folder):
    text = (folder / "s.csv").read_text()
    (folder / "s.csv").write_text(text.replace("m1", "m0").replace("m2", "m0"))


def empty_sheet(folder):
    (folder / "s.csv").write_text("specimen,month,drug\n")


def no_sheet(folder):
    (folder / "s.csv").unlink()


def no_matrix(folder):
    (folder / "m.csv").unlink()


def blank_matrix(folder):
    (folder / "m.csv").write_text("")


def twice(folder):
    with (folder / "s.csv").open("a") as sheet:
        sheet.write("specimen 1,m2,yes\n")


def one_for_another(folder):
    replaced(folder / "s.csv", "specimen 2,", "specimen 1,")


def missing_label(folder):
    replaced(folder / "s.csv", ",m0,", ",NA,")


def one_row(folder):
    lines = (folder / "m.csv").read_text().splitlines()
    (folder / "m.csv").write_text("\n".join(lines[:2]))


def nothing(folder):
    """Leave the files as they are."""


#: What is done to good files, the words after them, exit code and what the message must say.
WRONG = [
    (no_matrix, [], 3, r"m.csv: cannot be read: No such file"),
    (no_sheet, [], 3, r"s.csv: cannot be read: No such file"),
    (blank_matrix, [], 3, "the file is empty"),
    (empty_sheet, [], 3, "the sheet is empty"),
    (break_ids, [], 3, r"no id of the matrix .*'patient 1', 'patient 2', 'patient 3' and 15 more"),
    (half_ids, [], 3, r"17 of 18 row ids .* not 'specimen 7' \(in the sheet only: 'specimen 77'\)"),
    (text_in_matrix, [], 3, "row 'specimen 3', column 'feature 2' holds 'high'"),
    (infinite, [], 3, "infinite values .*specimen 2 / feature 5"),
    (one_batch, [], 3, "'month' holds one batch only"),
    (twice, [], 3, "more than once in column 'specimen': 'specimen 1'"),
    (one_for_another, [], 3, "not 'specimen 2' .the sheet has 'specimen 1' more than once"),
    (missing_label, [], 3, "'month' has no label for 'specimen 1'"),
    (one_row, [], 3, "too few"),
    (nothing, ["--batch", "mnoth"], 3, "no column 'mnoth'; did you mean 'month'"),
    (nothing, ["--keep", "durg"], 3, "no column 'durg'; did you mean 'drug'"),
    (nothing, ["--keep", "specimen"], 3, "level of its own for each specimen"),
    (nothing, ["--id", "idd"], 3, "no column 'idd'"),
    (nothing, ["--id", "drug"], 3, "no id of the matrix"),
    (nothing, ["--numeric", "drug"], 3, "not a number"),
    (nothing, ["--keep", "month"], 3, "both the batch and kept"),
    (nothing, ["--seed", "-1"], 2, "seed"),
    (nothing, ["--nonsense"], 2, "nonsense"),
]


@pytest.mark.parametrize("command", ["diagnose", "correct"])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("damage", "more", "code", "says"), WRONG)
def test_wrong_input(files, tmp_path, capsys, command, as_json, damage, more, code, says):
    """Wrong input: exit code 2 or 3, one readable paragraph, no traceback, no output file."""
    damage(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    batch_labels = [] if "--batch" in more else ["--batch", "month"]
    words = [command, *files, *batch_labels, "--keep", "drug", *more]
    if command == "correct":
        words += ["-o", str(tmp_path / "out.csv")]
    found = run([*words, *(["--json"] if as_json else [])])
    said = capsys.readouterr()

    assert found == code
    assert said.out == ""
    assert re.search(says, said.err), said.err
    assert "Traceback" not in said.err
    assert "\n\n" not in said.err
    assert len(said.err.splitlines()) <= 2
    assert len(said.err) < 700
    assert before == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("command", ["diagnose", "correct"])
def test_batch_must_be_named(files, tmp_path, capsys, command):
    """A table of the user's needs --batch; the message lists the columns."""
    words = [command, *files] + (["-o", str(tmp_path / "o.csv")] if command == "correct" else [])

    assert run(words) == 2
    assert "month, drug" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def test_help_has_examples(capsys):
    """The help shows examples."""
    for command in ("diagnose", "correct"):
        assert run([command, "--help"]) == 0
        assert f"batchsense {command} matrix." in capsys.readouterr().out


def test_command_modules_load_nothing_heavy():
    """Importing the command line loads neither the experiments side nor numpy."""
    code = (
        "import sys, batchsense.cli.main\n"
        "heavy = {'numpy', 'scipy', 'pandas', 'sklearn', 'anndata', 'batchsense.experiments'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_scores_component_and_contrasts_are_published(files, capsys):
    """The document tells what specimens cluster by, how far batches lie apart, and what is told."""
    assert run(["diagnose", *files, "--batch", "month", "--keep", "drug", "--json"]) == 0

    result = document(capsys)["result"]
    component, scores = result["batch"]["component"], result["scores"]
    assert component["low"] < component["estimate"] < component["high"]
    assert component["relative_sd"] > 0
    assert scores["clusters_by"] in {"batch", "kept", "both", "neither"}
    assert [one["name"] for one in scores["clusterings"]] == ["month", "drug"]
    assert {one["component"] for one in scores["components"]} == set(
        range(1, len(scores["explained"]) + 1)
    )
    (contrast,) = result["kept"][0]["contrasts"]
    assert contrast["contrast"] == "yes - no"
    assert contrast["r2_with_batch"] == pytest.approx(result["kept"][0]["r2_with_batch"])
    parts = [result["batch"]["share"]["raw"], result["kept"][0]["share"]["raw"], result["shared"]]
    assert sum(parts) + result["residual_share"] == pytest.approx(1.0)
    assert result["residual"]["low"] <= result["residual"]["estimate"]


def test_text_says_what_specimens_cluster_by(files, capsys):
    """The page answers: clusters, components, what no term explains, how far batches lie apart."""
    run(["diagnose", *files, "--batch", "month", "--keep", "drug"])
    page = capsys.readouterr().out

    assert "Specimens cluster" in page
    assert "Principal components on each factor" in page
    assert "Variance component of month" in page
    assert "No term explains" in page


def test_features_go_to_a_table(files, tmp_path, capsys):
    """-o writes a row per feature as .tsv or .csv; nothing else and nobody's file is replaced."""
    words = ["diagnose", *files, "--batch", "month", "--keep", "drug"]
    for name, delimiter in (("f.tsv", "\t"), ("f.csv", ",")):
        assert run([*words, "-o", str(tmp_path / name)]) == 0
        rows = list(csv.DictReader((tmp_path / name).read_text().splitlines(), delimiter=delimiter))
        assert [row["feature"] for row in rows] == [f"feature {j}" for j in range(1, 6)]
        assert 0 <= float(rows[0]["month share"]) <= float(rows[0]["month high"]) <= 1
    capsys.readouterr()
    before = Path(files[0]).read_bytes()

    assert run([*words, "-o", str(tmp_path / "f.tsv")]) == 2
    assert run([*words, "-o", str(tmp_path / "f.xlsx")]) == 2
    assert run([*words, "-o", files[0], "--force"]) == 2
    assert Path(files[0]).read_bytes() == before
    assert "exists" in capsys.readouterr().err


def test_partly_linked_levels_are_named(tmp_path, capsys):
    """Levels of which some can be compared: both kinds are listed in words."""
    month = np.repeat(["1", "2", "3"], 4)
    drug = np.array(["a", "b", "a", "b"] * 2 + ["c"] * 4)
    values = np.random.default_rng(0).normal(size=(12, 5))
    files = save(Table.from_arrays(values, {"month": month, "drug": drug}), tmp_path)

    assert run(["diagnose", *files, "--batch", "month", "--keep", "drug"]) == 1
    page = " ".join(capsys.readouterr().out.split())
    assert "Differences of drug: estimable are b - a; not estimable: c - a, c - b." in page
    assert "so c - a cannot be told from batch 3" in page


def test_differences_interaction_and_signs(tmp_path, capsys):
    """With three levels the differences are named; an interaction that is not there is said."""
    month = np.repeat(["1", "2"], 8)
    values = np.random.default_rng(0).normal(size=(16, 5))
    table = Table.from_arrays(values, {"month": month, "drug": [*"aabbcccc", *"aaabbbcc"]})
    words = ["diagnose", *save(table, tmp_path), "--batch", "month", "--no-placebo"]

    assert run([*words, "--keep", "drug"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert re.search(r"all 3 are estimable, with an effective n of 1\d\.\d \(.*\) to 1\d\.\d", page)
    assert not re.search(r"\d\n%", page)
    assert not re.search(r"(?<![\w\d])-0\.", page)

    nested = Table.from_arrays(values, {"month": month, "drug": [*"aabbaabb", *"bbbbbbbb"]})
    assert run(["diagnose", *save(nested, tmp_path), *words[3:], "--keep", "drug"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "Whether month acts differently on drug cannot be told" in page


def test_batches_far_beyond_the_noise(tmp_path, capsys):
    """Batches a thousand million noise SD apart are diagnosed, with an interval."""
    noise = np.random.default_rng(0).normal(size=(12, 5))
    month = np.repeat([0, 1, 0, 1], 3)
    values = 1e6 * month[:, None] + 1e-3 * noise
    table = Table.from_arrays(values, {"month": month, "drug": ["no", "yes"] * 6})
    words = ["diagnose", *save(table, tmp_path), "--batch", "month", "--keep", "drug", "--json"]

    assert run([*words, "--permutations", "20", "-o", str(tmp_path / "f.tsv")]) == 0
    result = document(capsys)["result"]
    share = result["batch"]["share"]
    assert 0.8 < share["low"] < share["estimate"] < share["high"] < 1.0
    assert result["residual"]["low"] >= 0.0
    rows = list(csv.DictReader((tmp_path / "f.tsv").read_text().splitlines(), delimiter="\t"))
    assert all(0.6 < float(row["month low"]) < float(row["month share"]) for row in rows)
    assert all(float(row["month share"]) < float(row["month high"]) < 1.0 for row in rows)


def test_a_balanced_design_shares_nothing(tmp_path, capsys):
    """No rounding error is told as a share, whatever the unit; an unbalanced one shares some."""
    values = np.random.default_rng(1).normal(size=(12, 40)) + np.repeat([0, 1], 6)[:, None]
    for drug, said in (
        (["no", "yes"] * 6, "none of it belongs to several terms at once"),
        (["no"] * 4 + ["yes"] * 3 + ["no"] + ["yes"] * 4, "belong to several terms at once"),
    ):
        table = Table.from_arrays(1e3 * values, {"month": [*"a" * 6, *"b" * 6], "drug": drug})
        words = ["diagnose", *save(table, tmp_path), "--batch", "month", "--keep", "drug"]
        assert run([*words, "--permutations", "20", "--no-placebo"]) == 0
        page = " ".join(capsys.readouterr().out.split())
        assert said in page
        assert "10⁻¹" not in page
