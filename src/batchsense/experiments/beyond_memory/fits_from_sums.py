"""Fit every feature from sums over its specimens, as tests of matrices on disk need it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats, Integers, Places
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.projections import basis_beside
from batchsense.experiments.testing.comparisons import Model
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.variation.linear import factor

#: Sums tell a feature well where its observed specimens hold more than this part of every direction
#: of the model, and the model leaves this part of its squares inside the strata: two bounds that
#: cost three and six of sixteen digits. The others are read again, and fitted value by value.
_HELD, _LEFT = 1e-3, 1e-6
#: A residual sum of squares below this part of n·max(y)² is rounding, as for values in memory; the
#: squares of all values, which the sums hold, stand between max(y)² and n·max(y)².
_ROUNDING = (16 * np.finfo(float).eps) ** 2
#: Features whose normal equations are solved together: a few megabytes each time.
_TOGETHER = 4096


@dataclass(frozen=True, slots=True, eq=False)
class SummedModel:
    r"""A model as sums see it: strata with levels of their own, and directions inside them.

    The strata are the batches, or all specimens together where numbers stand for the batches. With
    an orthonormal basis Z of what the model holds beside the strata, an estimable contrast is
    :math:`w^T\gamma` in :math:`y = \text{stratum} + Z\gamma + \varepsilon`, whatever specimens are
    observed.

    Attributes
    ----------
    codes : array of shape (specimens,)
        The stratum of each specimen.
    directions : array of shape (specimens, directions)
        Z.
    columns : array of shape (specimens, terms)
        The model itself.
    """

    codes: Integers
    directions: Floats
    columns: Floats

    @classmethod
    def of(cls, model: Model) -> SummedModel:
        """See a model as sums do: strata are specimens with equal batch terms."""
        terms = model.columns[:, len(model.plain.names) :]
        rows, places = np.unique(terms, axis=0, return_inverse=True)
        codes = np.asarray(places, dtype=np.int64).reshape(-1)
        constant = np.ones((len(terms), 1))
        if factor(np.hstack([constant, terms])).rank < len(rows):  # numbers, or several columns
            codes = np.zeros(len(terms), dtype=np.int64)
        return cls(codes, basis_beside(model.columns, strata_basis(codes)), model.columns)

    def weights(self, model: Model, contrasts: Floats) -> Floats:
        """Contrasts of shape (contrasts, terms) on the directions."""
        rows = (contrasts @ model.full.solution) @ model.full.basis.T
        return np.asarray(rows @ self.directions)

    def along(self, sums: BatchStatistics, columns: Floats) -> Floats:
        """Products of some columns, in the span of the model, with complete centred features."""
        sizes = sums.specimens.astype(np.float64)[:, None]
        centred = sums.means - (sizes * sums.means).sum(axis=0) / sizes.sum()
        totals = np.zeros((len(sizes), columns.shape[1]))
        np.add.at(totals, self.codes, columns)
        return np.asarray(
            totals.T @ centred + (columns.T @ self.directions) @ sums.products.sum(axis=0)
        )


def strata_basis(codes: Integers) -> Floats:
    """An orthonormal column for each stratum.

    Examples
    --------
    >>> strata_basis(np.array([0, 0, 0, 0, 1])).tolist()[3:]
    [[0.5, 0.0], [0.0, 1.0]]
    """
    strata = np.eye(int(codes.max()) + 1)[codes]
    return np.asarray(strata / np.sqrt(strata.sum(axis=0)))


@dataclass(frozen=True, slots=True, eq=False)
class SummedFeatures:
    """What sums tell of every feature, each of shape (features,).

    Attributes
    ----------
    observed : array
        Specimens with a value.
    mean, squares : array
        Mean of the observed values (NaN where there are none), and their squares around it.
    varies : array of bool
        Whether two observed values differ.
    """

    observed: Floats
    mean: Floats
    squares: Floats
    varies: Flags

    @classmethod
    def of(cls, sums: BatchStatistics) -> SummedFeatures:
        """Put the strata together."""
        counts = sums.counts
        observed = counts.sum(axis=0)
        total = (counts * sums.means).sum(axis=0)
        mean = np.where(observed > 0, total / np.maximum(observed, 1.0), np.nan)
        above = np.where(counts > 0, sums.means - mean, 0.0)
        squares = sums.squares.sum(axis=0) + (counts * above**2).sum(axis=0)
        highest = np.where(counts > 0, sums.means, -np.inf).max(axis=0)
        lowest = np.where(counts > 0, sums.means, np.inf).min(axis=0)
        varies = (sums.squares > 0).any(axis=0) | (highest > lowest)
        return cls(observed, mean, squares, np.asarray(varies & (observed > 1)))


def fit_from_sums(
    sums: BatchStatistics,
    seen: SummedFeatures,
    weights: Floats,
    groups: tuple[tuple[int, ...], ...],
) -> tuple[ContrastFits, Places]:
    r"""Fit each feature on its observed specimens; give also the places that sums tell badly.

    With :math:`W = \sum(z-\bar z)(z-\bar z)^T` and :math:`C = \sum(z-\bar z)(x-\bar x)` over the
    observed specimens, around the means of their strata, the estimate is :math:`w^TW^{-1}C`, its
    variance :math:`w^TW^{-1}w`, and the residual sum of squares :math:`M_2 - C^TW^{-1}C`: what
    :func:`~batchsense.experiments.testing.fitting.fit_contrasts` gives of the values. ``weights``
    have shape (contrasts, directions).

    Examples
    --------
    >>> sums = BatchStatistics.empty(1, 1, 1).add([[1.0], [2.0], [6.0]], [0] * 3, [[-1], [0], [1]])
    >>> fits, doubtful = fit_from_sums(sums, SummedFeatures.of(sums), np.ones((1, 1)), ())
    >>> fits.estimates.ravel().tolist(), fits.residual_squares.tolist(), fits.df.tolist()
    ([2.5], [1.5], [1.0])
    """
    contrasts, features, directions = len(weights), sums.shape[2], sums.shape[1]
    products = sums.products.sum(axis=0)
    counts = sums.counts
    fits = ContrastFits(
        np.full((contrasts, features), np.nan),
        np.full((contrasts, features), np.nan),
        np.full((len(groups), features), np.nan),
        np.maximum(seen.observed - (counts > 0).sum(axis=0) - directions, 0.0),
        sums.squares.sum(axis=0),
    )
    within = fits.residual_squares.copy()
    complete = np.setdiff1d(np.arange(features), sums.incomplete)
    shared = sums.covariate_squares.sum(axis=0)
    good = np.ones(features, dtype=bool)
    for start in range(0, len(complete), _TOGETHER):
        part = complete[start : start + _TOGETHER]
        _solve(fits, part, shared[None], products[:, part], weights, groups)
    own = sums.own_squares.sum(axis=0)
    for start in range(0, len(sums.incomplete), _TOGETHER):
        part = sums.incomplete[start : start + _TOGETHER]
        normal = own[:, :, start : start + _TOGETHER].transpose(2, 0, 1)
        held = np.ones(len(part), dtype=bool)
        if directions:
            held = np.linalg.eigvalsh(normal)[:, 0] > _HELD
        good[part] = held
        _solve(fits, part[held], normal[held], products[:, part[held]], weights, groups)
    # Exact fits are found by their smallness beside the values, as in memory.
    size = within + (counts * sums.means**2).sum(axis=0)
    exact = fits.residual_squares <= _ROUNDING * size
    fits.residual_squares[exact] = 0.0
    good &= (fits.residual_squares > _LEFT * within) | (within == 0.0)
    return fits, np.flatnonzero(~good & seen.varies)


def _solve(
    fits: ContrastFits,
    features: Places,
    normal: Floats,
    products: Floats,
    weights: Floats,
    groups: tuple[tuple[int, ...], ...],
) -> None:
    """Solve the normal equations of some features; one matrix stands for all of them."""
    count, width = len(features), len(products)
    sides = np.empty((len(normal), width, len(weights)))
    sides[:] = weights.T
    turned = np.linalg.solve(normal, sides)
    covariances = weights @ turned
    if len(normal) == 1:
        slopes = np.linalg.solve(normal[0], products)
    else:
        slopes = np.linalg.solve(normal, products.T[:, :, None])[:, :, 0].T
    estimates = weights @ slopes
    fits.estimates[:, features] = estimates
    fits.unscaled[:, features] = np.einsum("fcc->cf", covariances)
    fits.residual_squares[features] -= (products * slopes).sum(axis=0)
    covariances = np.broadcast_to(covariances, (count, len(weights), len(weights)))
    for place, group in enumerate(groups):
        members = list(group)
        mine = estimates[members].T[:, :, None]
        pulled = np.linalg.solve(covariances[:, members][:, :, members], mine)
        fits.joint[place, features] = (mine * pulled).sum(axis=(1, 2)) / len(group)
