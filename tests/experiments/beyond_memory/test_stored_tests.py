"""Tests of a matrix on disk give the numbers of those in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import h5py
import numpy as np
import pytest
from scipy import sparse
from stores import FEATURES, SPECIMENS, make, sheet, values

from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments import (
    ContrastOptions,
    Estimation,
    StoredMatrix,
    Table,
    diagnose,
    find_surrogates,
    on_disk,
    read,
    test,
)
from batchsense.experiments.correction.two_passes import pass_runner, summing
from batchsense.experiments.out_of_core import budget, cluster
from batchsense.experiments.out_of_core.cluster import Cluster
from batchsense.experiments.out_of_core.engine import ThisProcess

NUMBERS = ("effect", "low", "standard_error", "t", "p_value", "q_value")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Take blocks of about thirty specimens."""
    monkeypatch.setattr(budget, "LARGEST_BLOCK", 30 * FEATURES * 8)


def gaps(seed=3):
    """Give values with gaps of every kind, and features that the model fits exactly."""
    found = values() + 1000.0
    number = np.arange(SPECIMENS)
    found[np.random.default_rng(seed).random(found.shape) < 0.01] = np.nan
    found[:, 1] = np.nan
    found[:, 2] = 7.0
    found[number % 4 == 1, 3] = np.nan  # a month without observations
    found[number % 7 < 3, 4] = np.nan  # a drug without
    found[:, 5] = number % 4 + 2.0 * (number % 7 < 3)
    found[:, 6] = found[:, 5] + 1e-6 * np.random.default_rng(1).normal(size=SPECIMENS)
    found[3:, 7] = np.nan
    return found


def same(stored, loaded):
    """Compare everything that two tests say."""
    assert stored.untested == loaded.untested
    assert [one.message for one in stored.notes] == [one.message for one in loaded.notes]
    for name in ("mean", "df", "prior_df", "prior_variance"):
        close(getattr(stored, name), getattr(loaded, name))
    for one, other in zip(stored.effects, loaded.effects, strict=True):
        assert one.plain.inflation == other.plain.inflation
        for name in NUMBERS:
            close(getattr(one, name), getattr(other, name))
    for one, other in zip(stored.factors, loaded.factors, strict=True):
        close(one.f, other.f)
        close(one.q_value, other.q_value)


def close(one, other):
    """Compare to nine digits."""
    assert np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("options", [ContrastOptions(), ContrastOptions(trend=True, robust=True)])
@pytest.mark.parametrize("name", ["dense.h5ad", "csr.zarr", "csr.h5ad"])
def test_complete_features(tmp_path, name, options):
    """With a number in the model and two columns tested, in one pass."""
    path = make(tmp_path, name, values("float32"))
    asked = (["drug", "age"], "month", (), options)
    with on_disk(path) as stored:
        same(test(stored, *asked), test(read(path), *asked))
    assert stored.passes.done == 1


def disordered(folder, name, matrix):
    """Store a sparse matrix with its columns backwards, and one value as the sum of two."""
    path = make(folder, name, matrix)
    found = sparse.csr_matrix(matrix)
    own = slice(found.indptr[3], found.indptr[4])
    parts = [found.data, found.indices]
    for part in parts:
        part[own] = part[own][::-1].copy()
    parts[0][found.indptr[5]] /= 2.0
    data, indices = (np.insert(part, found.indptr[5], part[found.indptr[5]]) for part in parts)
    bounds = found.indptr + (np.arange(SPECIMENS + 1) > 5)
    with h5py.File(path, "r+") as root:
        for key, part in (("data", data), ("indices", indices), ("indptr", bounds)):
            del root["X"][key]
            root["X"][key] = part
    return path


@pytest.mark.parametrize("keep", [["drug"], ["drug", "age"]])
def test_sparse_matrices_that_stay_folded(tmp_path, monkeypatch, keep):
    """Large ones are unfolded eight specimens at a time: gaps, and columns in disorder, too."""
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", SPECIMENS * FEATURES)
    monkeypatch.setattr(summing, "_FOLDED", 30)
    found = values()
    found[7, 9] = np.nan
    for path in (make(tmp_path, "csr.zarr", found), disordered(tmp_path, "csr.h5ad", found)):
        with on_disk(path) as stored:
            same(test(stored, keep, "month"), test(read(path), keep, "month"))
    found[8, 9] = np.inf
    path = make(tmp_path, "csr.h5ad", found)
    with on_disk(path) as stored, pytest.raises(DataError, match=r"infinite values .*: 9 / 10"):
        test(stored, keep, "month")


