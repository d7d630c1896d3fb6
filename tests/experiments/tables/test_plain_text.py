"""Numbers by Arrow: the same values to the bit, the same refusals and text as by Python."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments.tables import delimited, writing
from batchsense.experiments.tables.delimited import reading
from batchsense.experiments.tables.matrix import RawMatrix

HEAD = "id,s1,s2,s3\n"


def rows(*cells, head=HEAD, end="\n"):
    """A file of ten plain lines with some lines among them."""
    plain = [f"g{i},{i}.5,{i + 1}.25,-{i}e-3" for i in range(5)]
    more = [f"h{i},{i}.5,{i + 1}.25,-{i}e-3" for i in range(5)]
    return head + end.join([*plain, *cells, *more]) + end


#: Files whose lines are plain, though one of them is refused for its last column.
PLAIN = {
    "decimals": rows("a,0.1,2.5,-3"),
    "seventeen digits": rows("a,0.12345678901234567,123456789.12345678,5e-324"),
    "halfway between doubles": rows("a,9007199254740993,0.1e-322,1.7976931348623157e308"),
    "thirty digits": rows("a,3.14159265358979323846264338327,0.1,100000000000000000000000000001"),
    "exponents": rows("a,1e5,1E-5,1.5e+3"),
    "leading plus": rows("a,+1,+0.5,+1e3"),
    "no digit before or after the point": rows("a,.5,5.,-.5"),
    "leading zeros": rows("a,007,00.5,-00"),
    "negative zero": rows("a,-0,-0.0,0"),
    "too small for a double": rows("a,1e-400,2e-324,-1e-999"),
    "spaces around numbers": rows("a, 1,2 , 3 "),
    "missing marks": rows("a,NA,,NaN", "b,nan,N/A,#N/A", "c,NULL,null,<NA>"),
    "missing at the end": rows("a,1,2,"),
    "CRLF": rows("a,1,2,3", end="\r\n"),
    "CR": rows("a,1,2,3", end="\r"),
    "blank lines": rows("", "   ", "a,1,2,3", ""),
    "no end of the last line": rows("a,1,2,3")[:-1],
    "quoted ids": rows('"a",1,2,3', '"b",4,5,6'),
    "quoted id with a comma": rows('"a, b",1,2,3'),
    "R without a corner": rows("a,1,2,3", head="s1,s2,s3\n"),
    "R with a quoted header": rows("a,1,2,3", head='"","s1","s2","s3"\n'),
    "comments above": "# made by us\n# twice\n" + rows("a,1,2,3"),
    "title above": "Table S1 of the paper\n\n" + rows("a,1,2,3"),
    "sep=": "sep=;\n" + rows("a,1,2,3").replace(",", ";"),
    "other letters": rows("gène,1,2,3", "β-actin,1,2,3"),
    "byte order mark": "\ufeff" + rows("a,1,2,3"),
    "counts": HEAD + "".join(f"g{i},{i},{i * 7},{i * 100}\n" for i in range(9)),
    "counts, one negative": HEAD + "g1,1,2,3\ng2,-1,2,3\n",
    "counts with a point": HEAD + "g1,1,2,3\ng2,1.0,2,3\n",
    "counts with a gap": HEAD + "g1,1,2,3\ng2,,2,3\n",
    "counts beyond 2^53": HEAD + "g1,1,2,3\ng2,9007199254740994,2,3\n",
    "id like a comment": rows("#a,1,2,3"),
    "delimiter at each end": HEAD + "g1,1,2,3,\ng2,4,5,6,\n",
    "nothing but gaps": "id,s1\na,\nb,\nc,\n",
    "one wide gap": HEAD + "g1,,,\ng2,,,\n",
    "featureCounts": "# Program:featureCounts\nGeneid,Chr,Start,End,Strand,Length,s1,s2\n"
    "g1,1;1,5;9,7;12,+;+,8,0,3\ng2,2,5,7,-,3,1,2\n",
}
#: Files that must be left to the strict reader, whether it reads or refuses them.
ODD = {
    "quoted numbers": rows('a,"1","2.5",3'),
    "quoted id with a quotation mark": rows('"a ""b""",1,2,3'),
    "quotation mark within an id": rows('a"b,1,2,3'),
    "quotation mark that is not closed": rows('"a,1,2,3'),
    "id over two lines": rows('"a\nb",1,2,3'),
    "thousands": rows('a,"1,000",2,3'),
    "underscore": rows("a,1_000,2,3"),
    "hexadecimal": rows("a,0x10,0x1p3,3"),
    "two signs": rows("a,+-1,2,3"),
    "words": rows("a,low,2,3"),
    "unfinished exponent": rows("a,1e,2,3"),
    "infinity": rows("a,inf,2,3"),
    "too large for a double": rows("a,1e400,2,3"),
    "signed NaN": rows("a,-nan,2,3"),
    "NaN with a payload": rows("a,nan(1),2,3"),
    "missing mark with spaces": rows("a, NA ,2,3"),
    "digits of other scripts": rows("a,\u0661,2,3"),
    "minus that is no hyphen": rows("a,\u22121,2,3"),
    "a sign of control": rows("a,1\x1f,2,3", "b,1\x0b,2,3", "c,\x00,2,3"),
    "short line": rows("a,1,2"),
    "long line": rows("a,1,2,3,4"),
    "empty cells behind": rows("a,1,2,3,,"),
    "delimiters only": rows(",,,"),
    "no id": rows(",1,2,3"),
    "comment between": rows("# half time"),
    "nameless column": rows("a,1,2,3", head="id,s1,s2,\n"),
    "empty column behind": HEAD.replace("\n", ",\n") + "g1,1,2,3,\ng2,4,5,6,\n",
    "header only": HEAD,
    "one column": "id\na\nb\n",
    "empty": "",
    "other separator": rows("a,1,2,3").replace(",", ";"),
}


