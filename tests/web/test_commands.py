"""Correct, test and layout as pages: every option answers what the command line answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from batchsense.cli.main import run


def command_line(capsys, *words, code=0):
    """Give what the command line prints."""
    assert run(list(words)) == code
    return capsys.readouterr().out


@pytest.fixture
def counts(tmp_path):
    """Counts of 8 specimens in two months, the second sequenced deeper."""
    rng = np.random.default_rng(7)
    mean = np.repeat([20.0, 60.0], 4)[:, None] * np.ones((8, 40))
    rows = rng.negative_binomial(8, 8 / (8 + mean))
    matrix, sheet = tmp_path / "c.csv", tmp_path / "lanes.csv"
    lines = [f"s{i}," + ",".join(map(str, row)) for i, row in enumerate(rows)]
    matrix.write_text("\n".join(["id," + ",".join(f"g{j}" for j in range(40)), *lines]) + "\n")
    labels = [f"s{i},{('May', 'July')[i // 4]},{('no', 'yes')[i % 2]}" for i in range(8)]
    sheet.write_text("\n".join(["id,month,drug", *labels]) + "\n")
    return matrix, sheet


@pytest.fixture
def people(tmp_path):
    """A sheet of 24 specimens of 12 subjects, before anything is measured."""
    path = tmp_path / "people.tsv"
    rows = [
        f"s{i}\t{'abc'[i % 3]}\t{'fm'[i * 7 % 5 % 2]}\t{40 + i * 11 % 30 + 0.5}\tp{i // 2}"
        for i in range(24)
    ]
    path.write_text("\n".join(["id\tarm\tsex\tage\tsubject", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "combat"}, ["--method", "combat"]),
        (
            {"method": "combat", "reference": "m1", "mean-only": "yes"},
            ["--method", "combat", "--reference", "m1", "--mean-only"],
        ),
        (
            {"method": "combat", "non-parametric": "yes"},
            ["--method", "combat", "--non-parametric"],
        ),
    ],
)
def test_combat_is_that_of_the_command_line(browser, files, capsys, monkeypatch, fields, words):
    """Every option of ComBat: the same document and the same matrix, byte by byte."""
    browser.send("correct", *files)
    result = browser.run("correct", batch="month", keep="drug", **fields)

    monkeypatch.chdir(files[0].parent)
    rest = ["--batch", "month", "--keep", "drug", "-o", "m-corrected.csv", *words]
    expected = command_line(capsys, "correct", "m.csv", "s.csv", *rest, "--json")
    assert expected == browser.get("/correct/result.json").text
    assert Path("m-corrected.csv").read_bytes() == browser.get("/correct/file").content
    assert " ".join(words) in result.text
    form = browser.get("/correct/again").text
    assert re.search(r'value="combat" checked', form)
    assert ('value="m1"' in form) == ("reference" in fields)


def test_counts_are_corrected_as_counts(browser, counts, capsys, monkeypatch):
    """ComBat-seq: the same counts as on the command line, without a remark that they look so."""
    browser.send("correct", *counts)
    browser.run("correct", batch="month", keep="drug", method="combat-seq")

    monkeypatch.chdir(counts[0].parent)
    words = ["--batch", "month", "--keep", "drug", "--method", "combat-seq", "--json"]
    output = ["-o", "c-corrected.csv"]
    expected = command_line(capsys, "correct", "c.csv", "lanes.csv", *words, *output)
    assert expected == browser.get("/correct/result.json").text
    assert json.loads(expected)["notes"] == []
    assert Path("c-corrected.csv").read_bytes() == browser.get("/correct/file").content


def test_who_insists_is_told_what_is_lost(browser, files, capsys, monkeypatch):
    """Despite confounding: the refusal becomes a matrix, with the warning of the command line."""
    browser.send("correct", *files)
    refused = browser.run("correct", batch="month", keep="site")
    assert "The data cannot tell" in refused.text
    result = browser.run("correct", batch="month", keep="site", **{"despite-confounding": "yes"})
    assert "gone from the corrected values" in result.text
    assert "--despite-confounding" in result.text

    monkeypatch.chdir(files[0].parent)
    words = ["--batch", "month", "--keep", "site", "--despite-confounding", "--json"]
    output = ["-o", "m-corrected.csv"]
    expected = command_line(capsys, "correct", "m.csv", "s.csv", *words, *output)
    assert expected == browser.get("/correct/result.json").text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "harmony"}, "is none of linear, combat, combat-seq"),
        ({"mean-only": "yes"}, "“Mean only” belongs to “Method” combat, not linear"),
        (
            {"method": "combat-seq", "reference": "m1"},
            "“Reference batch” belongs to “Method” combat",
        ),
        ({"method": "combat", "reference": "m9"}, "m9"),
        ({"method": "combat-seq"}, "ComBat-seq needs counts"),
    ],
)
def test_corrections_that_cannot_be_are_refused(browser, files, fields, words):
    """Unknown methods, options of another method, values that are no counts: said in words."""
    browser.send("correct", *files)
    answer = browser.run("correct", batch="month", keep="drug", **fields)

    assert answer.status_code == 422
    assert words in answer.text
    assert browser.get("/correct/file").status_code == 404


def test_a_test_is_that_of_the_command_line(browser, files, capsys, monkeypatch):
    """Roles and pairs are --contrast and --keep; document and table are the same."""
    browser.send("test", *files)
    fields = {"contrast": "drug", "contrast-lines": "month:m1-m0\n\n drug:yes-no "}
    result = browser.run("test", **fields, trend="yes", level="0.9", batch="site")

    monkeypatch.chdir(files[0].parent)
    words = ["m.csv", "s.csv", "--batch", "site", "--contrast", "drug", "--trend"]
    words += ["--contrast", "month:m1-m0", "--contrast", "drug:yes-no", "--level", "0.9"]
    expected = command_line(capsys, "test", *words, "-o", "m-tests.csv", "--json", code=1)
    assert expected == browser.get("/test/result.json").text
    assert Path("m-tests.csv").read_bytes() == browser.get("/test/file").content
    assert "Download m-tests.csv" in result.text
    inside = re.search(r'id="batchsense-numbers">(.*?)</script>', result.text, re.S)[1]
    assert json.loads(expected) == json.loads(inside)
    assert "--contrast drug --contrast month:m1-m0" in result.text
    form = browser.get("/test/again").text
    assert re.search(r'name="contrast" value="drug" checked', form)
    assert "month:m1-m0\ndrug:yes-no</textarea>" in form


def test_the_digits_are_tested_as_on_the_command_line(browser, capsys, tmp_path, monkeypatch):
    """The form offers what `batchsense test` does without files."""
    form = browser.get("/test/columns?data=digits").text
    assert 'name="batch" value="form" checked' in form
    assert "digit:8-3</textarea>" in form
    browser.run("test", data="digits", batch="form", **{"contrast-lines": "digit:8-3"})

    monkeypatch.chdir(tmp_path)
    words = ["--batch", "form", "--keep", "", "--contrast", "digit:8-3", "--json"]
    expected = command_line(capsys, "test", *words, "-o", "digits-tests.csv")
    assert expected == browser.get("/test/result.json").text


def test_surrogates_stand_for_the_batches(browser, files, capsys, monkeypatch):
    """A column of numbers in the place of the batches: as --surrogate."""
    text = files[1].read_text().splitlines()
    lines = [f"{line},{i * 7 % 11 / 3}" for i, line in enumerate(text[1:])]
    files[1].write_text("\n".join([text[0] + ",sv1", *lines]) + "\n")
    browser.send("test", *files)
    browser.run("test", contrast="drug", surrogate="sv1")

    monkeypatch.chdir(files[0].parent)
    words = ["m.csv", "s.csv", "--contrast", "drug", "--surrogate", "sv1", "-o", "m-tests.csv"]
    expected = command_line(capsys, "test", *words, "--json")
    assert expected == browser.get("/test/result.json").text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch": "month"}, "“Columns to test” is needed"),
        ({"contrast": "drug"}, "“Batch column” is needed"),
        ({"contrast": "drug", "batch": "month", "level": "1"}, "“Confidence level”"),
        ({"contrast-lines": "drug:yes-maybe", "batch": "month"}, "maybe"),
        ({"contrast-lines": "dose", "batch": "month"}, "dose"),
    ],
)
def test_wrong_tests_are_refused_with_reason(browser, files, fields, words):
    """What is missing or misspelt is said; there is no result."""
    browser.send("test", *files)
    answer = browser.run("test", **fields)

    assert answer.status_code == 422
    assert words in answer.text
    assert browser.get("/test/result.json").status_code == 404


def test_what_cannot_be_told_from_the_batches_is_not_tested(browser, files, capsys, monkeypatch):
    """The refused contrast is named, as on the command line."""
    browser.send("test", *files)
    browser.run("test", batch="month", contrast="site")

    monkeypatch.chdir(files[0].parent)
    words = ["m.csv", "s.csv", "--batch", "month", "--contrast", "site", "-o", "m-tests.csv"]
    expected = command_line(capsys, "test", *words, "--json", code=1)
    assert expected == browser.get("/test/result.json").text


def test_a_layout_is_that_of_the_command_line(browser, people, capsys, monkeypatch):
    """Every field is an option: the same document, and the same sheet to download."""
    assert browser.send("layout", people).url.path == "/layout/columns"
    fields = {"batches": "2", "balance": ["sex", "age"], "together": "subject", "plate": "4x4"}
    fields |= {"reference-specimens": "1", "seed": "3", "capacity": "15, 14", "column": "plate"}
    result = browser.run("layout", **fields, **{"kind:age": "numeric"})
    assert "Download people-layout.tsv" in result.text

    monkeypatch.chdir(people.parent)
    words = ["people.tsv", "--batches", "2", "--balance", "sex", "--balance", "age"]
    words += ["--together", "subject", "--plate", "4x4", "--reference-specimens", "1"]
    words += ["--seed", "3", "--capacity", "15, 14", "--column", "plate", "--numeric", "age"]
    expected = command_line(capsys, "layout", *words, "-o", "people-layout.tsv", "--json")
    assert expected == browser.get("/layout/result.json").text
    assert Path("people-layout.tsv").read_bytes() == browser.get("/layout/file").content
    inside = re.search(r'id="batchsense-numbers">(.*?)</script>', result.text, re.S)[1]
    assert json.loads(expected) == json.loads(inside)
    assert "batchsense layout people.tsv --batches 2 --balance sex --balance age" in result.text


def test_rows_that_must_be_apart_or_stay(browser, people, capsys, monkeypatch):
    """Apart and lock are options too; entries that are empty are free."""
    rows = people.read_text().splitlines()
    done = [row + (f"\t{i + 1}\tB{i + 2}" if i < 3 else "\t\t") for i, row in enumerate(rows[1:])]
    people.write_text("\n".join([rows[0] + "\tdone\tplace", *done]) + "\n")
    browser.send("layout", people)
    fields = {"plate": "4x6", "empty-wells": "A1-A6, D6", "lock-wells": "place"}
    browser.run("layout", batches="3", balance="arm", apart="subject", lock="done", **fields)

    monkeypatch.chdir(people.parent)
    words = ["people.tsv", "--batches", "3", "--balance", "arm", "--apart", "subject"]
    words += ["--lock", "done", "--lock-wells", "place", "--plate", "4x6"]
    words += ["--empty-wells", "A1-A6, D6", "-o", "people-layout.tsv", "--json"]
    assert command_line(capsys, "layout", *words) == browser.get("/layout/result.json").text


def test_an_impossible_layout_is_an_answer(browser, people, capsys, monkeypatch):
    """Too few places: said with what is needed; no sheet; the JSON is the refusal."""
    browser.send("layout", people)
    result = browser.run("layout", batches="4", balance="arm", capacity="5")
    assert result.status_code == 200
    assert "4 more places" in result.text
    assert browser.get("/layout/file").status_code == 404

    monkeypatch.chdir(people.parent)
    words = ["people.tsv", "--batches", "4", "--balance", "arm", "--capacity", "5"]
    expected = command_line(capsys, "layout", *words, "-o", "people-layout.tsv", "--json", code=1)
    assert expected == browser.get("/layout/result.json").text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"balance": "arm"}, "“Number of batches” is needed"),
        ({"batches": "2"}, "“Columns to balance” is needed"),
        ({"batches": "1", "balance": "arm"}, "Number of batches"),
        ({"batches": "2", "balance": "dose"}, "no column &#39;dose&#39;"),
        (
            {"batches": "2", "balance": "arm", "plate": "8 by 12"},
            "“Plate”: a plate is rows x",
        ),
        ({"batches": "2", "balance": "arm", "capacity": "many"}, "Places in a batch"),
        ({"batches": "2", "balance": "arm", "column": "sex"}, "another name"),
        ({"batches": "2", "balance": "arm", "empty-wells": "edge"}, "“Plate”, such as 8x12"),
        ({"batches": "2", "balance": "arm", "plate": "8x12", "empty-wells": "Z1"}, "no well Z1"),
    ],
)
def test_wrong_layouts_are_refused_with_reason(browser, people, fields, words):
    """Numbers, names and columns that cannot be used are named by the label of their field."""
    browser.send("layout", people)
    answer = browser.run("layout", **fields)

    assert answer.status_code == 422
    assert words in answer.text


def test_a_table_and_a_sheet_for_a_layout_are_kept_side_by_side(browser, files, people):
    """A layout does not replace the matrix that the other pages use."""
    browser.send("diagnose", *files)
    browser.send("layout", people)

    assert "m.csv with s.csv" in browser.get("/correct").text
    assert "people.tsv" in browser.get("/layout").text
    assert "m.csv, s.csv and people.tsv" in re.sub(r"\s+", " ", browser.get("/").text)
    assert browser.get("/layout/columns?data=digits").status_code == 200
