"""Files as other programs leave them: harmless oddities change no digit, and no label is HTML."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from batchsense.cli.main import run

IDS = [f"s{i}" for i in range(12)]
MONTH, DRUG = ["May"] * 6 + ["July"] * 6, ["no", "yes"] * 6
VALUES = np.random.default_rng(0).normal(size=(12, 4)) + np.repeat([0.0, 2.0], 6)[:, None]


def matrix(ids=IDS, features="abcd"):
    """Write the matrix as text."""
    lines = [",".join(["id", *features])]
    lines += [",".join([i, *map(repr, row.tolist())]) for i, row in zip(ids, VALUES, strict=True)]
    return "\n".join(lines) + "\n"


def sheet(ids=IDS, month=MONTH, drug=DRUG):
    """Write the sheet as text."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(["id", "month", "drug"])
    lines.writerows(zip(ids, month, drug, strict=True))
    return stream.getvalue()


def turned(text):
    """Turn the order of all lines but the first."""
    first, *rest = text.splitlines()
    return "\n".join([first, *rest[::-1]]) + "\n"


PLAIN = matrix(), sheet()
ODD = {
    "a byte-order mark": tuple("\ufeff" + text for text in PLAIN),
    "lines of Windows": tuple(text.replace("\n", "\r\n") for text in PLAIN),
    "lines of old Macs": tuple(text.replace("\n", "\r") for text in PLAIN),
    "blank lines": tuple(text.replace("\n", "\n\n") for text in PLAIN),
    "no last line end": tuple(text.rstrip() for text in PLAIN),
    "spaces around labels": (matrix(), sheet(month=[" May", "May "] * 3 + ["July\t"] * 6)),
    "spaces that do not break": (matrix(), sheet(month=["May", "May\u00a0"] * 3 + ["July"] * 6)),
    "spaces around ids": (matrix([f"{i} " for i in IDS]), sheet([f" {i}" for i in IDS])),
    "labels with commas": (matrix(), sheet(drug=["no, none", "yes"] * 6)),
    "labels of other scripts": (matrix(), sheet(month=["五月"] * 6 + ["juillet é"] * 6)),
    "dates": (matrix(), sheet(month=["2024-05-01"] * 6 + ["2024-07-01"] * 6)),
    "another order": (matrix(), turned(sheet())),
    "further rows": (matrix(), sheet() + "s99,June,no\n"),
    "names of rows as R writes them": (matrix().replace("id,", "", 1), sheet()),
    "a text that looks like none": (matrix(), sheet(drug=["None", "yes"] * 6)),
    "ids with leading zeros": (
        matrix([f"{i:03d}" for i in range(12)]),
        sheet([f"{i:03d}" for i in range(12)]),
    ),
}


def corrected(folder, texts):
    """Correct from the command line; give the numbers."""
    for name, text in zip(("m.csv", "s.csv"), texts, strict=True):
        (folder / name).write_bytes(text.encode())
    words = ["correct", f"{folder}/m.csv", f"{folder}/s.csv", "--batch", "month", "--keep", "drug"]
    assert run([*words, "-o", f"{folder}/o.csv", "--force", "--json"]) == 0
    lines = list(csv.reader((folder / "o.csv").read_text().splitlines()))
    return [line[1:] for line in lines[1:]]


@pytest.mark.parametrize("texts", ODD.values(), ids=ODD)
def test_harmless_oddities_change_no_digit(tmp_path, capsys, texts):
    """The corrected numbers are those of the plain files, digit by digit."""
    assert corrected(tmp_path, PLAIN) == corrected(tmp_path, texts)


def test_labels_are_no_html(tmp_path, capsys):
    """Labels and names that are markup stand as text in every report."""
    evil = "<script>alert(1)</script>"
    (tmp_path / "m.csv").write_text(matrix(features=["<b>a</b>", "b", "c", "d"]))
    odd = sheet(month=[evil] * 6 + ["J\"&'"] * 6, drug=["a&b", "<i>x</i>"] * 6)
    (tmp_path / "s.csv").write_text(odd)
    files = [f"{tmp_path}/m.csv", f"{tmp_path}/s.csv"]
    columns = ["--batch", "month", "--keep", "drug"]
    tested = ["--batch", "month", "--contrast", "drug"]
    layout = ["--batches", "2", "--balance", "drug,month"]
    for words in (
        ["diagnose", *files, *columns, "--permutations", "20"],
        ["correct", *files, *columns, "-o", f"{tmp_path}/o.csv"],
        ["test", *files, *tested, "-o", f"{tmp_path}/t.tsv"],
        ["layout", files[1], *layout, "-o", f"{tmp_path}/l.csv"],
    ):
        report = tmp_path / f"{words[0]}.html"
        assert run([*words, "--report", str(report)]) == 0
        page = report.read_text()
        assert "&lt;i&gt;x" in page or "&lt;script&gt;alert" in page
        assert not any(mark in page for mark in (evil, "<b>a</b>", "<i>x</i>"))


def test_a_stray_cell_of_a_workbook(tmp_path, capsys):
    """An entry in the last cell that a worksheet has is named, and costs what one cell costs."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [["id", "arm"], *([i, "ab"[k % 2]] for k, i in enumerate(IDS))]:
        book.active.append(row)
    book.active["XFD1048576"] = "x"
    book.save(tmp_path / "s.xlsx")
    words = ["layout", f"{tmp_path}/s.xlsx", "--batches", "2", "--balance", "arm"]

    assert run([*words, "-o", f"{tmp_path}/o.csv"]) == 3
    assert "cell XFD1048576 holds 'x'" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def test_a_workbook_gives_the_same_numbers(tmp_path, capsys):
    """A matrix in a workbook is corrected as its text is, and the result is text.

    openpyxl writes 16 digits, where the text has 17.
    """
    openpyxl = pytest.importorskip("openpyxl")
    plain = corrected(tmp_path, PLAIN)
    book = openpyxl.Workbook()
    book.active.append(["id", *"abcd"])
    for name, row in zip(IDS, VALUES.tolist(), strict=True):
        book.active.append([name, *row])
    book.save(tmp_path / "m.xlsx")
    words = ["correct", f"{tmp_path}/m.xlsx", f"{tmp_path}/s.csv", "--batch", "month"]

    assert run([*words, "--keep", "drug", "-o", f"{tmp_path}/o.csv", "--force"]) == 0
    lines = list(csv.reader((tmp_path / "o.csv").read_text().splitlines()))
    found = [list(map(float, line[1:])) for line in lines[1:]]
    assert np.allclose(np.array(plain, dtype=float), found, rtol=1e-14, atol=1e-14)