def outcome(path):
    """What reading gives, all of it, or what it says against it."""
    try:
        found = delimited.read_matrix(path)
    except DataError as error:
        return str(error)
    bits = found.values.copy()
    bits[np.isnan(bits)] = np.nan  # NaN has many forms, all missing
    return (
        bits.view(np.int64).tolist(),
        (found.row_ids, found.column_ids, found.corner, found.dtype),
        [note.message for note in found.notes],
    )


@pytest.fixture(params=[1 << 22, 40], ids=["one block", "many blocks"])
def both_ways(request, monkeypatch):
    """Read by Python alone, then with Arrow from the first byte; tell whether Arrow read it."""
    monkeypatch.setattr(reading, "_BLOCK_SIGNS", request.param)

    def read(path):
        monkeypatch.setattr(reading, "_LARGE", 1 << 60)
        strictly = outcome(path)
        monkeypatch.setattr(reading, "_LARGE", 0)
        return strictly, outcome(path), reading._plain_rows(path, False) is not None

    return read


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_same_values_notes_and_refusals(name, both_ways, tmp_path):
    """Every odd file gives the same bits and notes, or the same words, as without Arrow."""
    path = tmp_path / "matrix.csv"
    path.write_bytes((PLAIN | ODD)[name].encode())
    strictly, quickly, plain = both_ways(path)

    assert quickly == strictly
    assert plain == (name in PLAIN)


@pytest.mark.parametrize("way", ["gzip", "UTF-16", "tabs", "spaces", "not UTF-8", "damaged gzip"])
def test_same_in_other_dress(way, both_ways, tmp_path):
    """Packed, encoded and separated otherwise, and damaged, files are read or refused the same."""
    text = rows("a,1,,3")
    name, content = {
        "gzip": ("m.csv.gz", gzip.compress(text.encode())),
        "UTF-16": ("m.csv", text.encode("utf-16")),
        "tabs": ("m.tsv", text.replace(",", "\t").encode()),
        "spaces": ("m.txt", rows("a 1 NA 3", head='"s1" "s2" "s3"\n').replace(",", " ").encode()),
        "not UTF-8": ("m.csv", rows("gène,1,2,3").encode("latin-1")),
        "damaged gzip": ("m.csv.gz", gzip.compress(text.encode())[:-9]),
    }[way]
    path = tmp_path / name
    path.write_bytes(content)
    strictly, quickly, plain = both_ways(path)

    assert quickly == strictly
    assert plain == isinstance(strictly, tuple)


