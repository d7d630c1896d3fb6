"""What a correction needs to know of the data: centred sums that can be merged in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers, Places
from batchsense.errors import DataError
from batchsense.experiments.correction.two_passes.specimen_groups import Cells, checked, group
from batchsense.experiments.correction.two_passes.summing import Sums, complete_sums, observed_sums
from batchsense.storage.matrices.folded import Folded
from batchsense.variation.moments import merged_weights


@dataclass(slots=True, eq=False)
class BatchStatistics:
    r"""Sufficient statistics of batches, kept terms and features; the state of one pass.

    For each batch b and feature, over the specimens in which it was observed, with the kept terms
    z (no constant among them):

    .. math:: N,\quad \bar x,\quad M_2 = \sum (x - \bar x)^2,\quad \bar z,\quad
              C = \sum (x - \bar x)(z - \bar z),\quad W = \sum (z - \bar z)(z - \bar z)^T

    Two states merge exactly (Chan, Golub and LeVeque 1983), so chunks may come in any order and
    from any machine. N, z̄ and W are the same for all features without missing values and are kept
    once; features with missing values have their own.
    """

    specimens: Integers  #: (batches,): specimens seen
    #: (batches, features): x̄ in units of the observations, M₂ in their square. M₂ is zero exactly
    #: where all observed values are the same.
    means: Floats
    squares: Floats
    products: Floats  #: (batches, covariates, features): C
    covariate_means: Floats  #: (batches, covariates)
    covariate_squares: Floats  #: (batches, covariates, covariates): z̄ and W over all specimens
    #: (incomplete features,): places of the features with a missing value, ascending.
    incomplete: Places
    own_counts: Floats  #: (batches, incomplete features)
    own_means: Floats  #: (batches, covariates, incomplete features)
    #: (batches, covariates, covariates, incomplete features): N, z̄ and W over the specimens in
    #: which each of them was observed.
    own_squares: Floats

    @classmethod
    def empty(cls, batch_count: int, features: int, covariates: int = 0) -> BatchStatistics:
        """Give the state before any specimen was seen."""
        return cls(
            specimens=np.zeros(batch_count, dtype=np.int64),
            means=np.zeros((batch_count, features)),
            squares=np.zeros((batch_count, features)),
            products=np.zeros((batch_count, covariates, features)),
            covariate_means=np.zeros((batch_count, covariates)),
            covariate_squares=np.zeros((batch_count, covariates, covariates)),
            incomplete=np.zeros(0, dtype=np.intp),
            own_counts=np.zeros((batch_count, 0)),
            own_means=np.zeros((batch_count, covariates, 0)),
            own_squares=np.zeros((batch_count, covariates, covariates, 0)),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batches, covariates and features."""
        batches, covariates, features = self.products.shape
        return batches, covariates, features

    @property
    def counts(self) -> Floats:
        """N: observed specimens, shape (batches, features); not to be written to."""
        shared = self.specimens[:, None].astype(np.float64)
        counts = np.broadcast_to(shared, (len(shared), self.shape[2]))
        if len(self.incomplete):
            counts = counts.copy()
            counts[:, self.incomplete] = self.own_counts
        return counts

    def add(
        self,
        values: npt.ArrayLike | Folded,
        codes: npt.ArrayLike,
        covariates: npt.ArrayLike | None = None,
        threads: int | None = None,
    ) -> BatchStatistics:
        """Take in more specimens.

        Shapes: ``values`` (specimens, features), perhaps a block that is still :class:`Folded`;
        ``codes`` (specimens,); ``covariates`` (specimens, covariates).
        """
        batches, terms, features = self.shape
        matrix, places, kept = checked(values, codes, covariates, terms)
        if matrix.shape[1] != features:
            raise DataError(f"the chunk has {matrix.shape[1]} features, not {features}")
        if len(places) == 0:
            return self
        if places.min() < 0 or places.max() >= batches:
            raise DataError(f"batch codes must lie between 0 and {batches - 1}")
        chunk = _of_chunk(matrix, places, kept, batches, threads)
        merged = chunk if not self.specimens.any() else self.merge(chunk)
        for field in fields(self):
            setattr(self, field.name, getattr(merged, field.name))
        return self

    def merge(self, other: BatchStatistics) -> BatchStatistics:
        """Give the statistics of the specimens of both."""
        if self.shape != other.shape:
            raise DataError(
                f"statistics of shape {self.shape} and {other.shape} (batches, covariates, "
                "features) cannot be merged"
            )
        merged = BatchStatistics.empty(self.shape[0], 0, self.shape[1])
        merged.specimens = self.specimens + other.specimens
        shared = _merged(self._moments(None), other._moments(None))
        _, merged.means, merged.squares, merged.products, means, squares = shared
        merged.covariate_means, merged.covariate_squares = means[..., 0], squares[..., 0]
        union = np.union1d(self.incomplete, other.incomplete)
        if len(union):
            own = _merged(self._moments(union), other._moments(union))
            merged.incomplete = union
            merged.own_counts, merged.own_means, merged.own_squares = own[0], own[4], own[5]
            merged.means[:, union], merged.squares[:, union] = own[1], own[2]
            merged.products[:, :, union] = own[3]
        return merged

    def rearranged(
        self, batch_count: int, to: Sequence[int], covariates: int, terms: Sequence[int]
    ) -> BatchStatistics:
        """Give the same statistics with other numbers for batches and covariates."""
        found = BatchStatistics.empty(batch_count, self.shape[2], covariates)
        places = np.asarray(to, dtype=np.intp)
        old = np.flatnonzero(np.asarray(terms, dtype=np.intp) >= 0)
        new = np.asarray(terms, dtype=np.intp)[old]
        found.specimens[places] = self.specimens
        found.means[places] = self.means
        found.squares[places] = self.squares
        found.products[np.ix_(places, new)] = self.products[:, old]
        found.covariate_means[np.ix_(places, new)] = self.covariate_means[:, old]
        found.covariate_squares[np.ix_(places, new, new)] = self.covariate_squares[
            :, old[:, None], old
        ]
        found.incomplete = self.incomplete
        width = len(self.incomplete)
        found.own_counts = np.zeros((batch_count, width))
        found.own_counts[places] = self.own_counts
        found.own_means = np.zeros((batch_count, covariates, width))
        found.own_means[np.ix_(places, new)] = self.own_means[:, old]
        found.own_squares = np.zeros((batch_count, covariates, covariates, width))
        found.own_squares[np.ix_(places, new, new)] = self.own_squares[:, old[:, None], old]
        return found

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give the state as named arrays, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> BatchStatistics:
        """Take up a stored state."""
        try:
            found = cls(**{field.name: arrays[field.name] for field in fields(cls)})
            blank = cls.empty(found.shape[0], found.shape[2], found.shape[1])
        except (KeyError, ValueError) as error:
            raise DataError(f"no statistics of batches: {error}") from None
        width = found.incomplete.size
        for field in fields(cls):
            given, wanted = getattr(found, field.name), getattr(blank, field.name)
            shape = wanted.shape
            if field.name == "incomplete" or field.name.startswith("own_"):
                shape = (*shape[:-1], width)
            if given.dtype.kind != wanted.dtype.kind or given.shape != shape:
                raise DataError(f"no statistics of batches: {field.name} does not fit the others")
        if width and not 0 <= found.incomplete.min() <= found.incomplete.max() < found.shape[2]:
            raise DataError("no statistics of batches: incomplete names no feature")
        return found

    def _moments(self, features: Places | None) -> _Moments:
        """N, x̄, M₂, C, z̄ and W: shared by all features, or of some features one by one."""
        counts = self.specimens[:, None].astype(np.float64)
        means, squares = self.covariate_means[:, :, None], self.covariate_squares[..., None]
        if features is None:
            return counts, self.means, self.squares, self.products, means, squares
        width = len(features)
        own = np.searchsorted(features, self.incomplete)
        counts, means, squares = (np.repeat(a, width, axis=-1) for a in (counts, means, squares))
        counts[:, own] = self.own_counts
        means[..., own] = self.own_means
        squares[..., own] = self.own_squares
        return (
            counts,
            self.means[:, features],
            self.squares[:, features],
            self.products[:, :, features],
            means,
            squares,
        )


