"""AnnData as Zarr stores: the result is a layer of a copy that is finished or refused."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from batchsense.errors import DataError
from batchsense.experiments import read, write
from batchsense.experiments.tables import annotated

anndata = pytest.importorskip("anndata")
zarr = pytest.importorskip("zarr")

VALUES = np.random.default_rng(3).poisson(1.5, size=(6, 40)).astype(np.float32)
IDS = [f"s{i}" for i in range(6)]


def save(path, values=VALUES, version=2, **options):
    """Write a store by anndata."""
    obs = pd.DataFrame({"lane": pd.Categorical([*"abcabc"])}, index=IDS)
    var = pd.DataFrame(index=[f"g{j}" for j in range(values.shape[1])])
    with anndata.settings.override(zarr_write_format=version), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anndata.AnnData(values, obs=obs, var=var).write_zarr(path, **options)
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_result_is_a_layer(tmp_path, version, sparse):
    """X is untouched, the layer has X's type, uns says what was done and that it is complete."""
    path = save(tmp_path / "a.zarr", csr_matrix(VALUES) if sparse else VALUES, version)
    table = read(path)
    write(table, table.values / 3, tmp_path / "o.zarr", {"method": "linear", "keep": []})
    out = anndata.read_zarr(tmp_path / "o.zarr")
    X = out.X.toarray() if sparse else out.X

    assert np.array_equal(table.values, VALUES)
    assert table.categorical == {"lane"}
    assert np.array_equal(X, VALUES)
    assert out.layers["batchsense"].dtype == np.float32
    assert np.array_equal(out.layers["batchsense"], (VALUES.astype(float) / 3).astype(np.float32))
    assert {k: str(v) for k, v in out.uns["batchsense"].items()} == {
        "method": "linear",
        "complete": "True",
    }
    assert dict(zarr.open_group(tmp_path / "o.zarr").attrs)["batchsense"] == {"complete": True}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "o.zarr"]


@pytest.mark.parametrize("name", ["a.zarr", "a.h5ad"])
def test_the_outline_is_that_of_the_whole_file(tmp_path, name):
    """Annotation and names of layers without the numbers: the sheet that reading gives."""
    obs = pd.DataFrame({"lane": [*"abcabc"], "day": [1.0, 2, 3, np.nan, 5, 6]}, index=IDS)
    data = anndata.AnnData(VALUES, obs=obs, layers={"counts": VALUES, "b": VALUES})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (data.write_zarr if name.endswith(".zarr") else data.write_h5ad)(tmp_path / name)
    sheet, layers = annotated.outline(tmp_path / name)

    assert sheet == annotated.read(tmp_path / name)[1]
    assert sorted(layers) == ["b", "counts"]


def test_an_outline_of_something_else_is_refused(tmp_path):
    """A store without annotation is no AnnData file."""
    zarr.open_group(tmp_path / "a.zarr", mode="w")

    with pytest.raises(DataError, match="not an AnnData file"):
        annotated.outline(tmp_path / "a.zarr")


def test_a_result_may_be_corrected_again(tmp_path):
    """The layer and provenance of an earlier run are replaced."""
    table = read(save(tmp_path / "a.zarr"))
    write(table, table.values / 3, tmp_path / "o.zarr", {"method": "linear", "batch": "lane"})
    second = read(tmp_path / "o.zarr")
    write(second, second.values / 7, tmp_path / "p.zarr", {"method": "combat"})
    out = anndata.read_zarr(tmp_path / "p.zarr")

    assert np.array_equal(out.layers["batchsense"], (VALUES.astype(float) / 7).astype(np.float32))
    assert set(out.uns["batchsense"]) == {"method", "complete"}


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_unfinished_results_are_refused(tmp_path, kind):
    """A result whose mark is not set cannot be read, as a file or as a store."""
    if kind == "zarr":
        save(tmp_path / "a.zarr")
    else:
        anndata.AnnData(VALUES, obs=pd.DataFrame({"lane": [*"abcabc"]}, index=IDS)).write_h5ad(
            tmp_path / "a.h5ad"
        )
    table = read(tmp_path / f"a.{kind}")
    out = tmp_path / f"o.{kind}"
    write(table, table.values / 3, out)
    assert np.array_equal(read(out).values, VALUES)

    if kind == "zarr":
        root = zarr.open_group(out, mode="r+", use_consolidated=False)
        root.attrs["batchsense"] = {"complete": False}
    else:
        import h5py

        with h5py.File(out, "r+") as root:
            root["uns/batchsense/complete"][...] = False
    with pytest.raises(DataError, match="an unfinished result"):
        read(out)


def test_stores_that_lost_a_part_are_refused(tmp_path):
    """A sparse store that lacks a chunk of its values is refused, not read as zeros."""
    path = save(tmp_path / "a.zarr", csr_matrix(VALUES), 2, chunks=[2, 40])
    (chunk,) = (path / "X" / "data").glob("0")
    chunk.unlink()
    with pytest.raises(DataError, match="chunks of X are missing"):
        read(path)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_layers(tmp_path, kind):
    """A layer is read by its name, the corrected one too; an unknown one is refused with others."""
    path = tmp_path / f"a.{kind}"
    data = anndata.AnnData(VALUES, pd.DataFrame({"lane": [*"abcabc"]}, index=IDS))
    data.layers["counts"] = csr_matrix(VALUES * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_h5ad(path) if kind == "h5ad" else data.write_zarr(path)
    table = read(path, layer="counts")
    write(table, table.values + 1, tmp_path / f"o.{kind}")
    out = tmp_path / f"o.{kind}"

    assert np.array_equal(table.values, VALUES * 2)
    assert np.array_equal(read(out).values, VALUES)
    assert np.array_equal(read(out, layer="batchsense").values, VALUES * 2 + 1)
    with pytest.raises(DataError, match="no layer 'count'; there are 'counts'"):
        read(path, layer="count")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    """A write that fails half-way leaves neither a store nor a temporary one."""
    table = read(save(tmp_path / "a.zarr"))

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anndata.io.write_elem", fail)
    with pytest.raises(DataError, match="cannot be written: No space left"):
        write(table, table.values, tmp_path / "o.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_what_is_no_store(tmp_path):
    """A missing folder, a plain folder and a store of something else are typed errors."""
    (tmp_path / "x.zarr").mkdir()
    zarr.create_array(tmp_path / "y.zarr", data=np.ones((3, 2)))
    for name, says in (("n.zarr", "no such file"), ("x.zarr", "not an"), ("y.zarr", "not an")):
        with pytest.raises(DataError, match=says):
            read(tmp_path / name)
    shutil.rmtree(save(tmp_path / "z.zarr") / "var")
    with pytest.raises(DataError, match="column without an id: number 1, 2"):
        read(tmp_path / "z.zarr")
