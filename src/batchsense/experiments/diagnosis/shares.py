"""How much of the variance belongs to a term of the model, free of what chance alone would show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.diagnosis.products import BLOCK_VALUES, Products, products_of
from batchsense.experiments.projections import basis_beside, without
from batchsense.experiments.statistics.tail_areas import noncentrality
from batchsense.progress import Progress, silent
from batchsense.variation.components import beyond_chance
from batchsense.variation.directions import satterthwaite_directions, square_trace_of_residuals
from batchsense.variation.interval import Interval
from batchsense.variation.linear import factor


@dataclass(frozen=True, slots=True)
class Null:
    """The raw share of a term when it does nothing.

    Attributes
    ----------
    mean, high : float
        Mean and 95 % quantile of the raw share over the permutations.
    p_value : float
        (1 + permutations at least as extreme) / (1 + permutations).
    permutations : int
        How many were drawn.
    """

    mean: float
    high: float
    p_value: float
    permutations: int


def permutation_null(
    left_by_others: Products,
    term_basis: Floats,
    others_basis: Floats,
    total: float,
    rng: np.random.Generator,
    permutations: int,
    progress: Progress = silent,
) -> Null:
    """Permute what the other terms leave of the observations, and fit the term again.

    The rows of the residuals of the other terms are exchangeable if the term does nothing. A
    permutation is as extreme as the data if its F statistic is at least as large; F, unlike the
    share, does not depend on what the other terms happen to take from a permutation. Products that
    are sketched draw both.

    Both bases are orthonormal, of shape (specimens, columns), the term's without what the other
    terms span; ``total`` is the sum of squares that the share is taken of.

    Source: Freedman and Lane (1983).
    """
    moving = np.ptp(others_basis, axis=0) > 1e-9  # the constant stays, and takes nothing
    r, columns = term_basis.shape[1], np.hstack([term_basis, others_basis[:, moving]])
    specimens, width = columns.shape
    everything = left_by_others.squares

    def ratio(term: Floats, others: Floats | float) -> Floats:
        # Constant factors do not change the order.
        rest = everything - others - term
        real = rest > 1e-12 * everything
        return np.where(real, term / np.where(real, rest, 1.0), np.inf)

    # Equal statistics of equal arrangements must count as hits despite round-off.
    observed = ratio(np.array(left_by_others.sum_along(term_basis)), 0.0) * (1 - 1e-9)
    drawn = left_by_others.drawn(term_basis, rng, permutations)
    if drawn is not None:
        others = left_by_others.drawn(columns[:, r:], rng, permutations)
        hits = int((ratio(drawn, 0.0 if others is None else others) >= observed).sum())
        return _null(drawn / total, hits)
    raw = np.empty(permutations)
    hits = 0
    # One product for many permutations: singly each would read the whole matrix for few columns.
    size = max(1, BLOCK_VALUES // (max(specimens, left_by_others.features) * width))
    for start in range(0, permutations, size):
        orders = [rng.permutation(specimens) for _ in range(min(size, permutations - start))]
        moved = columns[np.stack(orders, axis=1)].reshape(specimens, -1)
        squares = left_by_others.squares_along(moved).reshape(-1, width)
        term = squares[:, :r].sum(axis=1)
        raw[start : start + len(orders)] = term / total
        hits += int((ratio(term, squares[:, r:].sum(axis=1)) >= observed).sum())
        progress("permuting labels", start + len(orders), permutations)
    return _null(raw, hits)


def _null(raw: Floats, hits: int) -> Null:
    mean, high = float(raw.mean()), float(np.quantile(raw, 0.95))
    return Null(mean, high, (1 + hits) / (1 + len(raw)), len(raw))


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a term in the total variance, summed over all features.

    Attributes
    ----------
    share : Interval
        Share with the part that chance explains subtracted; 0 where that would be negative.
    raw : float
        Share of the sum of squares: grows with every column added, even one of pure noise.
    null : Null
        What ``raw`` is when the labels of the term are permuted.
    columns : int
        Independent columns of the term that the other terms leave.
    df_residual : int
        Specimens minus independent columns of the whole model.
    """

    share: Interval
    raw: float
    null: Null
    columns: int
    df_residual: int


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """Observations split by a model: what a term adds, and what is left."""

    before: Products  # what the other terms leave
    left: Products  # what the term leaves of that
    term: Floats  # the orthonormal basis of the term beside the others
    others: Floats  # and theirs
    total: float
    df_residual: int


