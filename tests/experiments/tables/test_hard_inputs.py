"""Every hard input gives a right table, with a note where one is due, or a typed error by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from batchsense.errors import DataError
from batchsense.experiments import read, write

VALUES = np.random.default_rng(5).normal(size=(6, 3))
IDS = [f"s{i}" for i in range(6)]
GENES = ["g0", "g1", "g2"]
MONTH = ["5", "5", "6", "6", "5", "6"]


def anndata_file(frame, path, obs=None):
    """Write a frame of specimens × features as AnnData."""
    import anndata

    annotation = pd.DataFrame(obs or {"month": MONTH}, index=frame.index)
    data = anndata.AnnData(frame.to_numpy(), obs=annotation, var=pd.DataFrame(index=frame.columns))
    data.write_h5ad(path)


def save(frame, path):
    """Write a frame in the format that the name tells."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".h5ad":
        anndata_file(frame, path)
    else:
        frame.to_csv(path)
    return path


@pytest.fixture
def sheet(tmp_path):
    """Write the sheet."""
    pd.DataFrame({"id": IDS, "month": MONTH}).to_csv(tmp_path / "s.csv", index=False)
    return tmp_path / "s.csv"


KINDS = ["m.csv", "m.parquet", "m.h5ad"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "uint16"])
def test_types_of_numbers(tmp_path, sheet, name, dtype):
    """Every type reads as exactly its numbers; a whole result keeps a whole type, others do not."""
    frame = pd.DataFrame((VALUES * 100 + 400).astype(dtype), index=IDS, columns=GENES)
    table = read(save(frame, tmp_path / name), sheet)
    assert table.values.dtype == np.float64
    if (name, dtype) != ("m.csv", "float32"):  # text has the shortest digits of a float32
        assert np.array_equal(table.values, frame.to_numpy().astype(float))

    for factor in (2.0, 1 / 3):
        out = tmp_path / f"o_{name}"
        write(table, table.values * factor, out)
        if name == "m.h5ad":
            import anndata

            found = anndata.read_h5ad(out).layers["batchsense"]
        else:
            found = read(out, sheet).values
        wanted = table.values * factor
        if dtype == "float32" and name != "m.csv":
            wanted = wanted.astype(np.float32)
        assert np.array_equal(found, wanted)
        if name == "m.h5ad":
            whole = dtype.startswith(("int", "uint"))
            assert found.dtype == ("float64" if whole and factor < 1 else dtype)


def test_counts_in_text_stay_whole(tmp_path, sheet):
    """Counts written in digits come back in digits if they are still whole."""
    frame = pd.DataFrame(np.arange(18).reshape(6, 3), index=IDS, columns=GENES)
    table = read(save(frame, tmp_path / "m.csv"), sheet)
    write(table, table.values * 2, tmp_path / "o.csv")
    write(table, table.values / 4, tmp_path / "p.csv")

    assert (tmp_path / "o.csv").read_text().splitlines()[1] == "s0,0,2,4"
    assert (tmp_path / "p.csv").read_text().splitlines()[1] == "s0,0.0,0.25,0.5"


def test_whole_numbers_that_are_not_exact(tmp_path):
    """Whole numbers beyond 2⁵³ would be changed by reading them, and are refused."""
    pytest.importorskip("anndata")
    frame = pd.DataFrame([[2**53 + 1, 1]] * 6, index=IDS, columns=["a", "b"])
    anndata_file(frame, tmp_path / "m.h5ad")

    with pytest.raises(DataError, match="2⁵³"):
        read(tmp_path / "m.h5ad")


@pytest.mark.parametrize("name", KINDS)
def test_infinite_values(tmp_path, sheet, name):
    """Infinity is refused by specimen and feature in every format."""
    frame = pd.DataFrame(VALUES.copy(), index=IDS, columns=GENES)
    frame.loc["s4", "g1"] = -np.inf

    with pytest.raises(DataError, match=r"infinite values .*: s4 / g1"):
        read(save(frame, tmp_path / name), sheet)


