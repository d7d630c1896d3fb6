"""The placebo of ``batchsense diagnose``: documents, words and what cannot be tested."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from batchsense.cli.main import run
from batchsense.experiments import PureNoise, Table, placebo
from published import check_document

GIVEN = np.load(Path(__file__).resolve().parents[1] / "references" / "bladder" / "input.npz")


def save(folder, values, **columns):
    """Write a matrix and its sheet; give the words that name them."""
    ids = [f"s{k}" for k in range(len(values))]
    with (folder / "m.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["id", *(f"f{j}" for j in range(values.shape[1]))])
        lines.writerows([name, *row] for name, row in zip(ids, values.tolist(), strict=True))
    with (folder / "s.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["id", *columns])
        lines.writerows(zip(ids, *columns.values(), strict=True))
    return ["diagnose", str(folder / "m.csv"), str(folder / "s.csv")]


def document(capsys):
    """Parse stdout, which must hold exactly one valid JSON document."""
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "diagnose")
    return parsed


@pytest.fixture
def bladder(tmp_path):
    """Part of the bladder data in files, an age beside the cancer."""
    columns = {name: GIVEN[name].tolist() for name in ("batch", "cancer", "age")}
    words = save(tmp_path, GIVEN["expression"].T[:, ::20], **columns)
    return [*words, "--batch", "batch", "--keep", "cancer", "--permutations", "20"]


def test_the_bladder_data(bladder, tmp_path, capsys):
    """Document, page and report hold the same rates; the numbers repeat in Python."""
    report = tmp_path / "r.html"
    assert run([*bladder, "--keep", "age", "--json", "--report", str(report)]) == 0
    found = document(capsys)["result"]["placebo"]
    assert run([*bladder, "--keep", "age"]) == 0
    page = capsys.readouterr().out

    by_name = {(one["factor"], one["pipeline"]): one for one in found["outcomes"]}
    assert found["features"] == 5000
    assert found["shift_sd"] == pytest.approx(0.69, abs=0.01)
    assert len(by_name) == 8
    assert {one["test"] for one in found["outcomes"]} == {"t", "F"}
    combat, model = by_name["cancer", "combat"], by_name["cancer", "model"]
    assert combat["rate"]["estimate"] == pytest.approx(0.28, abs=0.02)
    assert combat["called"] > 200
    assert model["rate"]["low"] <= 0.05 <= model["rate"]["high"]
    assert by_name["cancer", "uncorrected"]["rate"]["low"] > 0.1

    sheet = {name: GIVEN[name].tolist() for name in ("batch", "cancer", "age")}
    again = placebo(
        Table.from_arrays(np.zeros((57, 1)), sheet),
        "combat",
        "cancer",
        "batch",
        ["age"],
        noise=PureNoise(shift_sd=found["shift_sd"], seed=combat["seed"]),
    )
    assert (again.called, again.rate.estimate) == (combat["called"], combat["rate"]["estimate"])
    written = f"{100 * combat['rate']['estimate']:.1f} %"
    worst = max(found["outcomes"], key=lambda one: one["rate"]["estimate"])
    sentence = f"would call {worst['called']} of the 5,000; its false-positive rate at 0.05 is"
    for text in (page, report.read_text()):
        assert "5,000 features of pure noise on this sheet" in text
        assert "ComBat, then F test without batch" in text
        assert written in text.replace("\N{NO-BREAK SPACE}", " ")
        assert sentence in " ".join(text.split())


def test_without_placebo(bladder, tmp_path, capsys):
    """--no-placebo leaves it out, everywhere, and changes nothing else."""
    report = tmp_path / "r.html"
    assert run([*bladder, "--json"]) == 0
    whole = document(capsys)
    assert run([*bladder, "--no-placebo", "--json", "--report", str(report)]) == 0
    part = document(capsys)

    assert part["result"]["placebo"] is None
    whole["result"]["placebo"] = None
    whole["asked"]["placebo"] = False
    assert whole == part
    assert "Placebo" not in report.read_text()
    assert "--no-placebo" in report.read_text()
    assert run([*bladder, "--no-placebo"]) == 0
    assert "Placebo" not in capsys.readouterr().out


def test_a_confounded_sheet(tmp_path, capsys):
    """Nothing can be tested: said in the page, null with the terms in the document."""
    values = np.random.default_rng(0).normal(size=(12, 5))
    words = save(tmp_path, values, month=[*"MMMMMMJJJJJJ"], drug=[*"nnnnnnyyyyyy"])
    words += ["--batch", "month", "--keep", "drug", "--permutations", "20"]

    assert run([*words, "--json"]) == 1
    found = document(capsys)["result"]["placebo"]
    assert found["shift_sd"] is None
    assert all(one["rate"]["estimate"] is None for one in found["outcomes"])
    assert all(one["called"] is None for one in found["outcomes"])
    assert found["outcomes"][3]["rate"]["reason"] == "cannot be tested: drug[y] = month[J]"
    assert run([*words, "--report", str(tmp_path / "r.html")]) == 1
    for text in (capsys.readouterr().out, (tmp_path / "r.html").read_text()):
        assert "t test with month in the model" in text
        assert "cannot be corrected" in text
        assert "the data do not tell how far they lie apart" in " ".join(text.split())
        assert "would call" not in text


def test_partly_told_and_well_behaved(tmp_path, capsys):
    """A remark where only some levels are tested; where nothing is inflated the page says that."""
    values = np.random.default_rng(0).normal(size=(24, 5))
    drug = [*"abababab", *"abababab", *"cccccccc"]
    words = save(tmp_path, values, month=np.repeat(["1", "2", "3"], 8), drug=drug)
    words += ["--batch", "month", "--keep", "drug", "--permutations", "20"]

    assert run(words) == 1
    page = " ".join(capsys.readouterr().out.split())
    assert "drug, F test with month in the model: only the differences that can be told" in page
    assert (
        "None of the ways without month in the model calls clearly more noise than the 5 % that it"
        in page
    )
    assert "The noise has no shifts between batches: none is resolved in the data" in page


def test_nothing_kept(tmp_path, capsys):
    """Without a kept factor there is no placebo, and nothing breaks."""
    values = np.random.default_rng(0).normal(size=(12, 5))
    words = [*save(tmp_path, values, month=[*"MMMMMMJJJJJJ"]), "--batch", "month"]

    assert run([*words, "--json"]) == 0
    assert document(capsys)["result"]["placebo"] is None
