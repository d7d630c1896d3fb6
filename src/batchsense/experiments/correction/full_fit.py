"""The full model, batches and kept terms together, solved from sufficient statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.variation.moments import Moments

#: A direction of the kept terms that varies inside the batches by less than this part of its
#: whole variation cannot be told from them; the same bound as in the analysis of confounding.
LOST = 1e-10
#: Variation of a kept term below this part is rounding: the term is constant or says the same.
#: Sums of squares keep about 13 digits.
_CONSTANT = 1e-13
#: Trace of an inverse up to which plain elimination keeps twelve digits.
_PLAIN = 1e4
#: Features with missing values that are solved at a time: their matrices, one for each, then take a
#: few megabytes with ten terms.
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class FullFit:
    """Least-squares fit of every feature on batches and kept terms."""

    #: (covariates, features): β of the kept terms, in units of the observations per unit of the
    #: term.
    slopes: Floats
    #: (batches, features): what the model gives to a specimen of the batch whose kept terms are
    #: zero; zero where the feature was not observed.
    levels: Floats
    residual_squares: Floats  #: (batches, features): residual sum of squares inside each batch
    counts: Floats  #: (batches, features): observed specimens
    #: (features,): whether the observed specimens tell batches and kept terms apart.
    estimable: Flags


def full_fit(statistics: BatchStatistics) -> FullFit:
    r"""Solve the normal equations inside the batches.

    .. math:: \beta = \Big(\sum_b W_b\Big)^{-1} \sum_b C_b, \qquad
              B_b = \bar x_b - \bar z_b^T\beta, \qquad
              RSS_b = M_{2,b} - 2\beta^T C_b + \beta^T W_b \beta

    Where a direction of the kept terms varies between batches only, the data do not determine its
    slope. It is then taken as zero, so that the whole difference counts as one between batches;
    of all solutions this is the one whose kept part varies least over the specimens, whatever the
    coding of the terms.

    Source: Frisch and Waugh (1933).
    """
    _, terms, features = statistics.shape
    counts = statistics.counts
    slopes = np.zeros((terms, features))
    estimable = (counts > 0).sum(axis=0) > 1
    if terms:
        within = statistics.covariate_squares.sum(axis=0)[None]
        whole_squares = _kept_terms(statistics).cross_products
        assert whole_squares is not None
        axes, each = _axes(whole_squares[None])
        slopes[:], told_apart = _solve(axes, within, statistics.products)
        estimable &= told_apart
        whole = axes[0][:, axes[0].any(axis=0)]
        for low in range(0, len(statistics.incomplete), _AT_ONCE):
            part = slice(low, low + _AT_ONCE)
            own = statistics.incomplete[part]
            squares, products = statistics.own_squares[..., part], statistics.products[:, :, own]
            slopes[:, own], plain = _solve_plain(whole, squares.sum(axis=0), products.sum(axis=0))
            estimable[own] = (counts[:, own] > 0).sum(axis=0) > 1
            hard = np.flatnonzero(~plain)
            if len(hard):
                within = np.moveaxis(squares[..., hard].sum(axis=0), -1, 0)
                between = _between(
                    statistics.own_counts[:, part][:, hard],
                    statistics.own_means[..., part][..., hard],
                )
                axes, _ = _axes(within + between, _CONSTANT * each)
                slopes[:, own[hard]], told_apart = _solve(axes, within, products[..., hard])
                estimable[own[hard]] &= told_apart
    levels, residual = remove_slopes(statistics, slopes)
    return FullFit(slopes, levels, residual, counts, estimable)


def _kept_terms(statistics: BatchStatistics) -> Moments:
    """Merge the kept terms of all batches."""
    parts = []
    for count, mean, squares in zip(
        statistics.specimens.tolist(),
        statistics.covariate_means,
        statistics.covariate_squares,
        strict=True,
    ):
        own = np.diagonal(squares)
        parts.append(Moments(count, float(count), mean, np.zeros_like(mean), own, squares))
    return reduce(Moments.merge, parts)


def _between(counts: Floats, means: Floats) -> Floats:
    """How the kept terms vary between batches, the feature first: each has counts of its own."""
    weights = counts / np.maximum(counts.sum(axis=0), 1.0)
    apart = means - (weights[:, None] * means).sum(axis=0)
    return np.asarray(np.einsum("bf,bqf,bpf->fqp", counts, apart, apart))


def _axes(whole: Floats, least: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """Axes on which the kept terms vary by 1, and how each of them varies.

    Axes are columns, the feature first, and zero where there is no variation. A term that varies by
    no more than ``least`` does not vary: what is left of its sums is rounding.
    """
    each = np.einsum("fqq->fq", whole)
    inverse = np.where(each > least, 1.0 / np.sqrt(np.where(each > least, each, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(whole * (inverse[:, :, None] * inverse[:, None, :]))
    varies = values > _CONSTANT * np.maximum(values[:, -1:], np.finfo(np.float64).tiny)
    root = np.where(varies, 1.0 / np.sqrt(np.where(varies, values, 1.0)), 0.0)
    return vectors * root[:, None, :] * inverse[:, :, None], each


def _solve(axes: Floats, within: Floats, products: Floats) -> tuple[Floats, Flags]:
    """Solve for the slopes, the feature last; one set of axes may serve all features."""
    inside, turned = np.linalg.eigh(np.swapaxes(axes, 1, 2) @ within @ axes)
    told = inside > LOST
    inverse = np.where(told, 1.0 / np.where(told, inside, 1.0), 0.0)
    solved = axes @ turned
    total = products.sum(axis=0)
    if len(solved) == 1:
        slopes = (solved[0] * inverse[0]) @ (solved[0].T @ total)
    else:
        slopes = np.einsum("fqr,fr,fpr,pf->qf", solved, inverse, solved, total, optimize=True)
    return slopes, told.sum(axis=1) == axes.any(axis=1).sum(axis=1)


def _solve_plain(axes: Floats, within: Floats, total: Floats) -> tuple[Floats, Flags]:
    """Solve for the slopes of many features at once, and say for which that was enough.

    ``axes`` are those of all specimens. On them the specimens of one feature vary by at most 1, so
    an inverse with a small trace proves that none of their directions is lost.
    """
    terms, features = total.shape
    rank = axes.shape[1]
    half = (axes.T @ within.reshape(terms, -1)).reshape(rank, terms, features)
    matrix = np.einsum("rpf,ps->rsf", half, axes, optimize=True)
    plain = np.ones(features, dtype=bool)
    for k in range(rank):  # Gauss and Jordan, in place
        pivot = matrix[k, k].copy()
        plain &= pivot > 1.0 / _PLAIN
        pivot[~plain] = 1.0
        matrix[k, k] = 1.0
        row = matrix[k] * (plain / pivot)
        column = matrix[:, k].copy()
        matrix[:, k] = 0.0
        matrix -= column[:, None] * row
        matrix[k] = row
    plain &= np.einsum("rrf->f", matrix) < _PLAIN
    return axes @ np.einsum("rsf,sf->rf", matrix, axes.T @ total), plain


def remove_slopes(statistics: BatchStatistics, slopes: Floats) -> tuple[Floats, Floats]:
    """What known slopes leave of means and sums of squares, both of shape (batches, features).

    As levels and residual squares of :class:`FullFit`, of specimens that need not be those from
    which the slopes come; means and sums of squares themselves where there are no terms.
    """
    if not len(slopes):
        return statistics.means, statistics.squares
    levels = statistics.means.copy()
    residual = statistics.squares.copy()
    own = statistics.incomplete
    for b in range(len(levels)):
        explained = statistics.covariate_means[b] @ slopes
        fitted = statistics.covariate_squares[b] @ slopes
        if len(own):
            explained[own] = (statistics.own_means[b] * slopes[:, own]).sum(axis=0)
            fitted[:, own] = np.einsum("qph,ph->qh", statistics.own_squares[b], slopes[:, own])
        levels[b] -= explained
        residual[b] += (slopes * (fitted - 2.0 * statistics.products[b])).sum(axis=0)
    np.maximum(residual, 0.0, out=residual)
    if len(own):
        levels[:, own] = np.where(statistics.own_counts > 0, levels[:, own], 0.0)
    levels[statistics.specimens == 0] = 0.0
    return levels, residual
