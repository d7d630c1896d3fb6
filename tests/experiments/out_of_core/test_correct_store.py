"""A matrix that is never in memory as a whole is corrected to the same numbers."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from stores import FEATURES, FORMS, SPECIMENS, make, result, sheet, values

from batchsense.errors import ConfoundedError, DataError, OutputError
from batchsense.experiments import CombatCorrection, LinearCorrection, Table
from batchsense.experiments.out_of_core import StoredMatrix, ThisProcess, budget, correct_store

CORRECTIONS = [
    LinearCorrection(keep=("drug",)),
    CombatCorrection(keep=("drug", "age")),
    CombatCorrection(keep=("drug",), reference_batch="m2"),
    CombatCorrection(mean_only=True),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Take blocks of about thirty specimens."""
    monkeypatch.setattr(budget, "LARGEST_BLOCK", 30 * FEATURES * 8)


def in_memory(matrix, correction):
    """Correct the same table in memory."""
    table = Table.from_arrays(matrix, sheet().to_dict("list"), specimens=list(sheet().index))
    return correction.fit(table, "month").transform(table).values


def store(folder, name, matrix):
    """Write a matrix; its path, and what correct_store needs."""
    path = make(folder, name, matrix)
    plain = path.stem in ("plain", "sharded")
    return path, StoredMatrix(path, sheet=folder / "sheet.csv" if plain else None)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_equals_the_correction_in_memory(tmp_path, name):
    """float64 to 1e-10; ids, annotation and the original X stay."""
    matrix, correction = values(), CORRECTIONS[1]
    path, stored = store(tmp_path, name, matrix)
    output = tmp_path / f"out-{name}"

    found = correct_store(stored, output, "month", correction)

    assert np.abs(result(output) - in_memory(matrix, correction)).max() < 1e-10
    assert found.table.specimens == tuple(sheet().index)
    assert (found.learned[0].level, found.learned[0].specimens) == ("m0", 58)
    assert not (tmp_path / f"out-{name}.partial").exists()
    if stored.sheet is None:
        read = anndata.read_zarr if path.suffix == ".zarr" else anndata.read_h5ad
        before, after = read(path), read(output)
        assert (before.X != after.X).sum() == 0
        assert np.array_equal(before.obsm["pca"], after.obsm["pca"])
        assert list(after.obs["drug"]) == list(sheet()["drug"])
        assert bool(after.uns["batchsense"]["complete"])


@pytest.mark.parametrize("correction", CORRECTIONS, ids=repr)
def test_float32_stays_float32(tmp_path, correction):
    """Sums are in double precision; the result agrees to 1e-5."""
    matrix = values("float32")
    path, _ = store(tmp_path, "dense.h5ad", matrix)

    correct_store(path, tmp_path / "out.h5ad", "month", correction)

    corrected = result(tmp_path / "out.h5ad")
    assert corrected.dtype == np.float32
    assert np.abs(corrected - in_memory(matrix, correction)).max() < 1e-5


@pytest.mark.parametrize("correction", CORRECTIONS[:2], ids=["linear", "combat"])
def test_missing_values_stay_missing_and_only_they(tmp_path, correction):
    """A feature with gaps is fitted on what was observed, block by block."""
    matrix = values()
    matrix[np.random.default_rng(1).random(matrix.shape) < 0.05] = np.nan
    path, _ = store(tmp_path, "dense.h5ad", matrix)

    correct_store(path, tmp_path / "out.h5ad", "month", correction)

    corrected = result(tmp_path / "out.h5ad")
    assert np.array_equal(np.isnan(matrix), np.isnan(corrected))
    assert np.nanmax(np.abs(corrected - in_memory(matrix, correction))) < 1e-10


@pytest.mark.parametrize("correction", CORRECTIONS, ids=repr)
def test_the_removed_share_is_known_without_a_third_pass(tmp_path, correction):
    """The sums and the model give the same part as the values themselves."""
    matrix = values()
    path, _ = store(tmp_path, "dense.h5ad", matrix)
    corrected = in_memory(matrix, correction)
    share = 1 - corrected.var(axis=0).sum() / matrix.var(axis=0).sum()

    found = correct_store(path, tmp_path / "out.h5ad", "month", correction)

    assert found.removed_share == pytest.approx(share, abs=1e-12)


