"""``batchsense gap``: the document, the page, the report and every exit code."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from published import check_document


def written(folder, rows=20, count=6, shift=2.5, missing=False, seed=0):
    """Write a matrix, features × specimens, and its sheet in another order."""
    rng = np.random.default_rng(seed)
    n = rows * count
    ids = [f"s{k:03d}" for k in range(n)]
    ill = np.tile(["ill", "well"], n // 2)
    age = rng.integers(20, 80, n)
    X = (ill == "ill")[:, None] * [1.0, 0.0, 0.0] + 0.3 * rng.normal(size=(n, 3))
    X[:, 1] += age / 20
    X += shift * np.repeat(np.arange(count), rows)[:, None]
    if missing:
        X[0, 0] = np.nan
    pd.DataFrame(X, index=ids, columns=["a", "b", "c"]).T.to_csv(folder / "m.csv")
    plate = np.repeat([f"p{k}" for k in range(count)], rows)
    sheet = pd.DataFrame({"id": ids, "plate": plate, "ill": ill, "age": age, "score": age // 10})
    sheet["arm"] = np.where(plate == "p0", "no", "yes")
    sheet[::-1].to_csv(folder / "s.csv", index=False)
    return ["gap", str(folder / "m.csv"), str(folder / "s.csv"), "--batch", "plate"]


def document(capsys):
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "gap")
    return parsed


def test_the_builtin_digits_show_the_known_gap(capsys):
    """Without any argument: forms left out err about 3.25 times as often as shuffled folds."""
    assert run(["gap", "--correct", "none", "--repeats", "1", "--json"]) == 0

    parsed = document(capsys)
    result = parsed["result"]
    assert (result["batch"], result["predicted"], result["verdict"]) == ("form", "digit", "gap")
    assert result["ways"][0]["ratio"]["estimate"] == pytest.approx(3.25, rel=0.1)
    assert result["ways"][0]["left_out"]["estimate"] == pytest.approx(0.0362, abs=1e-4)
    assert parsed["seed"] == 0


def test_page_document_and_report_agree(tmp_path, capsys):
    """The words, the JSON and the numbers inside the report are the same."""
    words = [*written(tmp_path, 12), "--predict", "ill", "--correct", "linear"]
    words += ["--correct", "combat", "--repeats", "1"]
    report = tmp_path / "r.html"
    assert run([*words, "--report", str(report)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert run([*words, "--json"]) == 0
    parsed = document(capsys)
    plain, linear, combat = parsed["result"]["ways"]

    assert "Verdict: a gap. Error rate" in said
    assert "The linear correction inside the folds helps on a new plate" in said
    assert f"{plain['batches_worse']} of 6" in said
    assert linear["change"]["high"] < 0
    assert [len(way["by_batch"]) for way in (plain, linear, combat)] == [6, 6, 6]
    page = report.read_text()
    inside = page.split('id="batchsense-numbers">')[1].split("</script>")[0]
    assert json.loads(inside)["result"] == parsed["result"]
    assert page.count("<svg") == 4  # both errors of all ways, and three times batch by batch
    assert "--predict ill --correct linear --correct combat" in page


def test_numbers_are_predicted_too(tmp_path, capsys):
    """An age: ridge regression and squared errors, with no word of per cent points."""
    assert run([*written(tmp_path), "--predict", "age"]) in (0, 1)

    said = capsys.readouterr().out
    assert "Ridge regression predicts age (a number)" in said
    assert "Mean squared error" in said
    assert "points" not in said


def test_kinds_can_be_declared(tmp_path, capsys):
    """Few whole numbers are classes unless they are said to count."""
    words = [*written(tmp_path), "--predict", "score", "--correct", "none", "--json"]
    assert run([*words, "--categorical"]) in (0, 1)
    assert document(capsys)["result"]["kind"] == "categorical"
    assert run([*words, "--numeric"]) in (0, 1)
    assert document(capsys)["result"]["kind"] == "numeric"


def test_missing_values_are_filled_and_noted(tmp_path, capsys):
    """One hole: counted in the document, said in a note."""
    assert run([*written(tmp_path, missing=True), "--predict", "ill", "--json"]) == 0

    parsed = document(capsys)
    assert parsed["result"]["missing_filled"] == 1
    assert any(note["code"] == "missing_values_filled" for note in parsed["notes"])


def test_no_answer_is_exit_code_one(tmp_path, capsys):
    """Two plates that differ in nothing: all numbers, what is needed, and exit code 1."""
    words = [*written(tmp_path, 30, 2, shift=0), "--predict", "ill", "--correct", "none"]
    assert run([*words, "--json"]) == 1
    parsed = document(capsys)
    result = parsed["result"]
    assert result["verdict"] == "cannot_tell"
    assert parsed["refusal"]["needed"] == f"about {result['batches_needed']} batches like these"
    assert result["batches_needed"] > 2
    assert run(words) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Verdict: cannot tell." in said
    assert f"to tell would take about {result['batches_needed']} batches like these" in said


def test_a_class_for_each_batch_is_refused(tmp_path, capsys):
    """Exit code 1, a document with the relations, and the same words on stderr."""
    words = [*written(tmp_path, 10, 2), "--predict", "arm"]
    assert run([*words, "--json"]) == 1

    out, err = capsys.readouterr()
    parsed = json.loads(out)
    check_document(parsed, "gap")
    assert parsed["refusal"]["aliased"] == ["arm[no] = plate[p0]", "arm[yes] = plate[p1]"]
    assert "arm cannot be told from plate" in err


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ([], 2, "--predict is needed"),
        (["--predict", "il"], 3, "did you mean 'ill'"),
        (["--predict", "plate"], 3, "cannot be both"),
        (["--predict", "ill", "--model", "ridge"], 3, "ridge predicts numbers"),
        (["--predict", "ill", "--model", "magic"], 2, "magic"),
        (["--predict", "ill", "--categorical", "--numeric"], 2, "contradict"),
        (["--predict", "ill", "--numeric"], 3, "not a number"),
        (["--predict", "ill", "--repeats", "0"], 2, "repeats"),
    ],
)
def test_wrong_words(tmp_path, capsys, more, code, says):
    """Each is refused before any model is fitted, with what to do."""
    assert run([*written(tmp_path, 4, 3), *more]) == code

    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(says, err)


def test_no_error_at_all_has_no_ratio(tmp_path, capsys):
    """Classes far apart and no shift: zero in both ways, null beside a reason, verdict no gap."""
    n = 60
    ids = [f"s{k}" for k in range(n)]
    ill = np.tile([0, 1], n // 2)
    X = ill[:, None] * 50.0 + np.random.default_rng(0).normal(size=(n, 2))
    pd.DataFrame(X, index=ids, columns=["a", "b"]).to_csv(tmp_path / "m.csv")
    sheet = pd.DataFrame({"id": ids, "plate": np.repeat([*"ABC"], 20), "ill": ill})
    sheet.to_csv(tmp_path / "s.csv", index=False)
    words = ["gap", str(tmp_path / "m.csv"), str(tmp_path / "s.csv"), "--batch", "plate"]

    assert run([*words, "--predict", "ill", "--report", str(tmp_path / "r.html")]) == 0
    assert "no gap seen" in capsys.readouterr().out
    assert run([*words, "--predict", "ill", "--json"]) == 0
    ratio = document(capsys)["result"]["ways"][0]["ratio"]
    assert ratio["estimate"] is None
    assert ratio["reason"] == "no error in either way of testing"
