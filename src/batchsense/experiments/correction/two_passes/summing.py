"""The first pass over the data: sums per cell and batch around a shift, feature by feature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchsense.arrays import Floats, Matrix, Places
from batchsense.errors import DataError
from batchsense.experiments.correction.two_passes.pass_runner import (
    available_threads,
    compiled_for,
    run_pieces,
)
from batchsense.experiments.correction.two_passes.specimen_groups import Cells
from batchsense.storage.matrices.folded import Folded

#: Features of a tile in the first pass: long enough to stream, short enough for its sums to stay
#: in a processor's own cache.
_TILE = (512, 10_000)
#: The same where eight rows are unfolded beside the sums.
_FOLDED = 5_000
#: Sums that a tile of features with missing values may have in the cache of a processor.
_CACHE = 16_384
#: Values that numpy handles at a time, so that copies stay small (16 MB).
_BLOCK = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums of one chunk, around a shift that is an observed value of the batch and feature.

    A batch whose values of a feature are all the same has sums of exactly zero.
    """

    shifts: Floats  #: (batches, features): what was subtracted first, in units of the observations
    sums: Floats  #: (cells, features): sums of what lies above the shift
    squares: Floats  #: (batches, features): sums of its squares
    #: (batches, covariates, features): sums of its products with the centred covariates; empty
    #: where cells determine them.
    products: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ObservedSums(Sums):
    """Sums over what was observed of features with missing values."""

    counts: Floats  #: (cells, features): observed specimens per cell
    observed_sums: Floats  #: (batches, covariates, features)
    #: (batches, covariates, covariates, features): sums of the centred covariates and of their
    #: products over the observed specimens; empty where cells determine the covariates.
    observed_squares: Floats


