"""One way to read spans of rows of every kind of file, and what is refused."""

import os
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import zarr
from pyarrow import parquet

from batchsense.errors import DataError, MissingExtraError
from batchsense.storage.rows import open_rows

ROWS = 60
SPANS = [(50, 60), (3, 10), (10, 13)]
WANTED = np.r_[50:60, 3:13]
NUMBERS = np.random.default_rng(0).poisson(1.0, size=(ROWS, 5)).astype("float32")
LABELS = np.repeat(["b", "a", "c"], ROWS // 3)


def npy(folder):
    np.save(folder / "m.npy", NUMBERS)
    return folder / "m.npy"


def records(folder):
    table = np.zeros(ROWS, dtype=[("x", "f4", (5,)), ("y", ">i2")])
    table["x"], table["y"] = NUMBERS, np.arange(ROWS)
    np.save(folder / "r.npy", table)
    return folder / "r.npy"


def arrow(rows=slice(None)):
    return pa.table(
        {
            "x": pa.FixedSizeListArray.from_arrays(NUMBERS[rows].ravel(), 5),
            "y": np.arange(ROWS)[rows],
            "label": LABELS[rows],
        }
    )


def one_parquet(folder):
    parquet.write_table(arrow(), folder / "t.parquet", row_group_size=7)
    return folder / "t.parquet"


def parts(folder):
    (folder / "parts").mkdir()
    for number, rows in enumerate([slice(0, 20), slice(20, 60)]):
        parquet.write_table(arrow(rows), folder / "parts" / f"{number}.parquet", row_group_size=9)
    return folder / "parts"


def zarr_array(folder):
    array = zarr.create_array(
        str(folder / "a.zarr"), shape=(ROWS, 5), chunks=(8, 3), dtype="float32"
    )
    array[:] = NUMBERS
    return folder / "a.zarr"


def annotated(matrix):
    obs = pd.DataFrame(
        {"y": np.arange(ROWS), "label": pd.Categorical(LABELS)},
        index=[f"cell {number}" for number in range(ROWS)],
    )
    return anndata.AnnData(matrix, obs=obs, layers={"corrected": 2 * NUMBERS})


def dense_h5ad(folder):
    annotated(NUMBERS).write_h5ad(folder / "d.h5ad")
    return folder / "d.h5ad"


def csr_h5ad(folder):
    annotated(scipy.sparse.csr_matrix(NUMBERS)).write_h5ad(folder / "s.h5ad")
    return folder / "s.h5ad"


def csr_zarr(folder):
    annotated(scipy.sparse.csr_matrix(NUMBERS)).write_zarr(folder / "s.zarr")
    return folder / "s.zarr"


def read(path, columns=None):
    """Rows of some spans, taken in their order, by field."""
    with open_rows(path, columns).opened() as fill:
        rows = fill(SPANS)
        return rows.take(np.arange(len(rows)))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "name", "columns"),
    [
        (npy, "", None), (records, "x", None), (one_parquet, "x", None), (parts, "x", None),
        (zarr_array, "", None), (dense_h5ad, "X", None), (csr_h5ad, "X", None),
        (csr_zarr, "X", None),
    ],
)  # fmt: skip
def test_spans_of_every_kind(make, name, columns, tmp_path):
    """The same numbers from every file, spans in the order they were asked for."""
    assert read(make(tmp_path), columns)[name].tolist() == NUMBERS[WANTED].tolist()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", [records, one_parquet, dense_h5ad, csr_h5ad])
def test_labels_come_beside_the_numbers(make, tmp_path):
    """A chosen column, of the same rows."""
    found = read(make(tmp_path), ["y"])

    assert list(found) == ["y"]
    assert found["y"].tolist() == WANTED.tolist()


def test_a_category_comes_as_numbers_with_its_levels(tmp_path):
    """Codes of ``obs``, and what they stand for; a layer in place of X."""
    source = open_rows(csr_h5ad(tmp_path), ["layers/corrected", "label"])
    levels = next(field.levels for field in source.fields if field.name == "label")
    with source.opened() as fill:
        found = fill(SPANS).take(np.arange(len(WANTED)))

    assert [levels[code] for code in found["label"]] == LABELS[WANTED].tolist()
    assert found["layers/corrected"].tolist() == (2 * NUMBERS[WANTED]).tolist()


