"""``batchsense correct`` out of core: the numbers of the run in memory, and how it is told."""

from __future__ import annotations

import json
import os
import signal
import warnings
from contextlib import contextmanager

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy.sparse import csr_matrix

from batchsense.cli import run as running
from batchsense.cli.main import run
from batchsense.experiments import plant
from batchsense.experiments.out_of_core import budget
from published import check_document

BATCH = ["--batch", "month", "--keep", "drug"]


@pytest.fixture(scope="module")
def table():
    """A small experiment with months, a drug and gaps of zeros."""
    return plant(specimens=60, features=8, months=3, treated_share=0.67, seed=1).table


@pytest.fixture(scope="module")
def stores(table, tmp_path_factory):
    """Write the table in every form; give their folder."""
    folder = tmp_path_factory.mktemp("stores")
    values = np.where(np.abs(table.values) < 0.3, 0.0, table.values)
    obs = pd.DataFrame({name: list(column) for name, column in table.sheet.items()})
    obs.index = list(table.specimens)
    obs["clinic"] = ["A" if month == "m0" else "B" for month in obs["month"]]
    obs.iloc[::-1].to_csv(folder / "sheet.csv", index_label="specimen")
    for dtype in ("float32", "float64"):
        for form in ("dense", "csr"):
            held = values.astype(dtype)
            data = anndata.AnnData(
                csr_matrix(held) if form == "csr" else held,
                obs=obs,
                var=pd.DataFrame(index=list(table.features)),
                layers={"twice": 2 * held},
            )
            data.write_h5ad(folder / f"{form}-{dtype}.h5ad")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data.write_zarr(folder / f"{form}-{dtype}.zarr")
    return folder


@pytest.fixture
def small_blocks(monkeypatch):
    """Take blocks of about seven specimens."""
    monkeypatch.setattr(budget, "LARGEST_BLOCK", 7 * 8 * 8)


def document(capsys):
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "correct")
    return parsed


def corrected(path):
    return (anndata.read_zarr if path.suffix == ".zarr" else anndata.read_h5ad)(path)