def test_whole_numbers_become_float64(tmp_path):
    """Counts of a CSR matrix are read as numbers, and the result is dense."""
    matrix = np.random.default_rng(2).poisson(3.0, (SPECIMENS, FEATURES)).astype("int32")
    path, _ = store(tmp_path, "csr.zarr", matrix)

    correct_store(path, tmp_path / "out.zarr", "month", CORRECTIONS[0])

    corrected = result(tmp_path / "out.zarr")
    assert corrected.dtype == np.float64
    assert np.abs(corrected - in_memory(matrix, CORRECTIONS[0])).max() < 1e-10


@pytest.mark.parametrize("name", ["dense.h5ad", "dense.zarr"])
def test_the_original_can_be_left_out(tmp_path, name):
    """Half the disk: the layer is there, X is not, all else is."""
    path, _ = store(tmp_path, name, values())
    output = tmp_path / f"out-{name}"

    correct_store(path, output, "month", CORRECTIONS[0], keep_original=False)

    after = (anndata.read_zarr if path.suffix == ".zarr" else anndata.read_h5ad)(output)
    assert after.X is None
    assert after.layers["batchsense"].shape == (SPECIMENS, FEATURES)
    assert "pca" in after.obsm


@pytest.mark.parametrize("keep_original", [True, False])
@pytest.mark.parametrize("name", ["dense.h5ad", "third.zarr"])
def test_a_layer_is_corrected_in_the_place_of_x(tmp_path, name, keep_original):
    """X and the other layers stay; the layer itself may be left out, and may be named wrongly."""
    matrix = values()
    path, _ = store(tmp_path, name, matrix)
    first, second = tmp_path / f"first-{name}", tmp_path / f"second-{name}"
    correct_store(path, first, "month", CORRECTIONS[0])  # a layer, of the name of the result

    found = correct_store(
        StoredMatrix(first, layer="batchsense"),
        second,
        "drug",
        CORRECTIONS[3],
        keep_original=keep_original,
    )

    read = anndata.read_zarr if path.suffix == ".zarr" else anndata.read_h5ad
    assert found.table.source.layer == "batchsense"
    assert np.array_equal(read(second).X, matrix)
    table = Table.from_arrays(result(first), sheet().to_dict("list"))
    expected = CORRECTIONS[3].fit(table, "drug").transform(table).values
    assert np.abs(result(second) - expected).max() < 1e-10
    with pytest.raises(DataError, match="has no layers/none; its layers are batchsense"):
        correct_store(StoredMatrix(first, layer="none"), second, "month")


def test_an_output_inside_the_input_is_refused(tmp_path):
    """A store is not copied into itself."""
    path, _ = store(tmp_path, "dense.zarr", values())

    with pytest.raises(DataError, match="lies in the folder of the input"):
        correct_store(path, path / "out.zarr", "month")


@pytest.mark.parametrize("name", ["dense.h5ad", "dense.zarr", "plain.zarr"])
def test_provenance_is_kept_and_an_older_result_replaced(tmp_path, name):
    """What was done stands in the result; correcting a result corrects its X again."""
    path, stored = store(tmp_path, name, values())
    first, second = tmp_path / f"first-{name}", tmp_path / f"second-{name}"
    about = lambda found: {"method": found.method, "notes": ["a", "b"]}  # noqa: E731

    correct_store(stored, first, "month", CORRECTIONS[0], provenance=about)
    correct_store(stored, second, "month", CORRECTIONS[0], provenance=about)
    if name != "plain.zarr":
        correct_store(first, second, "month", CORRECTIONS[1], provenance=about)

    if name == "plain.zarr":
        kept = zarr.open_array(second, mode="r").attrs["batchsense"]
        assert kept == {"method": "linear", "notes": ["a", "b"], "complete": True}
    else:
        read = anndata.read_zarr if path.suffix == ".zarr" else anndata.read_h5ad
        kept = read(second).uns["batchsense"]
        assert (kept["method"], list(kept["notes"])) == ("combat", ["a", "b"])
        assert np.abs(result(second) - in_memory(values(), CORRECTIONS[1])).max() < 1e-10


