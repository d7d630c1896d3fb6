"""Terms that share one matrix of products equal dense projections, permutation by permutation."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments.diagnosis.component import batch_component
from batchsense.experiments.diagnosis.products import products_of
from batchsense.experiments.diagnosis.shares import share_of_variance

#: Specimens, features, and how far the batches lie apart: both shapes of the matrix of products,
#: and batches beside which noise is lost in differences of products.
CASES = [(24, 60, 1.0), (24, 60, 1e4), (60, 10, 1.0), (60, 10, 1e4), (30, 30, 0.0), (40, 1, 1.0)]


def drawn(specimens, features, shift, seed=0):
    """A table with a large offset, its batches, and a wanted factor beside the constant."""
    rng = np.random.default_rng(seed)
    batches = np.eye(3)[rng.integers(3, size=specimens)]
    wanted = np.column_stack([np.ones(specimens), rng.integers(2, size=specimens)])
    noise = rng.normal(size=(specimens, features))
    return 100 + noise + shift * batches @ rng.normal(size=(3, features)), batches, wanted


def projection(columns):
    """The dense projection on the span of some columns."""
    return columns @ np.linalg.pinv(columns, rcond=1e-10)


@pytest.mark.parametrize("wanted_first", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_null_equals_dense_fits_of_each_permutation(case, wanted_first):
    """Mean, quantile and p of a permutation null equal those of single dense fits, to 1e-9."""
    observations, batches, wanted = drawn(*case)
    others, term = (wanted, batches) if wanted_first else (batches, wanted)
    others = np.column_stack([np.ones(len(others)), others])
    found = share_of_variance(observations, term, others, np.random.default_rng(4), 50)

    full, given = projection(np.hstack([others, term])), projection(others)
    left = observations - given @ observations
    total = ((observations - observations.mean(axis=0)) ** 2).sum()

    def fitted(order):
        added = (((full - given)[np.ix_(order, order)] @ left) ** 2).sum()
        rest = (((np.eye(len(left)) - full)[np.ix_(order, order)] @ left) ** 2).sum()
        return added / total, added / rest

    rng = np.random.default_rng(4)
    raw, observed = fitted(np.arange(len(left)))
    null = np.array([fitted(rng.permutation(len(left))) for _ in range(50)])

    assert found.raw == pytest.approx(raw, rel=1e-9)
    assert found.null.mean == pytest.approx(null[:, 0].mean(), rel=1e-9)
    assert found.null.high == pytest.approx(np.quantile(null[:, 0], 0.95), rel=1e-9)
    assert found.null.p_value == (1 + (null[:, 1] >= observed * (1 - 1e-9)).sum()) / 51


@pytest.mark.parametrize("case", CASES)
def test_the_bootstrap_equals_dense_fits_of_each_draw(case):
    """The interval of the component equals that of tables drawn and fitted one by one."""
    observations, batches, wanted = drawn(*case)
    found = batch_component(observations, batches, wanted, np.random.default_rng(4), 50)

    full, kept = projection(np.hstack([wanted, batches])), projection(wanted)
    n, r, d = len(full), 2, len(full) - 4
    residuals = observations - full @ observations
    residuals /= np.sqrt(1 - np.diag(full))[:, None]
    fit = (full - kept) @ observations
    size = np.trace(batches.T @ (np.eye(n) - kept) @ batches) * observations.shape[1]
    spread = []
    for order in np.random.default_rng(4).integers(n, size=(50, n)):
        lent = residuals[order]
        noise = ((lent - full @ lent) ** 2).sum()
        added = (((full - kept) @ (fit + lent)) ** 2).sum()
        spread.append((added - r / d * noise - (fit**2).sum()) / size)
    low, high = np.quantile(spread, [0.025, 0.975])
    estimate = found.component.estimate

    scale = abs(estimate) + found.within
    assert estimate - found.component.high == pytest.approx(low, abs=1e-9 * scale)
    assert estimate - found.component.low == pytest.approx(high, abs=1e-9 * scale)


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_is_known_without_being_formed(case):
    """Squares, images and inner products of what a model leaves equal those of formed residuals."""
    observations, batches, wanted = drawn(*case)
    basis = np.linalg.qr(np.hstack([wanted, batches[:, :2]]))[0]
    products = products_of(observations)
    left = products.leaving(basis)
    formed = (observations - basis @ (basis.T @ observations)) / products.unit
    columns = np.random.default_rng(1).normal(size=(len(formed), 3))
    by_specimen, by_feature = left.sizes()
    gram = formed @ formed.T if len(formed) <= formed.shape[1] else formed.T @ formed

    assert left.squares == pytest.approx((formed**2).sum(), rel=1e-9)
    np.testing.assert_allclose(left.gram, gram, atol=1e-9 * left.squares)
    np.testing.assert_allclose(left.along(columns), columns.T @ formed, rtol=1e-7)
    squares = ((columns.T @ formed) ** 2).sum(axis=1)
    np.testing.assert_allclose(left.squares_along(columns), squares, rtol=1e-9)
    np.testing.assert_allclose(by_specimen, (formed**2).sum(axis=1), rtol=1e-8)
    np.testing.assert_allclose(by_feature, (formed**2).sum(axis=0), rtol=1e-8)