@pytest.mark.parametrize("name", KINDS)
def test_missing_values(tmp_path, sheet, name):
    """A missing value stays the only missing one, from file to file."""
    frame = pd.DataFrame(VALUES.copy(), index=IDS, columns=GENES)
    frame.loc["s4", "g1"] = np.nan
    table = read(save(frame, tmp_path / name), sheet)

    assert np.argwhere(np.isnan(table.values)).tolist() == [[4, 1]]
    assert np.nansum(np.abs(table.values - VALUES)) == 0


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.parametrize(
    ("name", "axis"),
    # Parquet itself refuses columns of the same name.
    [(n, a) for n in KINDS for a in ("row", "column") if (n, a) != ("m.parquet", "column")],
)
def test_duplicate_ids(tmp_path, sheet, name, axis):
    """Ids that occur twice are refused by name on either axis, in every format."""
    ids, twice = (([*IDS[:5], "s0"], GENES), "s0") if axis == "row" else ((IDS, [*"aba"]), "a")
    frame = pd.DataFrame(VALUES.copy(), *ids)
    with pytest.raises(DataError, match=f"{axis} ids occur more than once: '{twice}'"):
        read(save(frame, tmp_path / name), sheet)


def test_neither_axis_and_both(tmp_path, sheet):
    """Ids that match neither axis, or both, are refused with three unmatched ids of each side."""
    frame = pd.DataFrame(VALUES.copy(), index=[f"x{i}" for i in range(6)], columns=GENES)
    with pytest.raises(
        DataError,
        match=r"rows are 'x0', 'x1', 'x2' and 3 more; its columns are 'g0', 'g1', 'g2'; "
        r"the sheet has 's0', 's1', 's2' and 3 more",
    ):
        read(save(frame, tmp_path / "m.csv"), sheet)
    square = pd.DataFrame(np.eye(6), index=IDS, columns=IDS)
    with pytest.raises(DataError, match="match the rows and the columns"):
        read(save(square, tmp_path / "n.csv"), sheet)


@pytest.mark.parametrize(
    "labels",
    [MONTH, [5, 5, 6, 6, 5, 6], [5.0, 5.0, 6.0, 6.0, 5.0, 6.0], pd.Categorical(MONTH)],
    ids=["text", "int", "float", "categorical"],
)
def test_labels_of_every_type_are_the_same(tmp_path, labels):
    """Batch labels as text, numbers or categories correct alike."""
    from batchsense.experiments import correct

    pytest.importorskip("anndata")
    frame = pd.DataFrame(VALUES.copy(), index=IDS, columns=GENES)
    anndata_file(frame, tmp_path / "m.h5ad", {"month": labels})
    found = correct(read(tmp_path / "m.h5ad"), "month")

    assert found.batch_levels == ("5", "6")
    assert np.array_equal(
        found.values, correct(read(save_sheet(tmp_path), tmp_path / "s.csv"), "month").values
    )


def save_sheet(folder):
    """Write matrix and sheet as text."""
    pd.DataFrame({"id": IDS, "month": MONTH}).to_csv(folder / "s.csv", index=False)
    return save(pd.DataFrame(VALUES.copy(), index=IDS, columns=GENES), folder / "m.csv")


@pytest.mark.parametrize("missing", ["", "NA", "nan"])
def test_missing_labels(tmp_path, missing):
    """A missing batch label is refused by specimen."""
    from batchsense.experiments import correct

    path = save_sheet(tmp_path)
    sheet = pd.DataFrame({"id": IDS, "month": [*MONTH[:5], missing]})
    sheet.to_csv(tmp_path / "s.csv", index=False)

    with pytest.raises(DataError, match="no label for 's5'"):
        correct(read(path, tmp_path / "s.csv"), "month")


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array"])
def test_sparse_matrices(tmp_path, form):
    """Each sparse form gives the numbers of the dense one; the result is a dense layer."""
    import scipy.sparse

    anndata = pytest.importorskip("anndata")
    values = np.random.default_rng(6).poisson(0.7, size=(6, 3)).astype(np.float32)
    data = anndata.AnnData(
        getattr(scipy.sparse, form)(values), obs=pd.DataFrame({"month": MONTH}, index=IDS)
    )
    data.write_h5ad(tmp_path / "m.h5ad")
    table = read(tmp_path / "m.h5ad")
    write(table, table.values + 0.5, tmp_path / "o.h5ad")
    out = anndata.read_h5ad(tmp_path / "o.h5ad")

    assert np.array_equal(table.values, values)
    assert np.array_equal(out.X.toarray(), values)
    assert np.array_equal(out.layers["batchsense"], values + np.float32(0.5))