#: So many terms are multiplied with as they are.
_FEW_TERMS = 4
#: N, x̄, M₂, C, z̄ and W, the feature last; one feature stands for all where it is 1 long.
_Moments = tuple[Floats, Floats, Floats, Floats, Floats, Floats]


def _merged(first: _Moments, second: _Moments) -> _Moments:
    """Merge two sets of moments; a part that saw nothing changes nothing."""
    n1, x1, m1, c1, z1, w1 = first
    n2, x2, m2, c2, z2, w2 = second
    n, share, weight = merged_weights(n1, n2)
    # The mean of a part that saw nothing is a zero that says nothing.
    both = (n1 > 0) & (n2 > 0)
    d = np.where(both, x2 - x1, 0.0)
    e = np.where(both[:, None], z2 - z1, 0.0)
    weighted = weight[:, None] * e
    products = weighted * d[:, None]  # the largest table: no copy of it more than this
    products += c1
    products += c2
    return (
        n,
        np.where(n1 > 0, x1, x2) + share * d,
        m1 + m2 + weight * d**2,
        products,
        np.where((n1 > 0)[:, None], z1, z2) + share[:, None] * e,
        w1 + w2 + weighted[:, :, None] * e[:, None],
    )


def _of_chunk(
    values: Any,
    codes: Places,
    covariates: Floats,
    batches: int,
    threads: int | None,
) -> BatchStatistics:
    """Give the statistics of one chunk."""
    cells = group(codes, covariates)
    specimens = np.bincount(codes, minlength=batches)
    shape = (batches, covariates.shape[1])
    means = np.zeros(shape)
    np.add.at(means, codes, covariates - covariates[0])
    means = means / np.maximum(specimens, 1)[:, None] + covariates[0] * (specimens > 0)[:, None]
    centred = covariates - means[codes]
    squares = np.zeros((*shape, shape[1]))
    for b in cells.batches_present:
        own = centred[codes == b]
        squares[b] = own.T @ own
    explicit = centred if cells.covariates is None else centred[:, :0]
    few, back = _few_inside(explicit, codes, batches)
    sums = complete_sums(values, cells, batches, few, threads)
    if back is not None:
        sums = replace(sums, products=back @ sums.products)
    found = BatchStatistics.empty(batches, values.shape[1], shape[1])
    found.specimens = specimens.astype(np.int64)
    found.covariate_means, found.covariate_squares = means, squares
    counts = specimens[:, None].astype(np.float64)
    found.means, found.squares, found.products = _centred(sums, cells, counts, means)
    unusable = np.flatnonzero(~np.isfinite(found.squares).all(axis=0))
    if len(unusable):
        values = values.rows() if isinstance(values, Folded) else values
        _observe(found, values, cells, explicit, unusable, threads)
    return found