def test_a_sheet_of_its_own_is_matched_by_id(tmp_path):
    """Rows of the sheet in another order make no difference."""
    path, _ = store(tmp_path, "dense.h5ad", values())
    sheet().iloc[::-1].to_csv(tmp_path / "other.csv", index_label="id")

    stored = StoredMatrix(path, tmp_path / "other.csv")
    correct_store(stored, tmp_path / "out.h5ad", "month", CORRECTIONS[0])

    expected = in_memory(values(), CORRECTIONS[0])
    assert np.abs(result(tmp_path / "out.h5ad") - expected).max() < 1e-10


def test_an_infinite_value_is_named_by_its_place(tmp_path):
    """Specimen and feature are counted from the beginning of the matrix, not of the block."""
    matrix = values()
    matrix[123, 45] = np.inf
    path, _ = store(tmp_path, "dense.h5ad", matrix)

    with pytest.raises(DataError, match=r"infinite.*124 / 46"):
        correct_store(path, tmp_path / "out.h5ad", "month", CORRECTIONS[0])

    assert sorted(p.name for p in tmp_path.iterdir()) == ["dense.h5ad", "sheet.csv"]


def test_nothing_is_written_where_the_answer_is_no(tmp_path):
    """A kept factor that goes with the batches is refused before the matrix is read."""
    path, _ = store(tmp_path, "dense.h5ad", values())
    table = sheet().assign(clinic=[f"c{i % 2}" for i in range(SPECIMENS)])
    table.to_csv(tmp_path / "other.csv", index_label="id")

    with pytest.raises(ConfoundedError):
        correct_store(
            StoredMatrix(path, tmp_path / "other.csv"),
            tmp_path / "out.h5ad",
            "month",
            LinearCorrection(keep=("clinic",)),
        )

    assert not list(tmp_path.glob("out*"))


def test_too_little_memory_is_refused_with_what_is_needed(tmp_path):
    """A stored chunk that does not fit cannot be read in parts."""
    _, stored = store(tmp_path, "plain.zarr", values())

    with pytest.raises(DataError, match=r"at least .* are needed, .* because 25 specimens"):
        correct_store(stored, tmp_path / "out.zarr", "month", engine=ThisProcess(1_000_000))


def test_memory_for_both_passes_is_asked_for_before_any_work(tmp_path, monkeypatch):
    """Where the second pass needs more than the first, that is said before anything is read."""
    path, _ = store(tmp_path, "csr.zarr", values())
    told = []
    needed = budget.needed
    monkeypatch.setattr(  # as if the chunks of the result were huge
        budget,
        "needed",
        lambda location, size, blocks, *folded: (
            10**12 * (blocks.rows > 100) + needed(location, size, blocks, *folded)
        ),
    )

    with pytest.raises(DataError, match="because 230 specimens are stored together"):
        correct_store(
            path, tmp_path / "out.zarr", "month", progress=lambda *what: told.append(what)
        )

    assert not told
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.csv", "name a .h5ad file"),
        ("dense.h5ad", "the output is the input"),
        ("nowhere/out.h5ad", "is not a folder"),
    ],
)
def test_wrong_outputs_are_refused(tmp_path, output, message):
    """Before any work."""
    path, _ = store(tmp_path, "dense.h5ad", values())

    with pytest.raises(DataError, match=message):
        correct_store(path, tmp_path / output, "month")


def test_inputs_that_cannot_be_read_in_chunks_are_refused(tmp_path):
    """Columns first, no numbers, no X, no file, specimens in columns, rows that do not fit."""
    path, _ = store(tmp_path, "csr.h5ad", values())
    with h5py.File(path, "r+") as root:
        root["X"].attrs["encoding-type"] = "csc_matrix"
    with pytest.raises(DataError, match="stored by columns"):
        correct_store(path, tmp_path / "out.h5ad", "month")
    with h5py.File(path, "r+") as root:
        del root["X"]
    with pytest.raises(DataError, match="has no X"):
        correct_store(path, tmp_path / "out.h5ad", "month")
    with pytest.raises(DataError, match="no such file"):
        correct_store(tmp_path / "absent.h5ad", tmp_path / "out.h5ad", "month")
    turned, _ = store(tmp_path, "dense.h5ad", values())
    pd.DataFrame({"id": [f"g{j}" for j in range(FEATURES)], "month": "a"}).to_csv(
        tmp_path / "turned.csv", index=False
    )
    stored = StoredMatrix(turned, tmp_path / "turned.csv")
    with pytest.raises(DataError, match="must be its observations"):
        correct_store(stored, tmp_path / "out.h5ad", "month")
    plain, _ = store(tmp_path, "plain.zarr", values())
    sheet().iloc[1:].to_csv(tmp_path / "short.csv", index_label="id")
    stored = StoredMatrix(plain, tmp_path / "short.csv")
    with pytest.raises(DataError, match="230 rows and no ids, the sheet 229 rows"):
        correct_store(stored, tmp_path / "out.zarr", "month")


