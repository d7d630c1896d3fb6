"""Surrogates of a matrix on disk are those of the matrix in memory."""

from __future__ import annotations

import numpy as np
import pytest
from stores import make, values

from batchsense.errors import UnresolvedError
from batchsense.experiments import Estimation, ThisProcess, find_surrogates, on_disk, read
from batchsense.experiments.beyond_memory import by_feature


def hidden(seed=0):
    """Give 150 features, half of which go with something unknown; some cannot be used."""
    rng = np.random.default_rng(seed)
    found = np.tile(values(), 3)[:, :150] + rng.normal(size=(230, 150))
    found[:, ::2] += rng.normal(size=(230, 1)) * rng.normal(size=75)
    found[3, 5], found[:, 7] = np.nan, 2.0
    return found


@pytest.mark.parametrize(
    ("estimation", "passes"),
    [
        (Estimation(), 12),
        (Estimation(count=2), 11),
        (Estimation("two-step", 1), 3),
    ],
)
def test_directions_and_their_number(tmp_path, monkeypatch, estimation, passes):
    """Permutations, weights and directions, thirty features at a time; passes are counted."""
    monkeypatch.setattr(by_feature, "_AT_ONCE", 230 * 20)
    monkeypatch.setattr(by_feature.budget, "LARGEST_BLOCK", 230 * 30 * 8)
    path = make(tmp_path, "dense.h5ad", hidden())
    asked = {"known": ["month"], "estimation": estimation, "permutations": 20}
    with on_disk(path) as stored:
        found = find_surrogates(stored, ["drug"], **asked)
    wanted = find_surrogates(read(path), ["drug"], **asked)
    assert stored.passes.done == passes
    assert np.allclose(found.values, wanted.values, rtol=0, atol=1e-9)
    assert found.names == wanted.names
    assert found.affected_features == pytest.approx(wanted.affected_features, rel=1e-9)
    assert found.residual_shares == pytest.approx(wanted.residual_shares, rel=1e-9)
    assert [one.message for one in found.notes] == [one.message for one in wanted.notes]
    if wanted.counted is not None:
        assert found.counted.p_values.tolist() == wanted.counted.p_values.tolist()
        assert np.allclose(found.counted.shares, wanted.counted.shares, rtol=1e-9)


def test_more_specimens_than_memory_holds_squared_are_refused(tmp_path):
    """With what would do."""
    path = make(tmp_path, "dense.h5ad", np.tile(values(), 3))
    with on_disk(path) as stored:
        stored.passes.engine = ThisProcess(1)
        with pytest.raises(UnresolvedError, match="--memory") as refused:
            find_surrogates(stored, ["drug"])
    assert "MiB" in refused.value.needed
