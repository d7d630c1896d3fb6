"""The tests of a matrix on disk: one pass over it, and further ones for what sums tell badly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats, Places
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.beyond_memory.summed import SummedFeatures, SummedModel, strata_basis
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design
from batchsense.experiments.testing.comparisons import Model
from batchsense.experiments.testing.fitting import ContrastFits, fit_contrasts
from batchsense.experiments.testing.remarks import LOOKED_AT, Trace, trace_columns, trace_in
from batchsense.experiments.value_kinds import tallies
from batchsense.progress import Progress

#: Sums tell a feature well where its observed specimens hold more than this part of every direction
#: of the model, and the model leaves this part of its squares inside the strata: two bounds that
#: cost three and six of sixteen digits. The others are read again, and fitted value by value.
_HELD, _LEFT = 1e-3, 1e-6
#: A residual sum of squares below this part of n·max(y)² is rounding, as for values in memory; the
#: squares of all values, which the sums hold, stand between max(y)² and n·max(y)².
_ROUNDING = (16 * np.finfo(float).eps) ** 2
#: Features whose normal equations are solved together: a few megabytes each time.
_TOGETHER = 4096


@dataclass(slots=True, eq=False)
class StoredFits:
    """Fits of a table on disk; the sums are kept for what is asked of them afterwards."""

    table: StoredTable
    model: SummedModel | None = None
    sums: BatchStatistics | None = None
    squares: Floats | None = None

    def fit(
        self,
        model: Model,
        contrasts: Floats,
        groups: tuple[tuple[int, ...], ...],
        progress: Progress,
    ) -> tuple[ContrastFits, tuple[Floats, Flags]]:
        """Fit every feature; give also the means, and which features vary."""
        self.model = summed = SummedModel.of(model)
        self.sums = sums = self.table.sums(summed.codes, summed.directions)
        seen = SummedFeatures.of(sums)
        weights = summed.weights(model, contrasts)
        fits, doubtful = fit_from_sums(sums, seen, weights, groups)
        self.squares = fits.residual_squares
        for places, values in self.table.picked(doubtful):
            own = fit_contrasts(values, model.full, model.columns, contrasts, groups, progress)
            for name in ("estimates", "unscaled", "joint", "df", "residual_squares"):
                getattr(fits, name)[..., places] = getattr(own, name)
        left_out = tallies(self.table.features)
        for array in (fits.estimates, fits.unscaled, fits.joint):
            array[:, left_out] = np.nan
        mean = np.where(left_out, np.nan, seen.mean)
        return fits, (mean, np.asarray(seen.varies & ~left_out))

    def trace(self, design: Design, model: Model) -> Trace:
        """What is left of the batches in the first features that are complete and vary.

        Rows are turned onto the directions of the model, and one more that holds the length of what
        it leaves: sums of squares of models inside it stay what they are.
        """
        assert self.model is not None
        assert self.sums is not None
        assert self.squares is not None
        seen = SummedFeatures.of(self.sums)
        good = seen.varies & (seen.observed == design.specimens)
        places = np.flatnonzero(good)[:LOOKED_AT]
        basis = np.hstack([strata_basis(self.model.codes), self.model.directions])
        length = np.sqrt(np.maximum(self.squares[places], 0.0))
        turned = np.vstack([self.model.along(self.sums, basis)[:, places], length])

        columns = trace_columns(design, model)
        height = len(turned) + columns[1].shape[1]  # no fewer rows than columns

        def taller(rows: Floats) -> Floats:
            return np.vstack([rows, np.zeros((height - len(rows), rows.shape[1]))])

        wanted, full, batches = (taller(basis.T @ each) for each in columns)
        return trace_in(taller(turned), (wanted, full, batches))


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