def test_progress_is_told(tmp_path):
    """Both passes count specimens up to all of them."""
    path, _ = store(tmp_path, "dense.h5ad", values())
    told = []

    correct_store(path, tmp_path / "out.h5ad", "month", progress=lambda *what: told.append(what))

    assert told.count(("summing up specimens", SPECIMENS, SPECIMENS)) == 1
    assert told[-1] == ("correcting specimens", SPECIMENS, SPECIMENS)


def test_a_sparse_store_that_lost_a_part_is_refused(tmp_path):
    """A chunk of stored values that is not there would be read as zeros."""
    path = make(tmp_path, "csr.zarr", values())
    chunk = next(p for p in (path / "X" / "data").rglob("*") if p.is_file() and p.name[0].isdigit())
    chunk.unlink()

    with pytest.raises(DataError, match="chunks of X are missing"):
        correct_store(path, tmp_path / "out.zarr", "month", CORRECTIONS[0])


def test_counts_are_remarked_upon(tmp_path):
    """Whole numbers of which some exceed 50 in the first block."""
    matrix = np.random.default_rng(2).poisson(40.0, (SPECIMENS, FEATURES)).astype("int32")
    path, _ = store(tmp_path, "dense.h5ad", matrix)

    found = correct_store(path, tmp_path / "out.h5ad", "month", CORRECTIONS[0])

    assert [note.code for note in found.table.notes] == ["looks_like_counts"]
    assert "in the first 30 specimens" in found.table.notes[0].message


def test_metadata_that_end_early_are_named(tmp_path):
    """A Zarr store whose writer was killed at the wrong moment: a typed error, no traceback."""
    path = make(tmp_path, "dense.zarr", values())
    (path / ".zmetadata").unlink(missing_ok=True)  # written last
    (path / "X" / ".zarray").write_bytes(b"")

    with pytest.raises(DataError, match="broken Zarr store"):
        correct_store(path, tmp_path / "out.zarr", "month", CORRECTIONS[0])


@pytest.mark.parametrize("name", ["plain.zarr", "dense.zarr"])
def test_only_results_of_ours_are_replaced(tmp_path, name):
    """A store that was written here gives way; one with a file of the user, or another one, not."""
    _, stored = store(tmp_path, name, values())
    (tmp_path / "other").mkdir()
    output, other = tmp_path / f"out-{name}", make(tmp_path, f"other/{name}", values())
    first = correct_store(stored, output, "month", CORRECTIONS[1])
    second = correct_store(stored, output, "month", CORRECTIONS[0])
    corrected = result(output)
    (output / "thesis.txt").write_text("years of work")
    for target in (output, other):
        with pytest.raises(OutputError, match="batchsense did not write"):
            correct_store(stored, target, "month", CORRECTIONS[1])

    assert (first.method, second.method) == ("combat", "linear")
    assert np.array_equal(result(output), corrected)
    assert (output / "thesis.txt").read_text() == "years of work"
    kept = zarr.open(other, mode="r")
    assert np.array_equal((kept if name == "plain.zarr" else kept["X"])[:], values())
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("journal", [None, "", "dear diary", '{"event": "dinner"}\n'])
def test_a_folder_in_the_way_of_unfinished_work_stays(tmp_path, journal):
    """A folder named as unfinished work would be, with or without a journal of another kind."""
    _, stored = store(tmp_path, "dense.h5ad", values())
    folder = tmp_path / "out.h5ad.partial"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    if journal is not None:
        (folder / "journal").write_text(journal)
    with pytest.raises(DataError, match="is in the way, and no unfinished work"):
        correct_store(stored, tmp_path / "out.h5ad", "month")

    assert (folder / "thesis.txt").read_text() == "years of work"