def test_texts_come_as_texts(tmp_path):
    """A column of a Parquet file."""
    assert read(one_parquet(tmp_path), ["label"])["label"].tolist() == LABELS[WANTED].tolist()


def fortran(folder):
    np.save(folder / "f.npy", np.asfortranarray(NUMBERS))
    return folder / "f.npy"


def objects(folder):
    np.save(folder / "o.npy", np.array([{}, "a"], dtype=object))
    return folder / "o.npy"


def texts(folder):
    np.save(folder / "u.npy", np.array(["a", "b"]))
    return folder / "u.npy"


def truncated(folder):
    os.truncate(npy(folder), 300)
    return folder / "m.npy"


def empty(folder):
    (folder / "e.npy").touch()
    return folder / "e.npy"


def no_rows(folder):
    np.save(folder / "n.npy", np.empty((0, 3)))
    return folder / "n.npy"


def no_rows_parquet(folder):
    parquet.write_table(arrow(slice(0, 0)), folder / "n.parquet")
    return folder / "n.parquet"


def truncated_parquet(folder):
    os.truncate(one_parquet(folder), 900)
    return folder / "t.parquet"


def dates(folder):
    parquet.write_table(pa.table({"d": pd.date_range("2020", periods=3)}), folder / "d.parquet")
    return folder / "d.parquet"


def unlike_parts(folder):
    path = parts(folder)
    parquet.write_table(pa.table({"x": [1.0]}), path / "9.parquet")
    return path


def truncated_h5ad(folder):
    path = dense_h5ad(folder)
    os.truncate(path, path.stat().st_size // 2)
    return path


def broken_csr(folder):
    path = csr_h5ad(folder)
    with h5py.File(path, "r+") as file:
        file["X/indptr"][ROWS] = 10**6
    return path


def table(folder):
    (folder / "t.csv").write_text("a,b\n1,2\n")
    return folder / "t.csv"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (fortran, "Fortran"), (objects, "Python objects"), (texts, "not numbers"),
        (truncated, "cut short"), (empty, "empty"), (no_rows, "no rows"),
        (no_rows_parquet, "no rows"), (truncated_parquet, "Parquet"), (dates, "timestamp"),
        (unlike_parts, "differ"), (truncated_h5ad, "AnnData"), (broken_csr, "promised"),
        (table, "read in spans"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(make, says, tmp_path):
    """An error of ours that names the file and the fault, before anything is streamed."""
    path = make(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        open_rows(path)

    assert str(tmp_path) in str(caught.value.where)


def test_a_file_that_changes_is_refused(tmp_path):
    """Between looking at it and reading it, and between two reads."""
    path = npy(tmp_path)
    source = open_rows(path)
    with source.opened() as fill:
        fill(SPANS)
        np.save(path, NUMBERS[:50])
        with pytest.raises(DataError, match="changed"):
            fill(SPANS)
    with pytest.raises(DataError, match="changed"), source.opened():
        pass


def test_missing_integers_are_refused_at_their_place(tmp_path):
    """Numbers without a word for what is missing: file, row group and column are named."""
    path = tmp_path / "m.parquet"
    parquet.write_table(pa.table({"k": [1, 2, 3, None]}), path, row_group_size=2)
    with open_rows(path).opened() as fill, pytest.raises(DataError, match="misses 1") as caught:
        fill([(2, 4)])

    assert caught.value.where.endswith("m.parquet, row group 2")


@pytest.mark.parametrize(
    ("columns", "says"), [(["z"], "no column 'z'"), ([], "no columns"), (["x", "y"], "")]
)
def test_columns_are_chosen_by_name(columns, says, tmp_path):
    """What is not there is refused with what is."""
    if says:
        with pytest.raises(DataError, match=says):
            open_rows(one_parquet(tmp_path), columns)
    else:
        assert [one.name for one in open_rows(one_parquet(tmp_path), columns).fields] == columns


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "package", "what"),
    [
        (one_parquet, "pyarrow", "Parquet files"), (zarr_array, "zarr", "Zarr stores"),
        (csr_h5ad, "h5py", "AnnData files"),
    ],
)  # fmt: skip
def test_a_missing_package_is_named(make, package, what, tmp_path, monkeypatch):
    """With the extra that brings it."""
    path = make(tmp_path)
    for name in [one for one in sys.modules if one.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{what} need the streaming extra"):
        open_rows(path)
