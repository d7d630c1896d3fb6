"""Plain .h5ad and Parquet files read and written without anndata and pandas: the same tables."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from batchsense.errors import DataError
from batchsense.experiments.tables import annotated, elements
from batchsense.experiments.tables.arrow import parquet
from batchsense.experiments.tables.matrix import RawMatrix

anndata = pytest.importorskip("anndata")
h5py = pytest.importorskip("h5py")

OBS = pd.DataFrame(
    {
        "run": ["May", "", " July ", "May"],
        "plate": pd.Categorical(["a", None, "b", "a"]),
        "lane": pd.Categorical([2, 1, 1, 2]),
        "dose": pd.Categorical([0.5, 1.0, np.nan, 0.5]),
        "age": [31, 40, 52, 1],
        "weight": np.array([0.1, np.nan, 3.0, 1e-9], dtype=np.float32),
        "treated": [True, False, True, False],
        "visits": pd.array([1, None, 3, 2**53 + 1], dtype="Int64"),
        "smoker": pd.array([True, None, False, True], dtype="boolean"),
        "site/a": ["NA", "x", "y", "z"],
    },
    index=["w", "x", "y", "é z"],
)
VALUES = np.arange(12.0).reshape(4, 3) / 7


def _same(one, other):
    assert one[0].values.dtype == other[0].values.dtype == np.float64
    assert one[0].values.flags.writeable
    np.testing.assert_array_equal(one[0].values, other[0].values)
    for name in ("row_ids", "column_ids", "corner", "dtype"):
        assert getattr(one[0], name) == getattr(other[0], name), name
    assert one[1:] == other[1:]


@pytest.mark.parametrize("kind", ["float64", "float32", "int32", "uint8", "csr", "csc"])
@pytest.mark.parametrize("layer", [None, "raw"])
def test_annotated_files_read_as_by_anndata(tmp_path, monkeypatch, kind, layer):
    """Labels of every kind, dense and sparse numbers, X and layers."""
    values = 10 * VALUES
    if kind in ("csr", "csc"):
        from scipy import sparse

        values = getattr(sparse, f"{kind}_matrix")(np.where(values > 3, values, 0.0))
    else:
        values = values.astype(kind)
    obs = OBS.rename(columns={"site/a": "site"})
    data = anndata.AnnData(values, obs, pd.DataFrame(index=[*"abc"]), layers={"raw": values * 2})
    data.write_h5ad(tmp_path / "m.h5ad")

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "anndata.io", None)  # not asked for what is plain
        plain = annotated.read(tmp_path / "m.h5ad", layer=layer)
        outlined = annotated.outline(tmp_path / "m.h5ad")
    for reader in ("read_frame", "read_values"):
        monkeypatch.setattr(annotated, reader, lambda node: None)

    _same(plain, annotated.read(tmp_path / "m.h5ad", layer=layer))
    assert outlined == annotated.outline(tmp_path / "m.h5ad")
    assert plain[1]["visits"] == ("1", None, "3", str(2**53 + 1))


@pytest.mark.filterwarnings("ignore:.*without encoding metadata")
@pytest.mark.parametrize("old", ["obs", "var", "X"])
def test_other_layouts_are_left_to_anndata(tmp_path, old):
    """What is not marked as today's versions mark it is read all the same."""
    obs = OBS.drop(columns="site/a")
    anndata.AnnData(VALUES, obs, pd.DataFrame(index=[*"abc"])).write_h5ad(tmp_path / "m.h5ad")
    before = annotated.read(tmp_path / "m.h5ad")
    with h5py.File(tmp_path / "m.h5ad", "r+") as file:
        # A column of several numbers for each specimen is no label; old files have no marks.
        if old == "X":
            for mark in list(file["X"].attrs):
                del file["X"].attrs[mark]
        else:
            index = file[old].attrs["_index"]
            for mark in list(file[f"{old}/{index}"].attrs):
                del file[f"{old}/{index}"].attrs[mark]
    _same(annotated.read(tmp_path / "m.h5ad"), before)


