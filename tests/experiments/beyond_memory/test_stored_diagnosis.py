"""A diagnosis of a matrix on disk gives the numbers of that in memory, or those of a sketch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from stores import FEATURES, SPECIMENS, make, sheet, values

from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments import (
    StoredMatrix,
    Table,
    ThisProcess,
    diagnose,
    on_disk,
    plant,
    read,
    testing,
)
from batchsense.experiments.beyond_memory import by_feature, stored_products
from batchsense.experiments.correction.two_passes import pass_runner
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.by_feature import shares_by_feature
from batchsense.experiments.diagnosis.shares import share_of_variance

#: What a sketch changes: chance, and what is looked for in it.
SKETCHED = ("null", ".low", ".high", "component.component", "coordinates", "explained", "scores")


def numbers(found, name=""):
    """Every number of a result, with its name."""
    if dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            if field.name not in ("design", "notes", "sketch"):
                yield from numbers(getattr(found, field.name), f"{name}.{field.name}")
    elif isinstance(found, (tuple, list)):
        for place, one in enumerate(found):
            yield from numbers(one, f"{name}.{place}")
    elif isinstance(found, dict):
        for key, one in found.items():
            yield from numbers(one, f"{name}.{key}")
    elif isinstance(found, (float, int, np.ndarray)):
        yield name, np.asarray(found, dtype=np.float64)


def same(found, wanted, rtol, but=()):
    """Compare the numbers, but for those of some names."""
    for (name, one), (_, other) in zip(numbers(found), numbers(wanted), strict=True):
        if not any(part in name for part in but):
            assert np.allclose(one, other, rtol=rtol, atol=1e-12, equal_nan=True), name


@pytest.fixture
def narrow(monkeypatch):
    """Read thirty features at a time, or all, and work on twenty."""
    monkeypatch.setattr(by_feature, "_AT_ONCE", 230 * 20)
    monkeypatch.setattr(by_feature.budget, "LARGEST_BLOCK", 230 * 30 * 8)


@pytest.mark.parametrize(
    ("name", "standardise"), [("packed.h5ad", False), ("csr.h5ad", True), ("third.zarr", False)]
)
def test_all_of_it_is_exact_where_memory_holds_the_products(tmp_path, narrow, name, standardise):
    """Shares, nulls, intervals, components and clusterings, with a number among what is kept."""
    path = make(tmp_path, name, values("float32"))
    asked = ("month", ["drug", "age"])
    with on_disk(path) as stored:
        found = diagnose(stored, *asked, standardise=standardise)
        shares = shares_by_feature(stored, found.design)
    loaded = read(path)
    wanted = diagnose(loaded, *asked, standardise=standardise)
    assert found.sketch is None
    assert [one.message for one in found.notes] == [one.message for one in wanted.notes]
    same(found, wanted, 1e-9)
    same(shares, shares_by_feature(loaded, wanted.design), 1e-9)
    assert stored.passes.done == 2


def test_features_that_cannot_be_used(tmp_path):
    """Missing, constant and dominant features are noted as in memory, exactly or in a sketch."""
    found = values() + 1000.0
    found[3, 5], found[:, 7] = np.nan, 2.0
    found[:, 9] *= 30.0
    make(tmp_path, "plain.zarr", found)
    loaded = Table.from_arrays(
        found, sheet(), sheet().index, [f"feature {j + 1}" for j in range(found.shape[1])]
    )
    wanted = diagnose(loaded, "month", ["drug"])
    given = StoredMatrix(tmp_path / "plain.zarr", tmp_path / "sheet.csv")
    with on_disk(given) as stored:
        exact = diagnose(stored, "month", ["drug"])
    messages = [one.message for one in wanted.notes]
    assert [one.message for one in exact.notes if one.code != "rows_by_position"] == messages
    same(exact, wanted, 1e-9)


def test_batches_that_hide_everything_else(tmp_path):
    """Where a model leaves next to nothing, what is left is multiplied by another pass."""
    found = values()
    found += (
        1e4 * np.random.default_rng(2).normal(size=(4, found.shape[1]))[np.arange(len(found)) % 4]
    )
    path = make(tmp_path, "dense.h5ad", found)
    with on_disk(path) as stored:
        same(diagnose(stored, "month", ["drug"]), diagnose(read(path), "month", ["drug"]), 1e-7)
    assert stored.passes.done > 1


def test_a_sketch_with_a_sum_for_each_specimen_is_exact(tmp_path, monkeypatch):
    """Every term and its interval, components and what follows, but for what is drawn."""
    monkeypatch.setattr(stored_products, "_GRAMS", 10**9)
    found = values()
    found[3, 5] = np.nan
    path = make(tmp_path, "dense.h5ad", found)
    with on_disk(path) as stored:
        sketched = diagnose(stored, "month", ["drug", "age"], standardise=True)
    wanted = diagnose(read(path), "month", ["drug", "age"], standardise=True)
    assert sketched.sketch.relative_error == 0.0
    same(sketched, wanted, 1e-7, ("null", "component.component"))
    for one, other in (
        (sketched.batch_share, wanted.batch_share),
        (sketched.joint_share, wanted.joint_share),
        (sketched.interaction_share, wanted.interaction_share),
    ):
        assert one.null.mean == pytest.approx(other.null.mean, rel=0.02)
        assert one.null.high == pytest.approx(other.null.high, rel=0.05)
    own, other = sketched.component.component, wanted.component.component
    assert own.high - own.low == pytest.approx(other.high - other.low, rel=0.3)


@pytest.mark.parametrize("standardise", [False, True])
def test_a_sketch_of_a_sparse_matrix_as_it_is_stored(tmp_path, monkeypatch, standardise):
    """Sums and products of what is stored are those of all values, a gap and scales or not."""
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", SPECIMENS * FEATURES)
    monkeypatch.setattr(by_feature.budget, "LARGEST_BLOCK", 30 * FEATURES * 8)
    monkeypatch.setattr(stored_products, "_GRAMS", 10**9)
    found = values()
    if standardise:
        found[3, 5] = np.nan
    path = make(tmp_path, "csr.h5ad", found)
    with on_disk(path) as stored:
        sketched = diagnose(stored, "month", ["drug", "age"], standardise=standardise)
    wanted = diagnose(read(path), "month", ["drug", "age"], standardise=standardise)
    assert stored.passes.done == 2
    same(sketched, wanted, 1e-7, ("null", "component.component"))


def test_what_chance_does_is_that_of_permutations(tmp_path, monkeypatch):
    """Where single specimens decide, too: few in a batch, and some of ten times the length."""
    monkeypatch.setattr(stored_products, "_GRAMS", 10**9)
    monkeypatch.setattr(stored_products, "_SUMS", (256,))
    rng = np.random.default_rng(4)
    month = rng.permutation(np.where(np.arange(900) < 4, 0, 1 + np.arange(900) % 3))
    found = rng.normal(size=(900, 500)) * np.exp(0.7 * rng.normal(size=(900, 1)))
    annotation = pd.DataFrame({"month": [f"m{k}" for k in month]}, [f"s{i}" for i in range(900)])
    anndata.AnnData(found, obs=annotation).write_h5ad(tmp_path / "few.h5ad")
    with on_disk(tmp_path / "few.h5ad") as stored:
        design = read_design(stored, "month")
        products = stored_products.stored_products(stored, design, False, 0)[0]
        asked = design.batches.indicators(), np.ones((900, 1))
        one, other = (
            share_of_variance(given, *asked, np.random.default_rng(k), 2000).null
            for k, given in enumerate((products, found))
        )
    assert one.mean == pytest.approx(other.mean, rel=0.02)
    assert one.high == pytest.approx(other.high, rel=np.sqrt(2 / 256))
    assert one.p_value == pytest.approx(other.p_value, abs=0.05)


def test_a_sketch_keeps_within_its_error(tmp_path, monkeypatch):
    """Shares are those of all features; nulls and ends of intervals within two of its errors."""
    monkeypatch.setattr(stored_products, "_GRAMS", 10**9)
    monkeypatch.setattr(stored_products, "_SUMS", (256,))
    table = plant(specimens=800, features=700, months=4, treated_share=0.67, seed=1).table
    path = tmp_path / "planted.h5ad"
    annotation = pd.DataFrame(dict(table.sheet), index=list(table.specimens))
    anndata.AnnData(table.values, obs=annotation).write_h5ad(path)
    with on_disk(path) as stored:
        found = diagnose(stored, "month", ["drug"])
    wanted = diagnose(read(path), "month", ["drug"])
    error = found.sketch.relative_error
    assert error == pytest.approx(np.sqrt(2 / 256))
    assert any(one.code == "sketched" for one in found.notes)
    same(found, wanted, 1e-5, SKETCHED)
    for one, other in (
        (found.batch_share, wanted.batch_share),
        (found.kept[0].share, wanted.kept[0].share),
        (found.joint_share, wanted.joint_share),
    ):
        assert one.null.high == pytest.approx(other.null.high, rel=2 * error)
        assert one.share.high == pytest.approx(other.share.high, rel=2 * error)
        assert one.null.mean == pytest.approx(other.null.mean, rel=error)
    assert found.scores.clusters_by == wanted.scores.clusters_by
    assert (found.scores.explained <= wanted.scores.explained * (1 + 1e-6)).all()


@pytest.mark.parametrize("module", ["stored_products", "stored_fits"])
def test_workers_load_what_they_are_sent(module):
    """A process that was asked nothing before begins with the module of what it unpickles."""
    words = f"import batchsense.experiments.beyond_memory.{module}"
    subprocess.run([sys.executable, "-c", words], check=True)


def test_too_little_memory_and_counts_are_refused(tmp_path):
    """With what would do."""
    path = make(tmp_path, "dense.h5ad", values())
    with (
        pytest.raises(DataError, match="of memory are too little: at least"),
        on_disk(path, engine=ThisProcess(10**6)) as stored,
    ):
        diagnose(stored, "month")
    path = make(tmp_path, "csr.h5ad", np.floor(np.exp(1.5 + values())) * 3)
    with on_disk(path) as stored, pytest.raises(UnresolvedError, match="--no-out-of-core"):
        diagnose(stored, "month", ["drug"])


def test_values_too_large_to_be_squared_are_refused_by_place(tmp_path):
    """As in memory: not as numbers that are none."""
    wild = values("float64")
    wild[3, 4] = 1e200
    path = make(tmp_path, "packed.h5ad", wild)
    with on_disk(path) as stored, pytest.raises(DataError, match=r"h5ad: .* in feature 5"):
        diagnose(stored, "month", ["drug"], permutations=20)
    with on_disk(path) as stored, pytest.raises(DataError, match=r"h5ad: .* of feature 5 are too"):
        testing.test(stored, "drug", "month")
