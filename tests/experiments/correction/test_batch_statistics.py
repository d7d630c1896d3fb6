"""Sufficient statistics: equal to a slow twin, mergeable in any order, the same from any memory."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments.correction.two_passes import pass_runner
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics


def data(seed=0, n=60, features=12, missing=0.0, continuous=False):
    """Draw specimens of four batches with two covariates."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, n)
    kept = np.column_stack([rng.integers(0, 2, n), rng.integers(0, 3, n)]).astype(float)
    if continuous:
        kept[:, 1] = rng.normal(1000.0, 2.0, n)
    values = rng.normal(size=(n, features)) + 50.0 + codes[:, None] + kept[:, :1]
    values[rng.random(values.shape) < missing] = np.nan
    values[:, 0] = np.where(np.isnan(values[:, 0]), 1.0, values[:, 0])  # one complete feature
    return values, codes, kept


def twin(values, codes, kept, feature, b):
    """Give N, x̄, M₂, C, z̄ and W of one batch and feature, by definition."""
    seen = (codes == b) & ~np.isnan(values[:, feature])
    x, z = values[seen, feature], kept[seen]
    if len(x) == 0:
        return 0, 0.0, 0.0, np.zeros(z.shape[1]), np.zeros(z.shape[1]), np.zeros((z.shape[1],) * 2)
    dx, dz = x - x.mean(), z - z.mean(axis=0)
    return len(x), x.mean(), dx @ dx, dx @ dz, z.mean(axis=0), dz.T @ dz


def close(first, second, tolerance=1e-10):
    """Compare two states: numbers to the tolerance (relative where large), places exactly."""
    other = second.arrays()
    for name, array in first.arrays().items():
        np.testing.assert_allclose(array, other[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_equals_the_definition(missing, continuous):
    """N, x̄, M₂, C, z̄ and W of each batch and feature equal those of a loop over both."""
    values, codes, kept = data(missing=missing, continuous=continuous)
    found = BatchStatistics.empty(5, 12, 2).add(values, codes, kept)
    own = {int(j): place for place, j in enumerate(found.incomplete)}

    assert set(own) == set(np.flatnonzero(np.isnan(values).any(axis=0)))
    for b in range(5):
        for j in range(12):
            n, mean, square, product, z, w = twin(values, codes, kept, j, b)
            assert found.counts[b, j] == n
            assert found.means[b, j] == pytest.approx(mean, abs=1e-10)
            assert found.squares[b, j] == pytest.approx(square, abs=1e-10)
            assert found.products[b, :, j] == pytest.approx(product, abs=1e-9)
            if j in own:
                assert found.own_means[b, :, own[j]] == pytest.approx(z, abs=1e-9)
                assert found.own_squares[b, :, :, own[j]] == pytest.approx(w, abs=1e-9)
            else:
                assert found.covariate_means[b] == pytest.approx(z, abs=1e-9)
                assert found.covariate_squares[b] == pytest.approx(w, abs=1e-9)


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_chunks_in_any_order_equal_one_pass(seed, missing):
    """Seven chunks, shuffled, merged in a random tree, give what one pass gives."""
    values, codes, kept = data(seed, missing=missing, continuous=bool(seed % 2))
    whole = BatchStatistics.empty(5, 12, 2).add(values, codes, kept)
    rng = np.random.default_rng(seed)
    parts = [
        BatchStatistics.empty(5, 12, 2).add(values[rows], codes[rows], kept[rows])
        for rows in np.array_split(rng.permutation(len(codes)), 7)
    ]
    while len(parts) > 1:
        first, second = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        parts.append(first.merge(second))

    close(whole, parts[0])


def test_a_large_offset_costs_little():
    """Observations around 1e6 keep their variances to 1e-9, over chunks as well."""
    values, codes, kept = data(missing=0.1)
    near = BatchStatistics.empty(4, 12, 2).add(values, codes, kept)
    far = BatchStatistics.empty(4, 12, 2)
    for rows in np.array_split(np.arange(len(codes)), 4):
        far.add(values[rows] + 1e6, codes[rows], kept[rows])

    np.testing.assert_allclose(near.squares, far.squares, rtol=1e-8)


def test_constant_means_exactly_zero():
    """Equal values have M₂ = 0 exactly, however they are cut into chunks; others never."""
    values = np.full((30, 3), 0.1)
    values[17, 1] = np.nextafter(0.1, 1)
    values[4, 2] = np.nan
    codes = np.zeros(30, dtype=int)
    found = BatchStatistics.empty(1, 3)
    for rows in np.array_split(np.arange(30), 7):
        found.add(values[rows], codes[rows])

    assert found.squares[0, 0] == 0
    assert found.squares[0, 1] > 0
    assert found.squares[0, 2] == 0


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("layout", "dtype"), [("C", "f8"), ("C", "f4"), ("F", "f8"), ("strided", "f8")]
)
def test_compiled_equals_numpy(monkeypatch, layout, dtype, missing, continuous):
    """The compiled passes give what numpy gives, for every type and order of memory."""
    pytest.importorskip("numba")
    values, codes, kept = data(n=61, features=700, missing=missing, continuous=continuous)
    values = values.astype(dtype)
    values[3, 5] = np.nan
    values[codes == 2, 300:302] = np.nan
    plain = BatchStatistics.empty(4, 700, 2).add(values, codes, kept)
    if layout == "strided":
        values = np.repeat(values, 2, axis=1)[:, ::2]
    elif layout == "F":
        values = np.asfortranarray(values)
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", 1)
    compiled = BatchStatistics.empty(4, 700, 2).add(values, codes, kept)

    assert missing or compiled.incomplete.tolist() == [5, 300, 301]
    close(plain, compiled, 1e-9)


def test_constant_means_exactly_zero_when_compiled(monkeypatch):
    """Equal observed values have M₂ = 0 exactly, wherever gaps are."""
    pytest.importorskip("numba")
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", 1)
    values, codes, kept = data(missing=0.3)
    values[:, 3] = np.where(np.isnan(values[:, 3]), np.nan, 0.1)
    found = BatchStatistics.empty(4, 12, 2).add(values, codes, kept)

    assert (found.squares[:, 3] == 0).all()
    assert (found.squares[:, 4] > 0).all()


def test_unusable_input_is_named():
    """Infinity by row and feature, values too large to be squared, codes out of range, shapes."""
    values, codes, kept = data()
    state = BatchStatistics.empty(4, 12, 2)
    infinite = values.copy()
    infinite[7, 3] = -np.inf
    with pytest.raises(DataError, match="row 8, feature 4"):
        state.add(infinite, codes, kept)
    with pytest.raises(DataError, match="too large"):
        state.add(values * 1e200, codes, kept)
    with pytest.raises(DataError, match="between 0 and 3"):
        state.add(values, codes + 1, kept)
    with pytest.raises(DataError, match="covariates of shape"):
        state.add(values, codes)
    with pytest.raises(DataError, match="has 11 features"):
        state.add(values[:, 1:], codes, kept)
    with pytest.raises(DataError, match="cannot be merged"):
        state.merge(BatchStatistics.empty(4, 11, 2))
    assert state.specimens.sum() == 0