@pytest.mark.parametrize("suffix", ["rds", "RData", "rda"])
def test_r_files_get_a_snippet(tmp_path, sheet, suffix):
    """R's own formats are not read; the message says how to leave R with every digit."""
    (tmp_path / f"m.{suffix}").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)readRDS\(.*digits = 17.*write\.table"):
        read(tmp_path / f"m.{suffix}", sheet)


@pytest.mark.parametrize("form", ["array", "csr_matrix", "csc_array"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "float64"])
def test_objects_in_memory(form, dtype):
    """An AnnData object gives its numbers, and takes the result as a layer of its type."""
    import anndata
    import scipy.sparse

    from batchsense.experiments import correct, from_anndata, into_anndata

    values = np.random.default_rng(7).poisson(3, size=(6, 3)).astype(dtype)
    obs = pd.DataFrame({"month": pd.Categorical(MONTH)}, index=IDS)
    X = values if form == "array" else getattr(scipy.sparse, form)(values)
    data = anndata.AnnData(X, obs, pd.DataFrame(index=GENES))
    table = from_anndata(data)
    found = correct(table, "month")
    into_anndata(found, data)

    assert np.array_equal(table.values, values)
    assert table.categorical == {"month"}
    assert data.layers["batchsense"].dtype == (np.float32 if dtype == "float32" else np.float64)
    assert np.allclose(data.layers["batchsense"], found.values, rtol=1e-6)
    assert data.uns["batchsense"]["method"] == "linear"
    with pytest.raises(DataError, match=r"specimens .* 's5'"):
        into_anndata(found, data[:5].copy())
    with pytest.raises(DataError, match=r"features .* in another order"):
        into_anndata(found, data[:, ::-1].copy())


def test_arrays_of_other_types():
    """Sparse matrices and whole numbers make a table; text does not."""
    from scipy.sparse import csr_matrix

    from batchsense.experiments import Table

    sheet = {"month": MONTH}
    counts = np.arange(18).reshape(6, 3)
    assert np.array_equal(Table.from_arrays(csr_matrix(counts), sheet).values, counts)
    assert Table.from_arrays(counts, sheet).source.dtype == counts.dtype.name
    with pytest.raises(DataError, match="not numbers"):
        Table.from_arrays([["a"]] * 6, sheet)


def test_masked_values_and_labels_are_missing():
    """What a mask hides is missing, not the number beneath it."""
    from batchsense.experiments import Table

    hidden = np.zeros((6, 3), dtype=bool)
    hidden[4, 1] = True
    labels = np.ma.masked_array(np.array(MONTH), mask=[0, 0, 0, 0, 0, 1])
    for values in (VALUES, np.arange(18).reshape(6, 3)):
        table = Table.from_arrays(np.ma.masked_array(values, hidden), {"month": labels})
        assert np.isnan(table.values).tolist() == hidden.tolist()
    assert table.sheet["month"] == (*MONTH[:5], None)


def test_labels_and_ids_of_other_types():
    """Dates of numpy, bytes and whole numbers are labels by their text; arrays may be ids."""
    from batchsense.experiments import Table

    days = np.repeat(np.array(["2024-05-01", "2024-07-01"], dtype="datetime64[ns]"), 3)
    days[5] = "NaT"
    sheet = {"day": days, "month": np.array(MONTH, dtype="S1"), "plate": np.arange(6) // 3}
    table = Table.from_arrays(VALUES, sheet, np.array(IDS), pd.Index(GENES))
    numbered = Table.from_arrays(VALUES, sheet, range(6), np.arange(3))

    assert table.sheet["day"] == ("2024-05-01",) * 3 + ("2024-07-01",) * 2 + (None,)
    assert table.sheet["month"] == tuple(MONTH)
    assert table.sheet["plate"] == tuple("000111")
    assert (table.specimens, table.features) == (tuple(IDS), tuple(GENES))
    assert (numbered.specimens, numbered.features) == (tuple("012345"), tuple("012"))
    with pytest.raises(DataError, match="0 specimen ids"):
        Table.from_arrays(VALUES, sheet, [])
