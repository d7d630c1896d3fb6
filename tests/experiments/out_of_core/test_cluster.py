"""The workers of a cluster give the numbers that one process gives."""

from __future__ import annotations

import numpy as np
import pytest
from stores import FEATURES, make, result, values

from batchsense.errors import DataError
from batchsense.experiments import CombatCorrection, StoredMatrix
from batchsense.experiments.out_of_core import cluster, connected, correct_store
from batchsense.experiments.out_of_core.cluster import Cluster

CORRECTION = CombatCorrection(keep=("drug",))


@pytest.fixture
def small_tasks(monkeypatch):
    """Give each task about twenty specimens."""
    monkeypatch.setattr(cluster, "_TASK_BYTES", 20 * FEATURES * 8)


def check(folder, name, engine):
    """Correct with an engine and in this process."""
    stored = StoredMatrix(make(folder, name, values()), folder / "sheet.csv")
    told = []
    note = lambda *what: told.append(what)  # noqa: E731

    correct_store(
        stored, folder / f"many-{name}", "month", CORRECTION, engine=engine, progress=note
    )
    correct_store(stored, folder / f"one-{name}", "month", CORRECTION)

    difference = result(folder / f"many-{name}") - result(folder / f"one-{name}")
    assert np.abs(difference).max() < 1e-12
    assert told[-1] == ("correcting specimens", 230, 230)


@pytest.mark.filterwarnings("ignore")  # of the libraries of the cluster
def test_workers_in_threads_give_the_same_numbers(tmp_path, small_tasks):
    """A cluster of two workers in this process: tasks, tree of sums, writing by the workers."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        Client(local) as client,
    ):
        engine = Cluster(client, 10**10, shares=2, threads=2)
        for name in ("dense.h5ad", "plain.zarr"):
            check(tmp_path, name, engine)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense.h5ad", "csr.h5ad", "third.zarr", "plain.zarr"])
def test_two_processes_give_the_same_numbers(tmp_path, name):
    """A local cluster of two processes with 500 MiB each."""
    with connected("local:2", 500 * 2**20, [tmp_path]) as engine:
        check(tmp_path, name, engine)


def test_addresses_that_lead_nowhere_are_refused():
    """Neither a number of processes nor a scheduler."""
    with (
        pytest.raises(DataError, match="write for example local:2"),
        connected("local:many", 10**9),
    ):
        pass