def test_broken_files_are_told(tmp_path):
    """A code beyond the categories, a text that is none, a column that is missing."""
    obs = OBS.drop(columns="site/a")
    for name, breaks in (
        ("codes", lambda file: file["obs/plate/codes"].write_direct(np.full(4, 9, np.int8))),
        ("column", lambda file: file["obs"].__delitem__("run")),
        ("mask", lambda file: file["obs/visits"].__delitem__("mask")),
    ):
        path = tmp_path / f"{name}.h5ad"
        anndata.AnnData(VALUES, obs, pd.DataFrame(index=[*"abc"])).write_h5ad(path)
        with h5py.File(path, "r+") as file:
            breaks(file)
        with pytest.raises(DataError, match="not an AnnData file"):
            annotated.read(path)


def test_results_are_marked_as_by_anndata(tmp_path):
    """The elements written are those that anndata writes, mark for mark, and read back equal."""
    from anndata.io import read_elem, write_elem

    notes = {
        "method": "ComBat",
        "kept": ["drug", "é"],
        "rank": 3,
        "share": 0.25,
        "complete": False,
        "none": [],
        "sizes": [1, 2],
        "more": {"seed": np.int64(1)},
    }
    with h5py.File(tmp_path / "ours.h5", "w") as ours, h5py.File(tmp_path / "its.h5", "w") as its:
        elements.write_folder(ours, "notes", notes)
        elements.write_values(ours, "values", VALUES.T)
        write_elem(its, "notes", notes)
        write_elem(its, "values", VALUES.T)
        seen = []
        its.visititems(lambda name, node: seen.append((name, dict(node.attrs))))
        assert len(seen) == 11
        for name, marks in seen:
            assert dict(ours[name].attrs) == marks, name
            if isinstance(its[name], h5py.Dataset):
                assert ours[name].shape == its[name].shape, name
                assert ours[name].dtype.kind == its[name].dtype.kind, name
        back = read_elem(ours["notes"])
        assert [*back["kept"]] == notes["kept"]
        assert (back["method"], back["rank"], back["share"]) == ("ComBat", 3, 0.25)
        np.testing.assert_array_equal(read_elem(ours["values"]), VALUES.T)


def _frames():
    numbers = pd.DataFrame(VALUES, columns=["a", "b", "c"])
    gaps = numbers.where(numbers > 0.2)
    ids = ["w", "x", "y", "é z"]
    yield "first column", numbers.assign(id=ids)[["id", "a", "b", "c"]]
    yield "index without a name", gaps.set_axis(ids)
    yield "index with a name", gaps.set_axis(pd.Index(ids, name="a"))
    yield "single precision", gaps.astype("float32").set_axis(ids)
    yield "two precisions", gaps.astype({"a": "float32"}).set_axis(ids)
    yield "whole numbers", (10 * numbers).astype("int16").set_axis(ids)
    yield "whole numbers with a gap", (10 * gaps).round().astype("Int64").set_axis(ids)
    yield "numbered specimens", numbers.set_axis(pd.Index([7, 8, 9, 3], name="number"))
    yield "categorical ids", numbers.assign(id=pd.Categorical(ids))[["id", "a", "b", "c"]]
    yield "numbered features", numbers.set_axis([1, 2, 3], axis=1).set_axis(ids)
    yield "ids with a point", numbers.set_axis(pd.Index([1.5, 2.0, 3.0, 4.0], name="number"))
    yield "named range", numbers.set_axis(pd.RangeIndex(4, name="row"))
    yield "long ids", numbers.assign(id=[1.0, 2.0, 3.0, 4.0])[["id", "a", "b", "c"]]


