"""Folders as 10x Genomics writes them, read and written back."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from scipy.io import mmwrite
from scipy.sparse import coo_array

from batchsense.errors import DataError, OutputError
from batchsense.experiments import read, write

COUNTS = np.array([[0, 3, 0, 70], [5, 0, 0, 1], [2, 2, 900, 0]])
BARCODES = ["AAAC-1", "AAAG-1", "AACT-1", "AAGT-1"]
FEATURES = [["E1", "ACTB"], ["E2", "GAPDH"], ["E3", "ACTB"]]


def save(folder, zipped=True, values=COUNTS, features="features.tsv", barcodes=BARCODES):
    """Write a folder by scipy, as a user's pipeline would."""
    folder.mkdir()
    end = ".gz" if zipped else ""
    opened = gzip.open if zipped else open
    with opened(folder / f"matrix.mtx{end}", "wb") as stream:
        mmwrite(stream, coo_array(values))
    with opened(folder / f"barcodes.tsv{end}", "wt") as stream:
        stream.write("".join(f"{name}\n" for name in barcodes))
    with opened(folder / f"{features}{end}", "wt") as stream:
        stream.write("".join("\t".join(line) + "\n" for line in FEATURES))
    return folder


@pytest.fixture
def sheet(tmp_path):
    """Write the sheet of the barcodes, in another order."""
    frame = pd.DataFrame({"id": BARCODES[::-1], "lane": ["2", "1", "2", "1"]})
    frame.to_csv(tmp_path / "sheet.csv", index=False)
    return tmp_path / "sheet.csv"


@pytest.mark.parametrize(
    ("zipped", "features"), [(True, "features.tsv"), (False, "features.tsv"), (False, "genes.tsv")]
)
def test_round_trip(tmp_path, sheet, zipped, features):
    """Same numbers, ids and kinds of files; what was done stands beside them."""
    folder = save(tmp_path / "in", zipped, features=features)
    table = read(folder, sheet)

    assert np.array_equal(COUNTS.T, table.values)
    assert table.features == ("E1", "E2", "E3")
    assert table.specimens == tuple(BARCODES)
    assert table.sheet["lane"] == ("1", "2", "1", "2")
    assert table.orientation == "features × specimens"

    result = table.values / 3 + 0.1
    write(table, result, tmp_path / "out", {"method": "linear"})
    again = read(tmp_path / "out", sheet)
    names = sorted(path.name for path in folder.iterdir())

    assert np.array_equal(result, again.values)
    assert (again.specimens, again.features) == (table.specimens, table.features)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [".batchsense", "batchsense.json", *names]
    )
    assert json.loads((tmp_path / "out" / "batchsense.json").read_text()) == {"method": "linear"}
    for name in names:
        if not name.startswith("matrix"):
            assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_counts_stay_counts(tmp_path, sheet):
    """A whole result is written as whole numbers, with its zeros left out."""
    table = read(save(tmp_path / "in", False), sheet)
    write(table, table.values * 2, tmp_path / "out")
    lines = (tmp_path / "out" / "matrix.mtx").read_text().splitlines()

    assert lines[0] == "%%MatrixMarket matrix coordinate integer general"
    assert f"3 4 {np.count_nonzero(COUNTS)}" in lines
    assert np.array_equal(read(tmp_path / "out", sheet).values, COUNTS.T * 2)


def test_the_matrix_may_be_named(tmp_path, sheet):
    """The file stands for its folder; a text file may take the result."""
    folder = save(tmp_path / "in")
    table = read(folder / "matrix.mtx.gz", sheet)
    write(table, table.values, tmp_path / "o.tsv")

    assert np.array_equal(COUNTS.T, table.values)
    assert np.array_equal(COUNTS.T, read(tmp_path / "o.tsv", sheet).values)


def test_a_folder_of_ours_is_replaced_whole(tmp_path, sheet):
    """An older result gives way to the new one; nothing temporary is left."""
    table = read(save(tmp_path / "in"), sheet)
    write(table, table.values, tmp_path / "out", {"method": "combat"})
    write(table, table.values + 1, tmp_path / "out")

    assert np.array_equal(read(tmp_path / "out", sheet).values, table.values + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "sheet.csv"]


def test_a_folder_with_other_things_stays(tmp_path, sheet):
    """A result beside which the user keeps a file, and any other folder, are not replaced."""
    table = read(save(tmp_path / "in"), sheet)
    write(table, table.values, tmp_path / "out")
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    (tmp_path / "project").mkdir()
    for name in ("out", "project"):
        with pytest.raises(OutputError, match="batchsense did not write"):
            write(table, table.values, tmp_path / name)

    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "project", "sheet.csv"]


def test_large_matrices_need_a_word(tmp_path, sheet, monkeypatch):
    """Beyond the limit a sparse matrix is unfolded only if the user says so."""
    save(tmp_path / "in")
    monkeypatch.setattr("batchsense.experiments.tables.matrix.DENSE_LIMIT_GB", 1e-9)
    with pytest.raises(DataError, match=r"makes it dense: 0\.0 GB"):
        read(tmp_path / "in", sheet)

    assert np.array_equal(read(tmp_path / "in", sheet, densify=True).values, COUNTS.T)


def test_broken_folders(tmp_path, sheet):
    """Missing, damaged or unsuitable files are typed errors that name the file."""
    save(tmp_path / "short", barcodes=BARCODES[:3])
    (tmp_path / "empty").mkdir()
    (save(tmp_path / "none") / "barcodes.tsv.gz").unlink()
    (save(tmp_path / "text", False) / "matrix.mtx").write_text("not a matrix\n")
    cut = save(tmp_path / "cut") / "matrix.mtx.gz"
    cut.write_bytes(cut.read_bytes()[:-12])
    lines = (save(tmp_path / "ended", False) / "matrix.mtx").read_text().splitlines()
    (tmp_path / "ended" / "matrix.mtx").write_text("\n".join(lines[:-1]))
    (save(tmp_path / "nameless", False) / "barcodes.tsv").write_text("a\n\nb\nc\n")
    for name, says in (
        ("short", "3 features and 3 barcodes do not fit a matrix of shape"),
        ("empty", r"a folder without a matrix\.mtx"),
        ("none", r"no barcodes\.tsv"),
        ("text", "not a Matrix Market file"),
        ("cut", "damaged"),
        ("ended", "damaged"),
        ("nameless", "barcode without an id: number 2"),
    ):
        with pytest.raises(DataError, match=says):
            read(tmp_path / name, sheet)


@pytest.mark.parametrize("output", ["o.h5ad", "o.zarr"])
def test_results_of_another_kind(tmp_path, sheet, output):
    """A layer needs an X beside it; a folder needs the folder it came from."""
    table = read(save(tmp_path / "in"), sheet)
    with pytest.raises(DataError, match="needs an"):
        write(table, table.values, tmp_path / output)
    write(table, table.values, tmp_path / "o.csv")
    text = read(tmp_path / "o.csv", sheet)
    with pytest.raises(DataError, match="needs such a folder as input"):
        write(text, text.values, tmp_path / "o.mtx")


@pytest.mark.parametrize("output", ["in", "in/new"])
def test_the_input_is_not_replaced(tmp_path, sheet, output):
    """A result in the place of the input, or inside it, is refused."""
    table = read(save(tmp_path / "in") / "matrix.mtx.gz", sheet)
    with pytest.raises(DataError, match="in the folder of the input"):
        write(table, table.values, tmp_path / output)