def check_both_ways(matrix, folder, capsys, more, tolerance):
    """Correct in memory and out of core; compare values, what the results say, and documents."""
    outputs = [folder / f"{way}{matrix.suffix}" for way in ("loaded", "pieces")]
    found = []
    for output, way in zip(outputs, ("--no-out-of-core", "--out-of-core"), strict=True):
        words = ["correct", str(matrix), *more, "-o", str(output), way, "--json"]
        assert run(words) == 0, capsys.readouterr().err
        found.append(document(capsys))
    loaded, pieces = map(corrected, outputs)

    layers = [data.layers["batchsense"] for data in (loaded, pieces)]
    assert layers[0].dtype == layers[1].dtype
    assert np.abs(layers[0] - layers[1]).max() <= tolerance
    assert abs(loaded.X - pieces.X).max() == 0
    said = [data.uns["batchsense"] for data in (loaded, pieces)]
    assert sorted(said[0]) == sorted(said[1])
    assert all(np.array_equal(said[0][key], said[1][key]) for key in said[0])
    results = [document["result"] for document in found]
    how = [result.pop("out_of_core") for result in results]
    assert how[0] is None
    assert (how[1]["reason"], how[1]["resumed"], how[1]["cluster"]) == ("asked", False, None)
    assert [result.pop("output") for result in results] == list(map(str, outputs))
    shares = [result.pop("removed_share") for result in results]
    assert shares[0] == pytest.approx(shares[1], abs=1e-10)
    learned = [result.pop("learned") for result in results]
    for one, other in zip(*learned, strict=True):
        assert one == pytest.approx(other, abs=1e-7)
    assert results[0] == results[1]
    assert found[0]["inputs"] == found[1]["inputs"]
    assert found[0]["notes"] == found[1]["notes"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("form", ["dense", "csr"])
@pytest.mark.parametrize("method", ["linear", "combat"])
def test_equals_the_run_in_memory(
    stores, small_blocks, tmp_path, capsys, method, form, suffix, dtype
):
    """Same layer (1e-10, float32 1e-5), same provenance, same document."""
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    matrix = stores / f"{form}-{dtype}.{suffix}"

    check_both_ways(matrix, tmp_path, capsys, [*BATCH, "--method", method], tolerance)


@pytest.mark.parametrize(
    "more",
    [
        [*BATCH, "--layer", "twice"],
        [*BATCH, "--method", "combat", "--reference", "m1"],
        [*BATCH, "--method", "combat", "--mean-only"],
        ["--batch", "month", "--method", "combat", "--non-parametric"],
        ["--batch", "month", "--keep", "clinic", "--despite-confounding"],
        [*BATCH, "--categorical", "drug", "--seed", "3", "--densify"],
    ],
    ids=lambda more: more[-1],
)
def test_options_work_alike(stores, small_blocks, tmp_path, capsys, more):
    """Layer, reference, means only, no assumed shape, insisting, declared kinds."""
    check_both_ways(stores / "dense-float64.h5ad", tmp_path, capsys, more, 1e-10)


def test_a_sheet_of_its_own_is_matched_by_id(stores, tmp_path, capsys):
    """SHEET and --id work as in memory."""
    more = [str(stores / "sheet.csv"), *BATCH, "--id", "specimen"]

    check_both_ways(stores / "dense-float64.zarr", tmp_path, capsys, more, 1e-10)


def test_a_plain_array_is_read_in_no_other_way(stores, table, tmp_path, capsys):
    """Without being asked it goes out of core and says so; the page carries it."""
    array = zarr.create_array(tmp_path / "m.zarr", shape=(60, 8), chunks=(20, 8), dtype="float64")
    array[:] = table.values
    sheet = pd.DataFrame({"id": table.specimens, "month": table.sheet["month"]})
    sheet.to_csv(tmp_path / "s.csv", index=False)
    words = ["correct", str(tmp_path / "m.zarr"), str(tmp_path / "s.csv"), "--batch", "month"]
    words += ["-o", str(tmp_path / "o.zarr"), "--report", str(tmp_path / "r.html")]

    assert run(words) == 0
    said = capsys.readouterr()
    assert "A plain Zarr array is read out of core" in said.out
    assert "Out of core: a few specimens at a time." in said.out
    page = (tmp_path / "r.html").read_text()
    assert "Out of core: a few specimens at a time. The values were never in memory" in page
    assert "Before and after" not in page
    months = np.array(table.sheet["month"])
    means = [zarr.open_array(tmp_path / "o.zarr")[:][months == m].mean() for m in np.unique(months)]
    assert np.ptp(means) < 1e-12


@pytest.mark.parametrize(
    ("free", "more", "reason"),
    [
        (10**4, [], "memory"),
        (10**4, ["--no-out-of-core"], None),
        (10**12, [], None),
        (None, [], None),
    ],
)
def test_the_choice_follows_the_memory(stores, tmp_path, capsys, monkeypatch, free, more, reason):
    """Where loading would take most of what is free it goes out of core, with a note."""
    monkeypatch.setattr("batchsense.machine_memory.available_memory", lambda: free)
    words = ["correct", str(stores / "dense-float64.h5ad"), *BATCH, "--json", *more]

    assert run([*words, "-o", str(tmp_path / "o.h5ad")]) == 0
    found = document(capsys)
    how = found["result"]["out_of_core"]
    assert (how and how["reason"]) == reason
    notes = {note["code"]: note["message"] for note in found["notes"]}
    assert ("out_of_core" in notes) == (reason is not None)
    if reason:
        assert "--no-out-of-core forces memory" in notes["out_of_core"]
        assert "9.77 KiB are free" in notes["out_of_core"]


def test_a_budget_decides_too(stores, tmp_path, capsys, monkeypatch):
    """--memory alone goes out of core where loading would take more, and only there."""
    words = ["correct", str(stores / "dense-float32.h5ad"), *BATCH, "--memory", "2GB", "--json"]
    monkeypatch.setattr("batchsense.machine_memory.available_memory", lambda: None)

    assert run([*words, "-o", str(tmp_path / "a.h5ad")]) == 0
    assert document(capsys)["result"]["out_of_core"] is None
    monkeypatch.setattr(budget, "loaded_bytes", lambda location: 3 * 10**9)
    assert run([*words, "-o", str(tmp_path / "b.h5ad"), "--report", str(tmp_path / "r.html")]) == 0
    how = document(capsys)["result"]["out_of_core"]
    assert (how["reason"], how["memory_bytes"]) == ("memory", 2 * 10**9)
    assert "--memory 2GB" in (tmp_path / "r.html").read_text()


def test_columns_and_counts_stay_as_in_memory(stores, table, tmp_path, capsys, monkeypatch):
    """A CSC matrix is loaded, whatever its size; whole numbers above 50 are remarked upon."""
    counts = np.round(np.abs(table.values) * 100)
    obs = pd.DataFrame({"month": list(table.sheet["month"])}, index=list(table.specimens))
    anndata.AnnData(csr_matrix(counts).tocsc(), obs=obs).write_h5ad(tmp_path / "csc.h5ad")
    anndata.AnnData(counts, obs=obs).write_h5ad(tmp_path / "counts.h5ad")
    monkeypatch.setattr("batchsense.machine_memory.available_memory", lambda: 10**4)

    for name, code in (("csc", None), ("counts", "memory")):
        words = ["correct", str(tmp_path / f"{name}.h5ad"), "--batch", "month", "--json"]
        assert run([*words, "-o", str(tmp_path / f"o{name}.h5ad")]) == 0
        found = document(capsys)
        how = found["result"]["out_of_core"]
        assert (how and how["reason"]) == code
        assert "looks_like_counts" in [note["code"] for note in found["notes"]]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["m.csv", "-o", "o.csv", "--out-of-core"], 2, "convert m.csv to .h5ad or .zarr"),
        (["m.csv", "-o", "o.csv", "--memory", "1GB"], 2, "--memory needs a MATRIX that can be"),
        (["dense-float64.h5ad", "-o", "-", "--out-of-core"], 2, "-o - prints text"),
        (["-o", "-", "--out-of-core"], 2, "needs a MATRIX; the built-in digits are small"),
        (["-o", "o.csv", "--cluster", "local:2"], 2, "--cluster needs a MATRIX"),
        (["dense-float64.h5ad", "-o", "o.h5ad", "--cluster", "local:no"], 2, "is no cluster"),
        (["dense-float64.h5ad", "-o", "o.h5ad", "--memory", "much"], 2, "not an amount of memory"),
        (
            ["dense-float64.h5ad", "-o", "o.h5ad", "--memory", "1GB", "--no-out-of-core"],
            2,
            "--memory and --no-out-of-core contradict each other",
        ),
        (
            ["dense-float64.h5ad", "-o", "o.h5ad", "--method", "combat-seq", "--out-of-core"],
            2,
            "combat-seq needs all counts in memory",
        ),
        (["dense-float64.h5ad", "-o", "o.zarr", "--out-of-core"], 3, "needs an .zarr input"),
        (
            ["dense-float64.h5ad", "-o", "o.h5ad", "--out-of-core", "--memory", "1MB"],
            3,
            "of memory are too little: at least",
        ),
        (
            ["dense-float64.h5ad", "-o", "o.h5ad", "--out-of-core", "--layer", "three"],
            3,
            "has no layers/three; its layers are twice",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(stores, tmp_path, capsys, monkeypatch, words, code, says):
    """By name, before any work, with what to do; nothing is left behind."""
    monkeypatch.chdir(stores)
    before = sorted(path.name for path in stores.iterdir())

    assert run(["correct", *words, "--batch", "month"]) == code
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in stores.iterdir()) == before