def test_random_numbers_are_read_to_the_bit(both_ways, tmp_path):
    """Ten thousand doubles of random bits, written with 17 digits, come back as they were."""
    drawn = np.random.default_rng(0).integers(0, 1 << 64, 10_000, dtype=np.uint64).view(np.float64)
    numbers = drawn[np.isfinite(drawn)][:9000].reshape(-1, 10)
    head = "id," + ",".join(f"s{j}" for j in range(10)) + "\n"
    lines = (f"g{i}," + ",".join(f"{x:.17g}" for x in row) for i, row in enumerate(numbers))
    path = tmp_path / "matrix.csv"
    path.write_text(head + "\n".join(lines) + "\n")
    strictly, quickly, plain = both_ways(path)

    assert plain
    assert quickly == strictly
    assert quickly[0] == numbers.view(np.int64).tolist()


def written(matrix, delimiter, monkeypatch, many):
    """The text of a matrix, with Arrow from so many numbers on."""
    monkeypatch.setattr(writing, "_MANY", many)
    stream = io.StringIO()
    writing.write_text(matrix, stream, delimiter)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
def test_same_text(dtype, monkeypatch):
    """Numbers of every size, whole ones and gaps are written with the same signs by both ways."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(240, 30)) * 10.0 ** np.arange(-120, 120)[:, None]
    values[:, 3] = np.rint(values[:, 3] / 10.0 ** np.arange(-120, 120))
    edges = [0.0, -0.0, 1e-4, 9.9e-5, 1e10, 9999999999.0, 1e15, 1e16, 5e-324, 0.1, 1 / 3, 123456.0]
    values[:12, 4] = edges
    values[rng.random(values.shape) < 0.05] = np.nan
    if dtype == "float32":
        values = np.clip(values, -1e30, 1e30).astype(np.float32).astype(np.float64)
    elif dtype.startswith("int"):
        values = rng.integers(-(2**31), 2**31, size=values.shape).astype(np.float64)
    ids = [f"g{i}" for i in range(240)]
    ids[:5] = ['a "b"', "c,d", "e;f", " g ", "h\ni"]
    names = tuple(f"s{j}" for j in range(30))
    labels = {"month": tuple(["May", None, "July, late"] * 80)}
    matrix = RawMatrix(values, tuple(ids), names, dtype=dtype, labels=labels)
    by_python = {mark: written(matrix, mark, monkeypatch, 1 << 60) for mark in ",;\t"}

    assert by_python == {mark: written(matrix, mark, monkeypatch, 100) for mark in ",;\t"}


def test_transposed_values_are_written_in_their_order(monkeypatch):
    """A matrix that lies the other way in memory is written row by row all the same."""
    matrix = RawMatrix(np.arange(60.0).reshape(5, 12).T / 7, tuple("abcdefghijkl"), tuple("vwxyz"))

    assert written(matrix, ",", monkeypatch, 7) == written(matrix, ",", monkeypatch, 1 << 60)


def test_without_arrow_all_is_read_and_written(monkeypatch, tmp_path):
    """Where Arrow is not installed, the strict reader and Python's writer do all the work."""
    monkeypatch.setattr(reading, "arrow_is_here", lambda: False)
    monkeypatch.setattr(writing, "arrow_is_here", lambda: False)
    monkeypatch.setattr(reading, "_LARGE", 0)
    path = tmp_path / "matrix.csv"
    path.write_text(rows("a,1,2,3"))
    found = delimited.read_matrix(path)

    assert found.values.shape == (11, 3)
    assert written(found, ",", monkeypatch, 0).startswith("id,s1,s2,s3\ng0,0.5,1.25,-0.0\n")