def _few_inside(centred: Floats, codes: Places, batches: int) -> tuple[Floats, Floats | None]:
    """Columns that span those of each batch, and how to come back from products with them.

    Terms that act differently in each batch are many, and few of them differ inside a batch.
    """
    terms = centred.shape[1]
    if terms <= _FEW_TERMS:
        return centred, None
    parts = [np.linalg.svd(centred[codes == b], full_matrices=False) for b in range(batches)]
    ranks = [int((sizes > 1e-13 * sizes.max(initial=0.0)).sum()) for _, sizes, _ in parts]
    if max(ranks) > terms // 2:
        return centred, None
    few, back = np.zeros((len(centred), max(ranks))), np.zeros((batches, terms, max(ranks)))
    for b, ((left, sizes, right), rank) in enumerate(zip(parts, ranks, strict=True)):
        few[codes == b, :rank] = left[:, :rank]
        back[b, :, :rank] = right[:rank].T * sizes[:rank]
    return few, back


def _centred(
    sums: Sums, cells: Cells, counts: Floats, covariate_means: Floats
) -> tuple[Floats, Floats, Floats]:
    """Turn sums around a shift into x̄, M₂ and C; the first two take the place of the sums."""
    products = sums.products
    if cells.covariates is not None:
        products = np.zeros((*covariate_means.shape, sums.shifts.shape[1]))
    means, squares = sums.shifts, sums.squares
    for b in cells.batches_present:  # one at a time, so that little memory is needed beside them
        own = cells.batch_of_cell == b
        with np.errstate(invalid="ignore", over="ignore"):
            total = sums.sums[own].sum(axis=0)
            above = total / np.maximum(counts[b], 1.0)
            means[b] += above
            varies = squares[b] != 0
            squares[b] = np.maximum(squares[b] - above * total, np.finfo(np.float64).tiny) * varies
            if cells.covariates is not None:
                products[b] = (cells.covariates[own] - covariate_means[b]).T @ sums.sums[own]
    return means, squares, products


def _observe(
    found: BatchStatistics,
    values: npt.NDArray[Any],
    cells: Cells,
    centred: Floats,
    features: Places,
    threads: int | None,
) -> None:
    """Fill in the statistics of features with missing values, over what was observed."""
    batches, terms, _ = found.shape
    sums = observed_sums(values, cells, batches, centred, features, threads)
    assert sums.counts is not None
    counts = np.zeros((batches, len(features)))
    np.add.at(counts, cells.batch_of_cell, sums.counts)
    of_batch = found.covariate_means
    if cells.covariates is None:
        assert sums.observed_sums is not None
        assert sums.observed_squares is not None
        first, squares = sums.observed_sums, sums.observed_squares
    else:
        first = np.zeros((batches, terms, len(features)))
        squares = np.zeros((batches, terms, terms, len(features)))
        for b in cells.batches_present:
            own = cells.batch_of_cell == b
            kept, seen = cells.covariates[own] - of_batch[b], sums.counts[own]
            pairs = (kept[:, :, None] * kept[:, None, :]).reshape(len(kept), terms**2)
            first[b] = kept.T @ seen
            squares[b] = (pairs.T @ seen).reshape(squares[b].shape)
    means = first / np.maximum(counts, 1.0)[:, None]
    for b in cells.batches_present:  # one batch at a time: this is the largest of all tables
        squares[b] -= means[b][:, None] * first[b]
    first_seen = sums.shifts.copy()
    x, m, products = _centred(sums, cells, counts, of_batch)
    # C was taken around the mean of all specimens; move it to that of the observed ones.
    products -= means * (counts * (x - first_seen))[:, None]
    observed = counts[:, None] > 0
    found.means[:, features], found.squares[:, features] = x, m
    found.products[:, :, features] = products
    found.incomplete = features
    found.own_counts = counts
    found.own_means = np.where(observed, means + of_batch[:, :, None], 0.0)
    found.own_squares = squares
