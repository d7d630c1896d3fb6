"""The pages of ``batchsense web``: what they answer is what the command line answers."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.questions.table_request import beside
from batchsense.web.pages import OFFERED
from published import check_document


def command_line(capsys, *words, code=0):
    """Give what the command line prints."""
    assert run(list(words)) == code
    return capsys.readouterr().out


@pytest.mark.parametrize("path", ["/", "/favicon.svg", *(f"/{command}" for command in OFFERED)])
def test_pages_need_nothing_from_elsewhere(browser, path):
    """Every page is there, names no other address and holds no script."""
    answer = browser.get(path)

    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert set(re.findall(r"https?://[^\"'\s<]+", answer.text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize(
    "path",
    [
        *(f"/{command}" for command in OFFERED),
        "/diagnose/columns?data=digits",
        "/gap/columns?data=digits",
        "/correct/columns?data=digits",
        "/test/columns?data=digits",
        "/layout/columns",
    ],
)
def test_every_field_has_a_name_that_is_read_aloud(browser, files, path):
    """Each input and selection has a label; each description that is pointed to exists."""
    if path == "/layout/columns":
        browser.send("layout", files[1])
    page = browser.get(path).text
    labels = set(re.findall(r'<label[^>]* for="([^"]+)"', page))
    ids = set(re.findall(r' id="([^"]+)"', page))

    fields = re.findall(r"<(?:input|select|textarea)[^>]*>", page)
    assert fields
    for field in fields:
        if 'type="hidden"' in field or "aria-label=" in field:
            continue
        assert re.search(r' id="([^"]+)"', field)[1] in labels, field
    assert set(re.findall(r'aria-describedby="([^"]+)"', page)) <= ids
    assert page.count("<h1>") == 1


def test_a_diagnosis_is_that_of_the_command_line(browser, files, capsys, monkeypatch):
    """Files, columns, report: the JSON equals --json byte by byte, and the report carries it."""
    columns = browser.send("diagnose", *files)
    assert columns.url.path == "/diagnose/columns"
    assert "3 values: m0, m1, m2" in columns.text

    result = browser.run("diagnose", batch="month", keep="drug", permutations="40", seed="3")
    document = browser.get("/diagnose/result.json")
    report = browser.get("/diagnose/report.html")

    monkeypatch.chdir(files[0].parent)
    words = ["m.csv", "s.csv", "--batch", "month", "--keep", "drug"]
    expected = command_line(
        capsys, "diagnose", *words, "--permutations", "40", "--seed", "3", "--json"
    )
    assert expected == document.text
    for page in (result.text, report.text):
        inside = re.search(r'id="batchsense-numbers">(.*?)</script>', page, re.S)[1]
        assert json.loads(expected) == json.loads(inside)
    assert "attachment" in report.headers["content-disposition"]
    assert "<nav" in result.text
    assert "<nav" not in report.text
    assert "batchsense diagnose m.csv s.csv --batch month --keep drug" in report.text


def test_the_built_in_digits_need_no_files(browser, capsys):
    """The digits are offered with their own columns chosen, and give the numbers of the note."""
    form = browser.get("/diagnose/columns?data=digits").text
    assert 'name="batch" value="form" checked' in form

    browser.run("diagnose", data="digits", batch="form", keep="digit", permutations="20")

    words = ["--batch", "form", "--keep", "digit", "--permutations", "20", "--json"]
    expected = command_line(capsys, "diagnose", *words)
    assert expected == browser.get("/diagnose/result.json").text


def test_a_corrected_matrix_is_that_of_the_command_line(browser, files, capsys, monkeypatch):
    """The download equals the file that `correct -o` writes, and so does the document."""
    browser.send("correct", *files)
    result = browser.run("correct", batch="month", keep="drug")
    assert "Download m-corrected.csv" in result.text

    monkeypatch.chdir(files[0].parent)
    words = ["m.csv", "s.csv", "--batch", "month", "--keep", "drug", "-o", "m-corrected.csv"]
    expected = command_line(capsys, "correct", *words, "--json")
    assert expected == browser.get("/correct/result.json").text
    got = browser.get("/correct/file")
    assert Path("m-corrected.csv").read_bytes() == got.content
    assert 'filename="m-corrected.csv"' in got.headers["content-disposition"]


def test_an_anndata_file_needs_no_sheet(browser, files, tmp_path):
    """The obs of an .h5ad serve as the sheet; the result is a layer, and X stays."""
    anndata = pytest.importorskip("anndata")
    matrix = pd.read_csv(files[0], index_col=0)
    obs = pd.read_csv(files[1], index_col=0).astype(str)
    given = tmp_path / "cells.h5ad"
    anndata.AnnData(matrix.to_numpy(), obs=obs, var=pd.DataFrame(index=matrix.columns)).write_h5ad(
        given
    )

    assert browser.send("correct", given).status_code == 200
    browser.run("correct", batch="month", keep="drug")

    (tmp_path / "out.h5ad").write_bytes(browser.get("/correct/file").content)
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(matrix.to_numpy(), written.X)
    browser.send("correct", *files)
    browser.run("correct", batch="month", keep="drug")
    plain = pd.read_csv(io.StringIO(browser.get("/correct/file").text), index_col=0)
    np.testing.assert_allclose(plain.to_numpy(), written.layers["batchsense"], rtol=1e-12)
    assert next(iter(written.uns["batchsense"]["inputs"])).startswith("cells.h5ad sha256:")


def test_a_refusal_is_an_answer_in_words(browser, files, capsys, monkeypatch):
    """What cannot be told apart is named, no matrix is offered, and the JSON is the refusal."""
    browser.send("correct", *files)
    result = browser.run("correct", batch="month", keep="site")

    assert result.status_code == 200
    assert "The data cannot tell" in result.text
    assert "site[m1] = month[m1]" in result.text
    assert browser.get("/correct/file").status_code == 404
    assert browser.get("/correct/report.html").status_code == 404
    monkeypatch.chdir(files[0].parent)
    words = ["m.csv", "s.csv", "--batch", "month", "--keep", "site", "-o", "m-corrected.csv"]
    expected = command_line(capsys, "correct", *words, "--json", code=1)
    assert expected == browser.get("/correct/result.json").text


@pytest.mark.usefixtures("timed_digits")
def test_a_plan_is_measured_and_reported(browser):
    """A built-in job is planned; the document is valid and the report carries it."""
    result = browser.run("plan", target="digits", budget="1", today="32", seed="0")
    assert "examples per minibatch" in result.text

    document = json.loads(browser.get("/plan/result.json").text)
    check_document(document, "plan")
    inside = re.search(r'id="batchsense-numbers">(.*?)</script>', result.text, re.S)[1]
    assert document == json.loads(inside)
    assert document["result"]["target"] == "digits"
    assert "batchsense plan digits --budget 1 --today 32 --seed 0" in result.text


def test_measured_steps_are_sent_and_answered(browser):
    """A table of steps gives the page of the command, with the words that ask again."""
    rows = [(k, b, 0.02 + 0.001 * b + 0.1 * (k - 1)) for k in (1, 2, 4) for b in (8, 64)]
    table = "\n".join(
        ["nodes,workers,micro_batch,seconds", *(f"1,{k},{b},{t}" for k, b, t in rows)]
    )
    browser.post("/workers/files", files={"steps": ("s.csv", table.encode())})
    result = browser.run("workers", **{"workers": "1,2,4", "batch-size": "64", "seed": "0"})

    assert "4 workers are slower for certain" in result.text
    assert "batchsense workers s.csv --workers 1,2,4 --batch-size 64 --seed 0" in result.text
    document = json.loads(browser.get("/workers/result.json").text)
    check_document(document, "workers")
    assert document["inputs"][0]["path"] == "s.csv"


def test_the_form_shows_again_what_was_chosen(browser, files):
    """After an answer the choice can be changed without choosing everything anew."""
    browser.send("diagnose", *files)
    browser.run(
        "diagnose", batch="month", keep="drug", permutations="20", **{"kind:drug": "categorical"}
    )

    form = browser.get("/diagnose/again").text
    assert 'name="batch" value="month" checked' in form
    assert re.search(r'value="drug" checked', form)
    assert re.search(r'name="kind:drug".*?value="categorical" selected', form, re.S)
    assert re.search(r'id="permutations"[^>]*value="20"', form)


def test_the_name_of_the_result_follows_the_input():
    """The format of the input is kept, compressed or not."""
    assert beside("a.b.tsv.gz", "corrected") == "a.b-corrected.tsv.gz"
    assert beside("Cells.H5AD", "corrected") == "Cells-corrected.H5AD"


def test_the_placebo_can_be_left_out(browser, files, capsys, monkeypatch):
    """The form has the switch of the command line, and remembers it."""
    browser.send("diagnose", *files)
    choices = {"batch": "month", "keep": "drug", "permutations": "20"}
    assert "Placebo: what this sheet makes" in browser.run("diagnose", **choices).text

    result = browser.run("diagnose", **choices, **{"no-placebo": "yes"})
    assert "Placebo: what this sheet makes" not in result.text
    assert "--no-placebo" in result.text
    monkeypatch.chdir(files[0].parent)
    words = ["m.csv", "s.csv", "--batch", "month", "--keep", "drug", "--permutations", "20"]
    expected = command_line(capsys, "diagnose", *words, "--no-placebo", "--json")
    assert expected == browser.get("/diagnose/result.json").text
    assert re.search(r'id="no-placebo"[^>]* checked', browser.get("/diagnose/again").text)