def share_of_variance(
    observations: Floats | Products,
    term: Floats,
    others: Floats,
    rng: np.random.Generator,
    permutations: int = 200,
    level: float = 0.95,
    progress: Progress = silent,
) -> Share | None:
    r"""Estimate the share of variance that a term adds to the other terms, the constant among them.

    With r columns left of the term, d residual degrees of freedom, and sums over features,

    .. math:: \hat\omega = \frac{SS_{term|others} - r\, SSE / d}{SS_{total}},

    which is zero on average when the term does nothing. The interval inverts the noncentral F
    distribution of :math:`(SS_{term|others}/r) / (SSE/d)` with :math:`r\nu` and :math:`d\nu`
    degrees of freedom. Features vary together, so they count as :math:`\nu` independent ones
    (Satterthwaite): the smaller of :math:`(\mathrm{tr}\,\Sigma)^2 / \mathrm{tr}\,\Sigma^2` and of
    the same for the direction in which the term acts. In simulation it covered 92 to 99 % at
    nominal 95 % with 12 to 200 specimens, normal or t(5) errors, independent or strongly correlated
    features; with log-normal errors it may fall to 75 %: transform such data first.

    Redundant columns do no harm. None if the other terms leave nothing of the term, or no residual
    degree of freedom.

    Source: Steiger (2004); Satterthwaite (1946); Freedman and Lane (1983).
    """
    split = _fitted(products_of(observations), term, others)
    if split is None:
        return None
    return Share(
        share=_interval(split, level),
        raw=split.before.sum_along(split.term) / split.total,
        null=permutation_null(
            split.before, split.term, split.others, split.total, rng, permutations, progress
        ),
        columns=split.term.shape[1],
        df_residual=split.df_residual,
    )


def explained_share(
    observations: Floats | Products, model: Floats, level: float = 0.95
) -> Interval | None:
    """Estimate the share of variance that a whole model explains, chance subtracted.

    ``model`` has shape (specimens, columns); redundant columns do no harm. None if it explains
    nothing or everything by its number of columns.
    """
    split = _fitted(products_of(observations), model, np.ones((len(model), 1)))
    return None if split is None else _interval(split, level)


def share_alone(observations: Floats | Products, term: Floats) -> float:
    """The share of the sum of squares that a term explains without any other.

    Examples
    --------
    >>> share_alone(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[0.0], [0], [1], [1]]))
    0.8
    """
    products = products_of(observations)
    basis = factor(np.hstack([np.ones((len(term), 1)), term])).basis
    return products.sum_along(basis) / products.squares


def _fitted(products: Products, term: Floats, others: Floats) -> _Split | None:
    remaining = factor(others).basis
    term_left = basis_beside(term, remaining)
    df = len(term) - remaining.shape[1] - term_left.shape[1]
    if term_left.shape[1] == 0 or df < 1 or products.squares == 0:
        return None
    before, left = (products.leaving(b) for b in (remaining, np.hstack([remaining, term_left])))
    return _Split(before, left, term_left, remaining, products.squares, df)


def _interval(split: _Split, level: float) -> Interval:
    r, d = split.term.shape[1], split.df_residual
    between, within = split.before.sum_along(split.term), split.left.squares
    noise = within / d
    raw = between / split.total
    # Round-off left of noise-free data says nothing about uncertainty.
    if within <= 1e-20 * split.total:
        return Interval(raw, raw, raw, level)
    estimate = max(0.0, beyond_chance(between, r, noise) / split.total)
    nu = _effective_features(split, between, noise)
    statistic = between / (r * noise)
    explained = split.total - between - within

    tail = (1 - level) / 2
    # A statistic below 1 is an accident of the noise; it must not make the upper bound confident.
    ends = np.array([1 - tail, tail]), np.array([statistic, max(statistic, 1.0)])
    squares = noncentrality(*ends, r * nu, d * nu) * noise / nu
    low, high = (squares / (explained + squares + (r + d) * noise)).tolist()
    return Interval(estimate, min(low, estimate), max(high, estimate), level)


def _effective_features(split: _Split, between: float, noise: float) -> float:
    """Count how many independent features would vary as much as these do together."""
    r, d, features = split.term.shape[1], split.df_residual, split.before.features
    # Σ has at least rank 1 and at most as many as features.
    overall = satterthwaite_directions(
        noise,
        square_trace_of_residuals(split.left.square_trace() / d**2, noise, d),
        noise**2 / features,
    )
    effect = beyond_chance(between, r, noise)
    if effect <= 0:
        return overall
    of_square = noise**2 / overall
    full = np.hstack([split.others, split.term])
    seen = without(split.before.spread(split.term), full)
    along = (float((seen**2).sum()) / d - r * of_square) / effect
    along = min(max(along, of_square / noise), noise)
    return float(min(overall, noise / along))
