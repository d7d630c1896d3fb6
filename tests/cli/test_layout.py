"""``batchsense layout``: the written sheet, the account of it, and the refusal."""

from __future__ import annotations

import csv
import gzip
import json

import pytest

from batchsense.cli.main import run
from published import check_document


@pytest.fixture
def sheet(tmp_path):
    """A sheet of 24 specimens."""
    path = tmp_path / "s.csv"
    with path.open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["id", "arm, dose", "sex", "age", "subject"])
        lines.writerows(
            [f"s{i}", "abc"[i % 3], "fm"[i * 7 % 5 % 2], 40 + i * 11 % 30 + 0.5, f"p{i // 2}"]
            for i in range(24)
        )
    return str(path)


def document(capsys):
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "layout")
    return parsed


def test_writes_the_sheet_with_its_new_column(sheet, tmp_path, capsys):
    """Rows, order and entries stay; the account says sizes, scores and costs."""
    output = tmp_path / "o.tsv.gz"
    words = ["layout", sheet, "--batches", "4", "--balance", "arm, dose", "--balance", "sex,age"]

    assert run([*words, "-o", str(output)]) == 0
    with gzip.open(output, "rt") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["id"] for row in rows] == [f"s{i}" for i in range(24)]
    assert rows[3]["age"] == "43.5"
    assert sorted({row["batch"] for row in rows}) == ["1", "2", "3", "4"]
    page = capsys.readouterr().out
    assert "24 specimens in 4 batches of 6; new column: batch." in page
    assert "the best of 200 random layouts" in page
    assert f"Written: {output}" in page


def test_document(sheet, tmp_path, capsys):
    """The document validates and agrees with the written file."""
    output = tmp_path / "o.csv"
    words = ["layout", sheet, "--batches", "2", "--balance", "sex,age", "--together", "subject"]
    words += ["--plate", "4x4", "--reference-specimens", "1", "-o", str(output), "--json"]

    assert run([*words, "--report", str(tmp_path / "r.html")]) == 0
    result = document(capsys)["result"]
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert result["assigned"] == [row["batch"] for row in rows[:24]]
    assert result["plates"]["wells"] == [row["well"] for row in rows[:24]]
    assert [one["capacity"] for one in result["batches"]] == [15, 15]
    assert len(rows) == 26
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 4
    assert "--together subject" in page


def test_wells_that_stay_empty_or_taken(sheet, tmp_path, capsys):
    """Options, document, page and text agree on the wells that were not free to choose."""
    lines = (tmp_path / "s.csv").read_text().splitlines()
    before = ["done,place", "1,B2", "1,C3", *[","] * 22]
    pairs = zip(lines, before, strict=True)
    (tmp_path / "s.csv").write_text("".join(f"{line},{more}\n" for line, more in pairs))
    words = ["layout", sheet, "--batches", "2", "--balance", "sex", "--plate", "5x7"]
    words += ["--empty-wells", "edge", "--lock", "done", "--lock-wells", "place"]

    assert run([*words, "-o", str(tmp_path / "o.csv"), "--report", str(tmp_path / "r.html")]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "20 wells of every plate stay empty. 2 specimens kept the well from before." in page
    report = (tmp_path / "r.html").read_text()
    assert "a cross marks a well that stays empty" in report
    assert "--empty-wells edge --lock-wells place" in report
    assert run([*words, "-o", str(tmp_path / "o2.csv"), "--json"]) == 0
    plates = document(capsys)["result"]["plates"]
    assert len(plates["empty_wells"]) == 20
    assert plates["wells"][:2] == ["B2", "C3"]
    assert not set(plates["empty_wells"]) & set(plates["wells"])


def test_stdout(sheet, capsys):
    """With -o - the sheet goes to stdout, the account to stderr."""
    assert run(["layout", sheet, "--batches", "2", "--balance", "sex", "-o", "-"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith('id,"arm, dose",sex,age,subject,batch\n')
    assert "24 specimens in 2 batches of 12" in said.err


def test_refusal_writes_nothing(sheet, tmp_path, capsys):
    """Impossible constraints: exit code 1, by how much, no file; with --json a refusal."""
    words = ["layout", sheet, "--batches", "4", "--balance", "sex", "--capacity", "5"]
    words += ["-o", str(tmp_path / "o.csv")]

    assert run(words) == 1
    said = capsys.readouterr()
    assert "24 specimens do not fit 4 batches with 20 places; needed: 4 more places" in said.err
    assert run([*words, "--json"]) == 1
    refusal = document(capsys)["refusal"]
    assert (refusal["kind"], refusal["needed"]) == ("unresolved", "4 more places")
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--plate", "8x"], 2),
        (["--empty-wells", "edge"], 2),
        (["--lock-wells", "age"], 2),
        (["--plate", "4x6", "--empty-wells", "Z9"], 2),
        (["--plate", "4x6", "--lock-wells", "subject"], 3),
        (["--capacity", "many"], 2),
        (["--batches", "1"], 2),
        (["--balance", "dose"], 3),
        (["-o", "o.docx"], 3),
        (["-o", "s.csv"], 2),
    ],
)
def test_wrong_words(sheet, tmp_path, monkeypatch, capsys, words, code):
    """Usage errors have exit code 2, bad data 3."""
    monkeypatch.chdir(tmp_path)
    base = ["layout", "s.csv"]
    defaults = {"--batches": "2", "--balance": "sex", "-o": "o.csv"}
    defaults |= dict(zip(words[::2], words[1::2], strict=True))
    for name, value in defaults.items():
        base += [name, value]

    assert run(base) == code