@pytest.mark.parametrize(("what", "frame"), [*_frames()])
@pytest.mark.parametrize("groups", [None, 2])
def test_parquet_reads_as_by_pandas(tmp_path, monkeypatch, what, frame, groups):
    """Every form of index and every type of number, in one row group or several."""
    frame.to_parquet(tmp_path / "m.parquet", row_group_size=groups)
    plain = parquet.read_matrix(tmp_path / "m.parquet")
    left = parquet._read_plain(tmp_path / "m.parquet", False) is None
    monkeypatch.setattr(parquet, "_read_plain", lambda *_: None)
    by_pandas = parquet.read_matrix(tmp_path / "m.parquet")

    if what != "whole numbers with a gap":  # pandas remembers that these were whole
        _same((plain,), (by_pandas,))
    np.testing.assert_array_equal(plain.values, by_pandas.values)
    others = {"categorical ids", "numbered features", "ids with a point", "named range", "long ids"}
    assert left == (what in others)


def test_parquet_whose_notes_do_not_fit(tmp_path):
    """An index that was dropped is left to pandas; notes that nobody can follow are refused."""
    import pyarrow
    from pyarrow import parquet as files

    whole = pyarrow.Table.from_pandas(pd.DataFrame(VALUES, [*"wxyz"], [*"abc"]))
    path = tmp_path / "m.parquet"
    files.write_table(whole.drop_columns(["__index_level_0__"]), path)
    assert parquet.read_matrix(path).column_ids == ("b", "c")
    for noted in (b"{}", b"[1]", b'{"index_columns": ["__index_level_0__"], "column_indexes": []}'):
        files.write_table(whole.replace_schema_metadata({b"pandas": noted}), path)
        with pytest.raises(DataError, match="notes of pandas"):
            parquet.read_matrix(path)


@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "uint16"])
def test_written_parquet_reads_back(tmp_path, kind):
    """Types, gaps and labels between the ids and the numbers are kept."""
    values = np.round(10 * VALUES) if "int" in kind else np.where(VALUES > 0.3, VALUES, np.nan)
    values = values.astype(kind).astype(float)
    labels = {"run": ("May", None, "July", "é")}
    matrix = RawMatrix(values, tuple("wxyz"), ("a", "id", "c"), "id", kind, labels=labels)
    parquet.write_matrix(tmp_path / "m.parquet", matrix)
    back = pd.read_parquet(tmp_path / "m.parquet")

    assert [*back.columns] == ["id_", "run", "a", "id", "c"]
    assert set(map(str, back.dtypes.iloc[2:])) == {kind}
    np.testing.assert_array_equal(back.iloc[:, 2:].to_numpy(float), values)
    assert [None if one is None else str(one) for one in back["run"]] == [*labels["run"]]


LOADS = """
import sys
from batchsense.cli.main import run
heavy = {"pandas", "anndata", "dask", "zarr", "scipy.stats", "scipy.sparse", "sklearn", "numba"}
heavy |= {"matplotlib", "scipy.optimize", "torch"}
for kind in ("csv", "h5ad", "parquet"):
    files = [f"m.{kind}", "s.csv", "--batch", "run"]
    if kind != "h5ad":
        assert run(["diagnose", *files]) == 0
    assert run(["correct", *files, "-o", f"o.{kind}"]) == 0
    assert not heavy & set(sys.modules), (kind, heavy & set(sys.modules))
"""


def test_what_the_commands_load(tmp_path):
    """Correcting and diagnosing plain files loads no library that takes longer than the work."""
    rng = np.random.default_rng(0)
    names, genes = [f"s{k}" for k in range(12)], [f"g{k}" for k in range(30)]
    frame = pd.DataFrame(rng.normal(size=(12, 30)), names, genes)
    frame.to_csv(tmp_path / "m.csv", index_label="id")
    frame.to_parquet(tmp_path / "m.parquet")
    anndata.AnnData(frame).write_h5ad(tmp_path / "m.h5ad")
    labels = pd.DataFrame({"run": ["May", "July"] * 6}, pd.Index(names, name="id"))
    labels.to_csv(tmp_path / "s.csv")
    subprocess.run([sys.executable, "-c", LOADS], cwd=tmp_path, check=True, capture_output=True)