def test_a_missing_batch_column_names_those_there(stores, tmp_path, capsys):
    """Without --batch the message lists the columns; the matrix is not read."""
    words = ["correct", str(stores / "dense-float64.h5ad"), "--out-of-core"]

    assert run([*words, "-o", str(tmp_path / "o.h5ad")]) == 2
    assert "--batch is needed" in (said := capsys.readouterr().err)
    assert "month, drug" in said


def test_a_refusal_is_a_document_and_writes_nothing(stores, tmp_path, capsys):
    """Total confounding: exit code 1, no output, no partial folder."""
    words = ["correct", str(stores / "dense-float64.zarr"), "--batch", "month", "--keep", "clinic"]
    words += ["--out-of-core", "-o", str(tmp_path / "o.zarr"), "--json"]

    assert run(words) == 1
    found = document(capsys)
    assert found["refusal"]["kind"] == "confounded"
    assert found["inputs"][0]["sha256"]
    assert not list(tmp_path.iterdir())


def test_large_inputs_are_known_by_size_and_time(stores, tmp_path, capsys, monkeypatch):
    """No pass for a hash alone: the document, the result and the page say what stands for it."""
    monkeypatch.setattr("batchsense.reports.envelope.LARGEST_HASHED", 1000)
    matrix = stores / "dense-float64.h5ad"
    words = ["correct", str(matrix), *BATCH, "--out-of-core", "--json"]
    words += ["-o", str(tmp_path / "o.h5ad"), "--report", str(tmp_path / "r.html")]

    assert run(words) == 0
    known = document(capsys)["inputs"][0]
    size = matrix.stat().st_size
    assert known["sha256"] is None
    assert known["state"]["size_bytes"] == size
    assert "another pass" in known["state"]["reason"]
    said = next(iter(corrected(tmp_path / "o.h5ad").uns["batchsense"]["inputs"]))
    assert said == f"{matrix} {size} bytes, last changed {known['state']['modified']}"
    assert f"{size} bytes, last changed" in (tmp_path / "r.html").read_text()