def complete_sums(
    values: Any, cells: Cells, batch_count: int, centred: Floats, threads: int | None = None
) -> Sums:
    """Sum a chunk as if every value were observed; a missing one makes its feature's sums NaN.

    ``values`` is an array or a :class:`Folded` block, of shape (specimens, features).
    ``centred``, of shape (specimens, covariates), are covariates minus their mean in the batch; no
    columns where cells determine them.
    """
    features = values.shape[1]
    folded = isinstance(values, Folded)
    found = Sums(
        shifts=np.zeros((batch_count, features)),
        sums=np.zeros((len(cells.sizes), features)),
        squares=np.zeros((batch_count, features)),
        products=np.zeros((batch_count, centred.shape[1], features)),
    )
    first = cells.order[cells.batch_starts[:-1]]
    found.shifts[cells.batches_present] = values.rows(first) if folded else values[first]
    kernels = values.compiled if folded else compiled_for(values.size)
    if kernels is None:
        with np.errstate(invalid="ignore", over="ignore"):
            step = max(1, _BLOCK // max(len(values), 1))
            for low in range(0, features, step):
                _sum_block(values, cells, centred, found, slice(low, min(low + step, features)))
        return found
    if not folded and not values.flags.c_contiguous and not values.flags.f_contiguous:
        values = np.ascontiguousarray(values)

    def work(low: int, high: int) -> None:
        own = cells.order, cells.starts, cells.batch_of_cell
        kept = centred if centred.shape[1] else None
        tables = found.shifts, found.sums, found.squares, found.products
        if folded:
            room = np.empty((8, high - low), dtype=values.dtype)
            kernels.sum_folded(*values.stored, room, *own, kept, *tables, low, high)
        elif values.flags.c_contiguous:
            kernels.sum_rows(values, *own, kept, *tables, 0, low, high)
        else:
            kernels.sum_columns(values.T, *own, kept, *tables, low, high)

    share = -(-features // available_threads(threads))
    run_pieces(work, features, min(max(share, _TILE[0]), _FOLDED if folded else _TILE[1]), threads)
    return found


def observed_sums(
    values: Matrix,
    cells: Cells,
    batch_count: int,
    centred: Floats,
    features: Places,
    threads: int | None = None,
) -> ObservedSums:
    """Sum the observed values of some features.

    Arguments as for :func:`complete_sums`, and the features that have missing values; the sums have
    counts, for these features only.
    """
    count, terms = len(features), centred.shape[1]
    by_term = (batch_count, terms, count)
    found = ObservedSums(
        shifts=np.zeros((batch_count, count)),
        sums=np.zeros((len(cells.sizes), count)),
        squares=np.zeros((batch_count, count)),
        products=np.zeros(by_term),
        counts=np.zeros((len(cells.sizes), count)),
        observed_sums=np.zeros(by_term),
        observed_squares=np.zeros((batch_count, terms, terms, count)),
    )
    for b, place, _ in _within(cells):
        found.shifts[b] = _first_observed(values, cells.order[place], features)
    kernels = compiled_for(len(values) * count, "observed_kernels")
    by_rows = bool(values.flags.c_contiguous)

    def work(low: int, high: int) -> None:
        own = features[low:high]
        if kernels is None:
            _sum_observed(values[:, own], cells, centred, found, slice(low, high))
            return
        at, block = int(own[0]), values
        if not by_rows or own[-1] - own[0] >= len(own):
            at, block = 0, np.ascontiguousarray(values[:, own])
        where = (block, at, cells.order, cells.starts, cells.batch_of_cell)
        kernels.sum_observed(
            *where, found.shifts, found.sums, found.squares, found.counts, low, high
        )
        if terms:
            kept = (centred, found.shifts, found.products)
            more = (found.observed_sums, found.observed_squares)
            kernels.sum_observed_covariates(*where, *kept, *more, low, high)

    rows_of_sums = 6 + 2 * terms + terms * (terms + 1) // 2
    step = _BLOCK // max(len(values), 1) if kernels is None else _CACHE // rows_of_sums
    run_pieces(work, count, max(step, 1), threads)
    for z in range(terms):
        found.observed_squares[:, :z, z] = found.observed_squares[:, z, :z]
    unusable = ~np.isfinite(found.squares).all(axis=0)
    if unusable.any():
        _refuse(values, features[unusable])
    return found


def _within(cells: Cells) -> Iterable[tuple[int, slice, list[tuple[int, slice]]]]:
    """Each batch, its place in the sorted specimens, and its cells with places in it."""
    bounds = cells.batch_starts
    for number, b in enumerate(cells.batches_present):
        start, stop = int(bounds[number]), int(bounds[number + 1])
        own = np.flatnonzero(cells.batch_of_cell == b)
        places = [
            (int(c), slice(int(cells.starts[c]) - start, int(cells.starts[c + 1]) - start))
            for c in own
        ]
        yield int(b), slice(start, stop), places


def _sum_block(values: Matrix, cells: Cells, centred: Floats, found: Sums, block: slice) -> None:
    for b, place, own in _within(cells):
        rows = cells.order[place]
        above = np.asarray(values[rows, block], dtype=np.float64) - found.shifts[b, block]
        found.squares[b, block] = np.einsum("ij,ij->j", above, above)
        for cell, inside in own:
            found.sums[cell, block] = above[inside].sum(axis=0)
        if centred.shape[1]:
            found.products[b, :, block] = centred[rows].T @ above


def _first_observed(values: Matrix, rows: Places, features: Places) -> Floats:
    first = np.full(len(features), np.nan)
    unknown = np.arange(len(features))
    for i in rows:
        first[unknown] = values[i, features[unknown]]
        unknown = unknown[np.isnan(first[unknown])]
        if not len(unknown):
            break
    first[unknown] = 0.0
    return first


def _sum_observed(
    block: Matrix, cells: Cells, centred: Floats, found: ObservedSums, to: slice
) -> None:
    terms = centred.shape[1]
    for b, place, own in _within(cells):
        rows = cells.order[place]
        seen = ~np.isnan(block[rows])
        with np.errstate(over="ignore", invalid="ignore"):  # the NA of R is a NaN that signals
            above = np.where(seen, block[rows] - found.shifts[b, to], 0.0)
            found.squares[b, to] = np.einsum("ij,ij->j", above, above)
        for cell, inside in own:
            found.sums[cell, to] = above[inside].sum(axis=0)
            found.counts[cell, to] = seen[inside].sum(axis=0)
        if terms:
            weights, kept = seen.astype(np.float64), centred[rows]
            pairs = (kept[:, :, None] * kept[:, None, :]).reshape(len(kept), terms**2)
            found.products[b, :, to] = kept.T @ above
            found.observed_sums[b, :, to] = kept.T @ weights
            found.observed_squares[b, :, :, to] = (pairs.T @ weights).reshape(terms, terms, -1)


def _refuse(values: Matrix, features: Places) -> None:
    infinite = np.argwhere(np.isinf(values[:, features]))
    if len(infinite):
        i, j = infinite[0]
        raise DataError(
            f"{len(infinite)} infinite values, the first in row {i + 1}, feature "
            f"{int(features[j]) + 1}; replace them, or leave them empty (NaN) if they are missing"
        )
    raise DataError(
        f"values of feature {int(features[0]) + 1} are too large to be squared; rescale them"
    )
