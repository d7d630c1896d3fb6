"""Wrong input of every kind gives a readable page with the right status, never a traceback."""

from __future__ import annotations

import pytest

from batchsense.questions.diagnose.request import DiagnoseRequest

GOOD_SHEET = "id,month,drug\ns1,May,no\ns2,May,yes\ns3,July,no\ns4,July,yes\n"
GOOD_MATRIX = "id,a,b\ns1,1,2\ns2,2,1\ns3,4,3\ns4,3,5\n"


def readable(answer, status, *words):
    """Check status and words, and that nothing of the inside shows."""
    assert answer.status_code == status, answer.text[-1500:]
    for word in words:
        assert word in answer.text
    for inside in ("Traceback", "site-packages", "batchsense-web-", 'File "'):
        assert inside not in answer.text
    assert answer.text.count("<h1>") == 1


def send(browser, matrix=None, sheet=None, command="diagnose"):
    """Send files by name and contents."""
    parts = {"matrix": matrix, "sheet": sheet}
    files = {name: part for name, part in parts.items() if part is not None}
    return browser.post(f"/{command}/files", files=files or {"matrix": ("", b"")})


@pytest.mark.parametrize("command", ["diagnose", "correct"])
@pytest.mark.parametrize(
    ("matrix", "sheet", "words"),
    [
        (None, None, "No matrix was chosen"),
        (("m.csv", GOOD_MATRIX), None, "m.csv: a sheet is needed"),
        (("m.xls", b"PK"), ("s.csv", GOOD_SHEET), "unknown kind of file"),
        (("m", b"1"), ("s.csv", GOOD_SHEET), "unknown kind of file"),
        (("m.csv", b""), ("s.csv", GOOD_SHEET), "m.csv: the file is empty"),
        (("m.csv", GOOD_MATRIX), ("s.h5ad", b"x"), "a sheet is one of .csv"),
        (("m.csv", GOOD_MATRIX), ("s.csv", "id,month\n"), "s.csv: the sheet is empty"),
        (("m.csv", GOOD_MATRIX), ("s.csv", "id,a,a\n1,2,3\n"), "more than once"),
        (("m.csv", GOOD_MATRIX), ("s.csv", "id,a\n1,2,3,4\n"), "s.csv: line 2 has 4 cells"),
        (("m.csv", GOOD_MATRIX), ("s.csv", b"\xff\xfe\x00"), "not UTF-8"),
        (("m.csv", GOOD_MATRIX), ("s.csv.gz", b"no gzip"), "damaged"),
        (("m.csv", GOOD_MATRIX), ("s.parquet", b"no parquet"), "s.parquet"),
        (("m.h5ad", b"no hdf5"), None, "not an AnnData file"),
    ],
)
def test_wrong_files_are_refused_with_reason(browser, command, matrix, sheet, words):
    """What is wrong with the files is said before any column is chosen."""
    readable(send(browser, matrix, sheet, command), 422, words)


@pytest.mark.parametrize(
    ("matrix", "fields", "words"),
    [
        (GOOD_MATRIX, {}, "“Batch column” is needed"),
        (GOOD_MATRIX, {"batch": "mnth"}, "did you mean &#39;month&#39;?"),
        (GOOD_MATRIX, {"batch": "month", "keep": "dose"}, "no column &#39;dose&#39;"),
        (GOOD_MATRIX, {"batch": "month", "keep": "month"}, "month"),
        (GOOD_MATRIX, {"batch": "month", "seed": "-1"}, "Seed"),
        (GOOD_MATRIX, {"batch": "month", "permutations": "1e9"}, "Permutations"),
        (GOOD_MATRIX, {"batch": "month", "id": "drug"}, "m.csv"),
        (GOOD_MATRIX.replace("s3", "x3"), {"batch": "month"}, "&#39;x3&#39;"),
        (GOOD_MATRIX.replace("5", "five"), {"batch": "month"}, "which is not a number"),
        (GOOD_MATRIX.replace("5", "inf"), {"batch": "month"}, "infinite values"),
        ("id,a\ns1,1\ns2,2\n", {"batch": "month"}, "month"),
        ("id;a\ns1;1\n", {"batch": "month"}, "semicolons"),
    ],
)
def test_wrong_choices_and_matrices_are_refused_with_reason(browser, matrix, fields, words):
    """Columns, numbers and cells that cannot be used are named by file and place."""
    assert send(browser, ("m.csv", matrix), ("s.csv", GOOD_SHEET)).status_code == 200

    answer = browser.run("diagnose", **fields)
    readable(answer, 422, words)
    assert "Try again" in answer.text
    assert browser.get("/diagnose/result.json").status_code == 404


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target": "train.py:job"}, "may name only digits and charlm"),
        ({"budget": "0"}, "Seconds"),
        ({"budget": "forever"}, "Seconds"),
        ({"tolerance": "nan"}, "Tolerance"),
        ({"confidence": "1"}, "Confidence"),
        ({"min": "64", "max": "32"}, "“Max” 32 is below “Min” 64"),
        ({"memory": "-1"}, "Memory"),
        ({"seed": "٣"}, "Seed"),
    ],
)
def test_wrong_plans_are_refused_with_reason(browser, fields, words):
    """Numbers out of bounds are named by the label of their field."""
    readable(browser.run("plan", **fields), 422, words)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/diagnose/result", 404),
        ("/correct/file", 404),
        ("/diagnose/columns", 404),
        ("/plan/run", 405),
    ],
)
def test_wrong_addresses_are_answered_in_words(browser, path, status):
    """A page that is not there says what to do."""
    readable(browser.get(path), status)