@contextmanager
def interrupting(task, count):
    """Give a listener that interrupts this process, as Ctrl-C does, when a task is so far."""
    told = []

    def listener(doing, done, total):
        told.append(doing)
        if told.count(task) == count:
            os.kill(os.getpid(), signal.SIGINT)

    # A process that a script started in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield listener
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("task", ["summing up specimens", "correcting specimens"])
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_an_interrupted_run_goes_on(
    stores, small_blocks, tmp_path, capsys, monkeypatch, suffix, task
):
    """SIGINT: exit code 130, the folder is kept and named; the same command goes on and says so."""
    output = tmp_path / f"o.{suffix}"
    words = ["correct", str(stores / f"dense-float64.{suffix}"), *BATCH, "--out-of-core"]
    words += ["-o", str(output)]
    monkeypatch.setattr("batchsense.experiments.out_of_core.passes._SYNC_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(running, "progress_on_stderr", lambda: interrupting(task, 1))
        assert run(words) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert f"what is done is kept in {output}.partial, and the same command goes on" in said.err
    assert not output.exists()

    assert run(words) == 0
    assert "an interrupted run was taken up" in capsys.readouterr().out
    assert not (tmp_path / f"o.{suffix}.partial").exists()
    assert run([*words[:-1], str(tmp_path / f"whole.{suffix}")]) == 0
    after, whole = (corrected(tmp_path / f"{name}.{suffix}") for name in ("o", "whole"))
    assert np.abs(after.layers["batchsense"] - whole.layers["batchsense"]).max() < 1e-12


def test_a_folder_of_that_name_is_not_thrown_away(stores, tmp_path, capsys):
    """What lies where unfinished work would lie, and is none, stays."""
    (tmp_path / "o.h5ad.partial").mkdir()
    (tmp_path / "o.h5ad.partial" / "mine.txt").write_text("mine")
    words = ["correct", str(stores / "dense-float64.h5ad"), *BATCH, "--out-of-core"]

    assert run([*words, "-o", str(tmp_path / "o.h5ad")]) == 3
    assert "no unfinished work; move it" in capsys.readouterr().err
    assert (tmp_path / "o.h5ad.partial" / "mine.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense-float64.h5ad", "csr-float64.zarr"])
def test_a_local_cluster_gives_the_same_numbers(stores, tmp_path, capsys, monkeypatch, name):
    """Two processes of 500 MB each, relative paths: the document says who did it."""
    monkeypatch.chdir(stores)
    output = tmp_path / name
    words = ["correct", name, *BATCH, "--method", "combat", "--json"]
    here = os.path.relpath(output, stores)

    assert run([*words, "--cluster", "local:2", "--memory", "500MB", "-o", here]) == 0
    how = document(capsys)["result"]["out_of_core"]
    assert (how["cluster"], how["memory_bytes"]) == ("local:2", 500_000_000)
    loaded = tmp_path / f"loaded-{name}"
    assert run([*words, "--no-out-of-core", "-o", str(loaded)]) == 0
    difference = corrected(output).layers["batchsense"] - corrected(loaded).layers["batchsense"]
    assert np.abs(difference).max() < 1e-10


def test_no_scheduler_answers(stores, tmp_path, capsys, monkeypatch):
    """An address that leads nowhere is named, and nothing is written."""
    monkeypatch.setattr("batchsense.experiments.out_of_core.cluster._TIMEOUT_S", 0.2)
    words = ["correct", str(stores / "dense-float64.h5ad"), *BATCH, "-o", str(tmp_path / "o.h5ad")]

    assert run([*words, "--cluster", "tcp://127.0.0.1:1"]) == 3
    assert "no scheduler answers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_layer_is_no_path(stores, tmp_path, capsys, suffix):
    """A name that leads elsewhere is no layer, as in memory."""
    words = ["correct", str(stores / f"dense-float64.{suffix}"), *BATCH, "--out-of-core"]

    assert run([*words, "--layer", "../X", "-o", str(tmp_path / f"o.{suffix}")]) == 3
    assert "the file has no layers/../X" in capsys.readouterr().err