def test_a_sparse_matrix_with_columns_that_do_not_exist(tmp_path, monkeypatch):
    """Is refused, as before anything is unfolded."""
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", SPECIMENS * FEATURES)
    path = make(tmp_path, "csr.h5ad", values())
    with h5py.File(path, "r+") as root:
        root["X"]["indices"][40 * 60] = FEATURES
    with on_disk(path) as stored, pytest.raises(DataError, match="cannot be read"):
        test(stored, "drug", "month")


def test_missing_values_and_exact_fits(tmp_path):
    """What sums tell badly is read again: directions without observations, almost exact fits."""
    make(tmp_path, "plain.zarr", gaps())
    loaded = Table.from_arrays(
        gaps(), sheet(), sheet().index, [f"feature {j + 1}" for j in range(FEATURES)]
    )
    asked = (["drug", "age"], "month")
    with on_disk(StoredMatrix(tmp_path / "plain.zarr", tmp_path / "sheet.csv")) as stored:
        found = test(stored, *asked)
    same_numbers = test(loaded, *asked)
    assert found.untested == same_numbers.untested
    assert stored.passes.done == 2
    for one, other in zip(found.effects, same_numbers.effects, strict=True):
        rest = np.arange(FEATURES) != 6
        close(one.t[rest], other.t[rest])
        assert np.allclose(one.t[6], other.t[6], rtol=1e-6)


def test_values_without_a_trace_of_the_batches(tmp_path):
    """Corrected values are recognised from their sums."""
    found = values()
    for month in range(4):
        own = np.arange(SPECIMENS) % 4 == month
        found[own] -= found[own].mean(axis=0)
    path = make(tmp_path, "dense.h5ad", found)
    with on_disk(path) as stored:
        codes = [one.code for one in test(stored, "drug", "month").notes]
    assert codes == [one.code for one in test(read(path), "drug", "month").notes]
    assert "looks_corrected" in codes


def test_surrogates_in_the_place_of_batches(tmp_path):
    """Where numbers stand for the batches all specimens are one stratum."""
    path = make(tmp_path, "dense.h5ad", values())
    with on_disk(path) as stored:
        same(test(stored, "drug", surrogates=["age"]), test(read(path), "drug", surrogates=["age"]))


def test_counts_are_refused(tmp_path):
    """Library sizes and precision weights need all counts."""
    path = make(tmp_path, "csr.h5ad", np.floor(np.exp(1.5 + values())) * 3)
    with on_disk(path) as stored, pytest.raises(UnresolvedError, match="--no-out-of-core"):
        test(stored, "drug", "month")


class InterruptedRunError(Exception):
    """Somebody pulls the plug."""


class Faltering(ThisProcess):
    """An engine that stops after three blocks, or counts what it does."""

    seen: ClassVar[list] = []
    stop = True

    def sums(self, given, into, keep):
        added = []

        def counted(run):
            added.append(run)
            keep(into, added)
            Faltering.seen.append(run)
            if self.stop and len(added) == 3:
                raise InterruptedRunError

        return ThisProcess.sums(self, replace(given, done=counted), into, keep)


def test_an_interrupted_run_goes_on(tmp_path, cache, monkeypatch):
    """What was summed up is not read again; nothing is left when the answer is there."""
    path = make(tmp_path, "dense.h5ad", values())
    monkeypatch.setattr(Faltering, "seen", [])
    with pytest.raises(InterruptedRunError), on_disk(path, engine=Faltering()) as stored:
        test(stored, "drug", "month")
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(Faltering, "stop", False)
    with on_disk(path, engine=Faltering()) as stored:
        found = test(stored, "drug", "month")
        assert stored.resumed
    assert sum(high - low for low, high in Faltering.seen) == SPECIMENS
    same(found, test(read(path), "drug", "month"))
    assert list(cache.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # of the libraries of the cluster
def test_workers_give_the_same_numbers(tmp_path, monkeypatch):
    """Two workers, a task for every twenty specimens, or features; all three questions."""
    from distributed import Client, LocalCluster

    monkeypatch.setattr(cluster, "_TASK_BYTES", 50 * SPECIMENS * 8)
    path = make(tmp_path, "dense.h5ad", np.tile(values(), 2))
    loaded = read(path)
    with (
        LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        Client(local) as client,
        on_disk(path, engine=Cluster(client, 10**10, shares=2, threads=2)) as stored,
    ):
        same(test(stored, "drug", "month"), test(loaded, "drug", "month"))
        found = diagnose(stored, "month", ["drug"], permutations=20)
        sought = find_surrogates(stored, ["drug"], estimation=Estimation(count=1))
    wanted = diagnose(loaded, "month", ["drug"], permutations=20)
    close(found.batch_share.share.low, wanted.batch_share.share.low)
    close(found.component.by_feature, wanted.component.by_feature)
    close(sought.values, find_surrogates(loaded, ["drug"], estimation=Estimation(count=1)).values)