def test_a_form_that_is_none_is_refused(browser):
    """A broken body is a bad request, not a bug."""
    headers = {**browser.own, "Content-Type": "multipart/form-data; boundary=x"}
    answer = browser.client.post("/diagnose/files", headers=headers, content=b"nothing")
    readable(answer, 400)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"[" * 100_000, "not a JSON document"),
        (b"{}", "not a plan"),
    ],
)
def test_a_plan_that_is_none_is_refused(browser, document, words):
    """Also one that no reader of JSON can follow to its end."""
    browser.post("/verify/files", files={"plan": ("p.json", document)})
    readable(browser.run("verify"), 422, words)


def test_a_plan_that_is_too_large_is_refused(browser, monkeypatch):
    """JSON takes ten times its size in memory; no plan is large."""
    monkeypatch.setattr("batchsense.web.files.uploads._LARGEST_DOCUMENT", 1000)
    answer = browser.post("/verify/files", files={"plan": ("p.json", b"1" * 1001)})
    readable(answer, 422, "no plan is so large")


@pytest.mark.parametrize(
    ("name", "table", "words"),
    [
        ("s.xlsx", b"PK", "measured steps are one of"),
        (
            "s.csv",
            b"nodes,workers,micro_batch,seconds\n1,1,8,-1\n" + b"1,1,8,1\n" * 200,
            "so large",
        ),
    ],
)
def test_steps_that_are_none_are_refused(browser, monkeypatch, name, table, words):
    """A file of another kind, and one with more rows than anyone measures."""
    monkeypatch.setattr("batchsense.web.files.uploads._LARGEST_DOCUMENT", 1000)
    readable(browser.post("/workers/files", files={"steps": (name, table)}), 422, words)


def test_a_row_of_steps_that_cannot_be_is_named(browser):
    """By the name that the visitor knows, with its line."""
    table = b"nodes,workers,micro_batch,seconds\n1,1,8,-1\n"
    browser.post("/workers/files", files={"steps": ("s.csv", table)})
    readable(browser.run("workers"), 422, "s.csv, line 2")


def test_a_missing_extra_is_named(browser, monkeypatch):
    """Without torch the plan page gives the pip command."""
    import sys

    monkeypatch.setitem(sys.modules, "batchsense.training", None)
    monkeypatch.delitem(sys.modules, "batchsense.training")
    monkeypatch.setitem(sys.modules, "torch", None)
    readable(browser.run("plan", budget="1"), 501, "pip install &#39;batchsense[training]&#39;")


def test_a_bug_shows_no_inside(browser, monkeypatch):
    """A fault of ours is a readable page that says whose fault it is."""

    def broken(*_):
        raise ZeroDivisionError("secret of the inside")

    monkeypatch.setattr(DiagnoseRequest, "table", broken)
    answer = browser.run("diagnose", data="digits", batch="form")
    readable(answer, 500, "bug of batchsense", "ZeroDivisionError")
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers
