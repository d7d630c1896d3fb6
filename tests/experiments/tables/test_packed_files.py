"""Small files that unfold to large tables are refused before memory is laid out for them."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from batchsense.errors import DataError
from batchsense.experiments import read
from batchsense.experiments.tables.reading import read_sheet


@pytest.fixture
def sheet(tmp_path):
    """Write the sheet."""
    (tmp_path / "s.csv").write_text("id,run\nw,a\nx,b\ny,a\nz,b\n")
    return tmp_path / "s.csv"


@pytest.fixture
def low_limit(monkeypatch):
    """A limit of 1 MB in the place of 4 GB, so that small files show the rule."""
    monkeypatch.setattr("batchsense.experiments.tables.matrix.DENSE_LIMIT_GB", 1e-3)


def test_text_of_zeros(tmp_path, sheet, low_limit):
    """Packed text is judged while it is read, and --densify lets it pass."""
    with gzip.open(tmp_path / "m.csv.gz", "wb", compresslevel=9) as file:
        file.write(("id" + ",0" * 2_000).replace(",0", ",{}").format(*range(2_000)).encode())
        for name in "wxyz":
            file.write((f"\n{name}" + ",0" * 2_000).encode())
        for k in range(996):
            file.write((f"\nr{k}" + ",0" * 2_000).encode())
    with pytest.raises(DataError, match=r"unfolds to .*--densify"):
        read(tmp_path / "m.csv.gz", sheet)

    with pytest.raises(DataError, match=r"4 of 1000 row ids .* not 'r0'"):
        read(tmp_path / "m.csv.gz", sheet, densify=True)


def test_a_line_without_an_end(tmp_path, sheet):
    """A line longer than any table has is refused, not gathered."""
    with gzip.open(tmp_path / "m.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(70):
            file.write(b"id," + b"a," * 500_000)
    for ask in (lambda path: read(path, sheet), read_sheet):
        with pytest.raises(DataError, match=r"line 1 is longer than 67,108,864 signs"):
            ask(tmp_path / "m.csv.gz")


def test_parquet_of_zeros(tmp_path, sheet, low_limit):
    """Constant columns take no room in a Parquet file; what they unfold to counts."""
    pytest.importorskip("pyarrow")
    names = [f"g{k}" for k in range(20)]
    frame = pd.DataFrame(np.zeros((20_000, 20)), columns=names)
    frame.insert(0, "id", np.arange(20_000))
    frame.to_parquet(tmp_path / "m.parquet", index=False, compression="zstd")

    with pytest.raises(DataError, match="unfolds to"):
        read(tmp_path / "m.parquet", sheet)


def test_repeated_texts_of_parquet_are_kept_once(tmp_path):
    """A long label that occurs often is one object, and no column becomes a category by it."""
    pytest.importorskip("pyarrow")
    label = "x" * 5_000
    frame = pd.DataFrame(
        {"id": np.arange(20_000), "arm": label, "drug": pd.Categorical(["a"] * 20_000)}
    )
    frame.to_parquet(tmp_path / "s.parquet", index=False)
    tracemalloc.start()
    entries, declared, _ = read_sheet(tmp_path / "s.parquet")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 20e6 < len(label) * 20_000
    assert (set(entries["arm"]), declared) == ({label}, {"drug"})


@pytest.fixture
def store(tmp_path):
    """Write an AnnData file."""
    anndata = pytest.importorskip("anndata")
    obs = pd.DataFrame({"run": [*"abab"]}, index=[*"wxyz"])
    anndata.AnnData(np.ones((4, 3)), obs=obs).write_h5ad(tmp_path / "m.h5ad")
    return tmp_path / "m.h5ad"


def test_arrays_without_contents(store):
    """An HDF5 array may claim any shape without holding a number; only what is needed is read."""
    import h5py

    with h5py.File(store, "r+") as file:
        marks = dict(file["X"].attrs)
        shape = {"shape": (4, 10**9), "chunks": (1, 1000), "dtype": "f8"}
        file["obsm"].create_dataset("big", **shape).attrs.update(marks)
    assert read(store).values.tolist() == [[1.0] * 3] * 4

    with h5py.File(store, "r+") as file:
        del file["X"]
        file.create_dataset("X", **shape).attrs.update(marks)
    with pytest.raises(DataError, match=r"unfolds to 32\.0 GB or more"):
        read(store)


def test_ten_x_claims(tmp_path, sheet):
    """What the header of a Matrix Market file claims is held against its size."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "features.tsv").write_text("a\nb\nc\n")
    (folder / "barcodes.tsv").write_text("w\nx\ny\nz\n")
    head = "%%MatrixMarket matrix coordinate integer general\n"
    for claim, says in (
        ("3 4 900000000000", "more than the file can hold"),
        ("3000000 4000000 1", "makes it dense"),
        ("3 2 1", "more than 2 barcodes do not fit"),
    ):
        (folder / "matrix.mtx").write_text(f"{head}{claim}\n1 1 1\n")
        with pytest.raises(DataError, match=says):
            read(folder, sheet)
