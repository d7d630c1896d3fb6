"""Delimited text is read strictly: every broken file is named, none is guessed at."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments.tables.delimited import read_matrix, read_sheet


@pytest.fixture
def write(tmp_path):
    """Write a text file and give its path."""

    def writer(text, name="m.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return writer


def test_ids_and_numbers(write):
    """Ids stay text (leading zeros too), numbers are read, empty and NA cells are missing."""
    raw = read_matrix(write("id,001,NA\nx,1.5,\n002,-2e3,NA\n"))

    assert raw.row_ids == ("x", "002")
    assert raw.column_ids == ("001", "NA")
    assert np.array_equal([[1.5, np.nan], [-2000, np.nan]], raw.values, equal_nan=True)


def test_header_without_corner(write):
    """A header one cell shorter than the lines, as R writes it, names the columns."""
    raw = read_matrix(write("a\tb\ng1\t1\t2\n", "m.tsv"))

    assert (raw.corner, raw.column_ids, raw.row_ids) == (None, ("a", "b"), ("g1",))


def test_quotes_marks_and_blank_lines(write):
    """Quoted ids may hold the delimiter; a byte-order mark and blank lines are skipped."""
    raw = read_matrix(write('\ufeffid,"a,1"\n\n"x, y",3\n\n'))

    assert (raw.corner, raw.column_ids, raw.row_ids) == ("id", ("a,1",), ("x, y",))


def test_compressed(tmp_path):
    """A .gz file is read through gzip; a damaged one is a typed error."""
    path = tmp_path / "m.tsv.gz"
    path.write_bytes(gzip.compress(b"id\ta\nx\t1\n"))

    assert read_matrix(path).values.tolist() == [[1.0]]

    path.write_bytes(gzip.compress(b"id\ta\n" + b"x\t1\n" * 1000)[:-12])
    with pytest.raises(DataError, match="damaged"):
        read_matrix(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("id,a\n", "no rows"),
        ("id,a\nx,abc\n", r"row 'x', column 'a' holds 'abc'"),
        ("id,a\nx,1_000\n", r"holds '1_000', which is not a number"),
        ("id,a\nx,True\n", r"holds 'True'"),
        ("id,a,b\nx,1\n", "line 2 has 2 cells where the header makes 3 expected"),
        ("id,a,b\nx,1,2\ny,1,2,3\n", "line 3 has 4 cells"),
        ("id,a,b\nx,1,2,\ny,3,4,\n", "ends with a delimiter"),
        ("id;a;b\nx;1;2\n", "separated by semicolons"),
        ("id\nx\n", "no columns"),
        ("id,\nx,\n", "no column of the header has a name"),
        ("id,a,\nx,1,2\n", "column without an id: number 2"),
        ("id,a\n,1\n", "row without an id: number 1"),
    ],
)
def test_broken_matrices(write, text, says):
    """Each kind of damage is named with its place."""
    with pytest.raises(DataError, match=says):
        read_matrix(write(text))


def test_unreadable_files(tmp_path):
    """A missing file, a folder and a file that is not text are typed errors with the path."""
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    folder = tmp_path / "d.csv"
    folder.mkdir()
    for path in (tmp_path / "none.csv", binary, folder):
        with pytest.raises(DataError, match=path.name):
            read_matrix(path)


def test_sheet_labels(write):
    """Labels are trimmed text; marks of missing values are None, 'None' is a label."""
    sheet, _ = read_sheet(write("id , drug\ns1, yes \ns2,NA\ns3,None\n", "s.csv"))

    assert sheet == {"id": ("s1", "s2", "s3"), "drug": ("yes", None, "None")}


def test_sheet_without_names(write):
    """A nameless first column is called id, whether the header leaves a cell for it or not."""
    assert list(read_sheet(write(",drug\ns1,yes\n", "s.csv"))[0]) == ["id", "drug"]
    shorter = write("drug\tage\ns1\tyes\t3\n", "s.tsv")
    assert list(read_sheet(shorter)[0]) == ["id", "drug", "age"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("id,drug\n", "the sheet is empty"),
        ("id,drug\n,\n", "the sheet is empty"),
        ("id,drug,drug\ns1,a,b\n", "more than once: 'drug'"),
        ("id,drug,\ns1,a,b\n", "without a name: number 3"),
        ("id,drug\ns1\n", "line 2 has 1 cells"),
        ("id;drug\ns1;a\n", "separated by semicolons"),
    ],
)
def test_broken_sheets(write, text, says):
    """Each kind of damage is named."""
    with pytest.raises(DataError, match=says):
        read_sheet(write(text, "s.csv"))
