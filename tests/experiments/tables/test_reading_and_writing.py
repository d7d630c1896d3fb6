"""Every format and orientation gives the same table, and takes a result back exactly."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from batchsense.errors import DataError
from batchsense.experiments import Table, read, write

VALUES = np.random.default_rng(1).normal(size=(5, 4)) * 10.0 ** np.arange(-6, 9, 4)
IDS = [f"s{i}" for i in range(5)]
FEATURES = ["alpha", "beta, 2", 'ga"mma', "delta"]
MONTH = ["May", "June", "May", "June", "May"]
NAMES = ["m.csv", "m.tsv", "m.txt", "m.csv.gz", "m.tsv.gz", "m.parquet"]


def frame(transposed=False):
    table = pd.DataFrame(VALUES.copy(), index=IDS, columns=FEATURES)
    return table.T if transposed else table


def save(table, path):
    """Write with pandas, as a user would."""
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="," if ".csv" in path.name else "\t")


@pytest.fixture
def sheet(tmp_path):
    """Write a sheet in another order than the matrix."""
    path = tmp_path / "sheet.csv"
    order = [3, 1, 4, 0, 2]
    columns = {"id": [IDS[i] for i in order], "month": [MONTH[i] for i in order]}
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_round_trip(tmp_path, sheet, name, transposed):
    """Read, write, read: same floats, ids, order and orientation, in every text and Parquet."""
    save(frame(transposed), tmp_path / name)
    table = read(tmp_path / name, sheet)

    assert np.array_equal(VALUES, table.values)
    assert (list(table.specimens), list(table.features)) == (IDS, FEATURES)
    assert list(table.sheet["month"]) == MONTH
    assert table.orientation == ("features × specimens" if transposed else "specimens × features")

    result = table.values / 3
    write(table, result, tmp_path / f"out_{name}")
    again = read(tmp_path / f"out_{name}", sheet)

    assert np.array_equal(result, again.values)
    assert (again.specimens, again.features) == (table.specimens, table.features)
    assert again.orientation == table.orientation
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"out_{name}", "sheet.csv"])


def test_text_layout_is_kept(tmp_path, sheet):
    """An unchanged table is written back byte for byte when its numbers are in shortest form."""
    text = "gene\ts0\ts1\ts2\ts3\ts4\n" + "alpha\t0.1\t-2.5\t\t1e-07\t3.0\n"
    (tmp_path / "m.tsv").write_text(text)
    table = read(tmp_path / "m.tsv", sheet)
    write(table, table.values, tmp_path / "o.tsv")

    assert (tmp_path / "o.tsv").read_text() == text


def test_sheet_as_parquet(tmp_path):
    """A Parquet sheet gives its index as the ids; numbers that are whole have no point."""
    save(frame(), tmp_path / "m.csv")
    columns = {
        "plate": [1.0, 2.0, 1.0, 2.0, 1.0],
        "drug": pd.Categorical(["1", "2", "3", "1", "2"]),
    }
    pd.DataFrame(columns, index=IDS).to_parquet(tmp_path / "s.parquet")
    table = read(tmp_path / "m.csv", tmp_path / "s.parquet")

    assert table.sheet["plate"] == ("1", "2", "1", "2", "1")
    assert table.categorical == {"drug"}


def test_float32_parquet_stays_float32(tmp_path, sheet):
    """Parquet keeps the type of the input."""
    save(frame().astype("float32"), tmp_path / "m.parquet")
    table = read(tmp_path / "m.parquet", sheet)
    write(table, table.values, tmp_path / "o.parquet")
    out = pd.read_parquet(tmp_path / "o.parquet")

    assert table.values.dtype == np.float64
    assert set(out.dtypes.iloc[1:].astype(str)) == {"float32"}


@pytest.mark.parametrize(
    ("column", "says"), [(["a", "b", "c", "d", "e"], "holds 'a'"), ([True] * 5, "holds 'True'")]
)
def test_parquet_with_text(tmp_path, sheet, column, says):
    """Text and truth values in a Parquet matrix are refused by row and column."""
    save(frame().assign(alpha=column), tmp_path / "m.parquet")

    with pytest.raises(DataError, match=rf"row 's0', column 'alpha' {says}"):
        read(tmp_path / "m.parquet", sheet)


def test_a_feature_called_id(tmp_path, sheet):
    """A feature may be called like the column of the ids, in Parquet and in text."""
    for name in ("m.parquet", "m.csv"):
        save(frame().rename(columns={"alpha": "id"}), tmp_path / name)
        table = read(tmp_path / name, sheet)
        write(table, table.values, tmp_path / f"o_{name}")

        again = read(tmp_path / f"o_{name}", sheet)
        assert again.features == table.features == ("id", *FEATURES[1:])
        assert np.array_equal(VALUES, again.values)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinite_values_are_named(tmp_path, sheet, bad):
    """An infinite value is refused with specimen and feature."""
    table = frame()
    table.loc["s2", "delta"] = bad
    save(table, tmp_path / "m.csv")

    with pytest.raises(DataError, match=r"infinite values .*: s2 / delta"):
        read(tmp_path / "m.csv", sheet)


def test_missing_values_stay_missing(tmp_path, sheet):
    """Missing values are read as NaN and written as empty cells."""
    table = frame()
    table.loc["s2", "delta"] = np.nan
    save(table, tmp_path / "m.csv")
    found = read(tmp_path / "m.csv", sheet)
    write(found, found.values, tmp_path / "o.csv")

    assert np.argwhere(np.isnan(found.values)).tolist() == [[2, 3]]
    assert np.array_equal(found.values, read(tmp_path / "o.csv", sheet).values, equal_nan=True)


def test_counts_are_noticed(tmp_path, sheet):
    """Whole numbers above 50 throughout are remarked upon, other values are not."""
    save(frame().map(lambda value: int(abs(value)) % 1000), tmp_path / "m.csv")
    save(frame(), tmp_path / "n.csv")

    assert "looks_like_counts" in [n.code for n in read(tmp_path / "m.csv", sheet).notes]
    assert read(tmp_path / "n.csv", sheet).notes == ()


def test_unknown_formats(tmp_path, sheet):
    """Unknown kinds of file are refused with the known ones."""
    save(frame(), tmp_path / "m.csv")
    (tmp_path / "m.xyz").write_text("")
    for matrix, its_sheet in ((tmp_path / "m.xyz", sheet), (tmp_path / "m.csv", "s.doc")):
        with pytest.raises(DataError, match=r"known: \.csv, \.tsv"):
            read(matrix, its_sheet)


def test_layers_are_for_anndata(tmp_path, sheet):
    """Text has no layers."""
    save(frame(), tmp_path / "m.csv")
    with pytest.raises(DataError, match="have layers"):
        read(tmp_path / "m.csv", sheet, layer="counts")


def test_sheet_is_needed(tmp_path):
    """A text matrix without a sheet is refused."""
    save(frame(), tmp_path / "m.csv")

    with pytest.raises(DataError, match="a sheet is needed"):
        read(tmp_path / "m.csv")


def test_failed_write_leaves_nothing(tmp_path, sheet):
    """A write that fails leaves neither a file nor a temporary one."""
    save(frame(), tmp_path / "m.csv")
    table = read(tmp_path / "m.csv", sheet)

    with pytest.raises(ValueError, match="shape"):
        write(table, table.values[:2], tmp_path / "o.csv")
    with pytest.raises(DataError, match="cannot be written"):
        write(table, table.values, tmp_path / "no folder" / "o.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.csv", "sheet.csv"]


@pytest.mark.parametrize(
    ("source", "output"), [("m.csv", "o.h5ad"), ("m.h5ad", "o.csv"), ("m.csv", "o.doc")]
)
def test_unsuitable_outputs(source, output):
    """An output whose format does not suit the input is refused."""
    from batchsense.experiments.tables.writing import check_format

    with pytest.raises(DataError, match=output):
        check_format(source, output)


class TestAnnData:
    """AnnData files: the result is a layer, everything else stays."""

    @pytest.fixture
    def path(self, tmp_path):
        """Write an AnnData file with float32 values."""
        anndata = pytest.importorskip("anndata")
        obs = pd.DataFrame({"month": pd.Categorical(MONTH), "drug": [1, 2, 1, 2, 2]}, index=IDS)
        data = anndata.AnnData(VALUES.astype("float32"), obs=obs, var=pd.DataFrame(index=FEATURES))
        data.write_h5ad(tmp_path / "a.h5ad")
        return tmp_path / "a.h5ad"

    def test_result_is_a_layer(self, path):
        """X is untouched, the layer holds the result in X's type, uns says what was done."""
        import anndata

        table = read(path)
        provenance = {"method": "linear", "keep": ["drug"], "notes": [], "rank_lost": 1}
        write(table, table.values / 3, path.with_name("o.h5ad"), provenance)
        out = anndata.read_h5ad(path.with_name("o.h5ad"))
        kept = {key: np.asarray(value).tolist() for key, value in out.uns["batchsense"].items()}

        assert np.array_equal(VALUES.astype("float32"), out.X)
        assert out.layers["batchsense"].dtype == np.float32
        assert np.array_equal((table.values / 3).astype("float32"), out.layers["batchsense"])
        assert json.loads(json.dumps(kept)) == {
            "method": "linear",
            "keep": ["drug"],
            "rank_lost": 1,
            "complete": True,
        }

    def test_obs_is_the_sheet(self, path):
        """Without a sheet obs serves; its categorical columns are declared."""
        table = read(path)

        assert list(table.sheet["month"]) == MONTH
        assert table.categorical == {"month"}
        assert list(table.specimens) == IDS

    def test_own_sheet(self, path, sheet):
        """A sheet of the user's is matched by id."""
        assert list(read(path, sheet).sheet["month"]) == MONTH

    def test_sparse_is_unfolded(self, path):
        """A sparse X gives the same table."""
        import anndata
        from scipy.sparse import csr_matrix

        data = anndata.read_h5ad(path)
        data.X = csr_matrix(data.X)
        data.write_h5ad(path.with_name("sparse.h5ad"))

        assert np.array_equal(read(path).values, read(path.with_name("sparse.h5ad")).values)

    def test_large_sparse_is_refused(self, path, monkeypatch):
        """A sparse X that would not fit as a dense one is refused, stating GB."""
        import anndata
        from scipy.sparse import csr_matrix

        data = anndata.read_h5ad(path)
        data.X = csr_matrix(data.X)
        data.write_h5ad(path.with_name("sparse.h5ad"))
        monkeypatch.setattr("batchsense.experiments.tables.matrix.DENSE_LIMIT_GB", 1e-9)

        with pytest.raises(DataError, match=r"makes it dense: 0\.0 GB .*--densify"):
            read(path.with_name("sparse.h5ad"))
        assert np.array_equal(
            read(path.with_name("sparse.h5ad"), densify=True).values, read(path).values
        )

    def test_not_an_h5ad(self, tmp_path):
        """A file that is no AnnData file, or none at all, is a typed error."""
        pytest.importorskip("anndata")
        (tmp_path / "x.h5ad").write_text("not HDF5")
        for name, says in (("x.h5ad", "not an AnnData file"), ("none.h5ad", "no such file")):
            with pytest.raises(DataError, match=says):
                read(tmp_path / name)


@pytest.mark.parametrize(
    ("values", "ids", "says"),
    [
        ([[1.0, 2.0]], None, "too few"),
        ([[1.0], [2.0]], ["a", "a"], "specimen ids occur more than once"),
        ([1.0, 2.0], None, "two axes"),
        ([[1.0], [np.inf]], None, "infinite"),
        ([[1.0], [2.0]], ["a"], "do not fit"),
    ],
)
def test_arrays_that_are_no_table(values, ids, says):
    """Arrays from Python are checked like files."""
    with pytest.raises(DataError, match=says):
        Table.from_arrays(values, {}, ids)


def test_sheet_column_of_wrong_length():
    """A label column of another length than the observations is refused by name."""
    with pytest.raises(DataError, match="'month' has 1 entries for 2 specimens"):
        Table.from_arrays([[1.0], [2.0]], {"month": ["May"]})
