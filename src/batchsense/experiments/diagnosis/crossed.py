"""Two crossed factors: what share of all variation goes with each, beside what chance gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, special

from batchsense.arrays import Floats, Places
from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments.row_labels import in_one_order
from batchsense.progress import Progress, silent
from batchsense.variation.factoring import pivoted
from batchsense.variation.interval import Interval
from batchsense.variation.labels import Levels, levels_of
from batchsense.variation.matrices import finite_matrix

_TOLERANCE = 1e-10
#: Sums of squares below this share of the total are rounding.
_ROUNDING = 1e-13


@dataclass(frozen=True, slots=True)
class FactorShare:
    """One term's share of the total sum of squares.

    Attributes
    ----------
    share : Interval
        The share with a confidence interval for new levels of the second factor (jackknife over
        its levels; unbounded with fewer than three).
    df : int
        Degrees of freedom of the term. Shares grow with them by chance alone.
    null_mean, null_max : float or None
        Mean and maximum of the share when the second factor is shuffled within the first; None
        for terms that the shuffling does not test.
    p_value : float or None
        (1 + shuffles with at least this share) / (1 + shuffles).
    """

    share: Interval
    df: int
    null_mean: float | None = None
    null_max: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class RandomShares:
    """Shares of the variance when both factors and their interaction are random.

    Attributes
    ----------
    first, second, interaction, within : Interval
        Variance component over the sum of the four; unbiased components, so a share can be
        negative. Jackknife intervals over the levels of the second factor.
    second_over_interaction, interaction_over_within : float
        Ratios of mean squares; about 1 where the upper term adds nothing to the lower one.
    """

    first: Interval
    second: Interval
    interaction: Interval
    within: Interval
    second_over_interaction: float
    interaction_over_within: float


@dataclass(frozen=True, slots=True)
class TwoFactorShares:
    """What goes with each of two crossed factors, over all features together.

    Attributes
    ----------
    first, second : FactorShare
        First given second, second given first (type II sums of squares over the total).
    interaction, within : FactorShare
        What cells add to the two factors; what is left within cells. The four shares add up to 1
        exactly only if the factors are orthogonal.
    random : RandomShares or None
        Shares by expected mean squares; None where the data cannot separate them (no replicates
        within cells, no interaction degrees of freedom, no variation left in one of the two).
    permutations : int
        Shuffles behind the null.
    """

    first: FactorShare
    second: FactorShare
    interaction: FactorShare
    within: FactorShare
    random: RandomShares | None
    permutations: int


@dataclass(frozen=True, slots=True)
class _Design:
    """Bases on the occupied cells, weighted by the square root of their counts."""

    cells: Places
    counts: Floats
    bases: tuple[Floats, Floats, Floats]
    expected: Floats

    @property
    def dfs(self) -> Places:
        """Degrees of freedom of first, second, interaction and within."""
        first, second, additive = (basis.shape[1] for basis in self.bases)
        cells = len(self.counts)
        return np.array([first, second, cells - additive, int(self.counts.sum()) - cells])


def two_factor_shares(
    observations: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    permutations: int = 200,
    seed: int,
    level: float = 0.95,
    progress: Progress = silent,
) -> TwoFactorShares:
    """Share out the variation over all features between two crossed factors.

    With RSS(model) the residual sum of squares over all features, second|first is
    RSS(first) - RSS(first + second), interaction is RSS(first + second) - RSS(cells), within is
    RSS(cells), each over RSS(constant).

    A share of sums of squares is biased upward by its degrees of freedom: read it beside the null,
    in which the labels of ``second`` are shuffled among the observations of each level of
    ``first``. And a main effect carries interaction with it: ``random`` separates the two by
    equating sums of squares with their expectations under random effects, unbalanced cells
    included (Henderson 1953, method 3).

    Parameters
    ----------
    observations : array of shape (observations, features)
        Finite numbers. All features count by their own variance: scale them first if needed.
    first, second : array of shape (observations,)
        Labels, for example what is wanted and the batch.
    permutations : int
        Number of shuffles; 0 for no null.
    seed : int
        Seed of the shuffles.
    level : float
        Confidence level of the jackknife intervals.
    progress : Progress
        Told of each shuffle.

    Raises
    ------
    DataError
        If a value is not finite, a label is missing, a factor has one level, or nothing varies.
    ConfoundedError
        If one factor determines the other: their shares cannot be told apart.

    References
    ----------
    Searle, Casella and McCulloch 1992, Variance Components; Anderson 2001, Austral Ecology 26, 32.

    Examples
    --------
    Rows differ by 2 and columns by 4, without interaction or noise: 1 to 4 in squares.

    >>> table = [[0.0], [4.0], [2.0], [6.0]]
    >>> found = two_factor_shares(table, list("aabb"), [1, 2, 1, 2], permutations=0, seed=0)
    >>> found.first.share.estimate, found.second.share.estimate
    (0.2, 0.8)
    """
    ordered = in_one_order({"observations": observations, "first": first, "second": second})
    first, second = ordered["first"], ordered["second"]
    values = finite_matrix(observations, "observations")
    rows, columns = levels_of(first, "first"), levels_of(second, "second")
    if np.ptp(values / 2.0, axis=0).max(initial=0.0) > 1e150:
        raise DataError("observations vary by more than 1e150; express them in another unit")
    _check(values, rows, columns)
    if permutations < 0:
        raise DataError(f"permutations is {permutations}; give 0 or more")
    values = _compressed(values - values[0])
    design = _design(rows.codes, columns.codes)
    squares, total = _squares(values, design, design.cells)
    if total == 0.0:
        raise DataError("all observations are equal: there is no variation to share out")
    found = _numbers(squares, total, design)
    spread = _jackknife(values, rows.codes, columns.codes)
    reach = _reach(spread, level)
    null = _null(values, rows.codes, design, permutations, seed, progress)

    def interval(index: int) -> Interval:
        """Estimate with jackknife limits."""
        centre, half = float(found[index]), float(reach[index])
        return Interval(centre, centre - half, centre + half, level)

    def share(index: int) -> FactorShare:
        """Put estimate and null of a term together."""
        if index not in (1, 2) or permutations == 0:
            return FactorShare(interval(index), int(design.dfs[index]))
        chance = null[:, index]
        hits = int((chance >= found[index] * (1.0 - 1e-12)).sum())
        return FactorShare(
            interval(index),
            int(design.dfs[index]),
            float(chance.mean()),
            float(chance.max()),
            (1 + hits) / (1 + permutations),
        )

    random = None
    if np.isfinite(found[4:]).all():
        means = squares / design.dfs
        ratios = float(means[1] / means[2]), float(means[2] / means[3])
        random = RandomShares(interval(4), interval(5), interval(6), interval(7), *ratios)
    return TwoFactorShares(share(0), share(1), share(2), share(3), random, permutations)


def _check(values: Floats, rows: Levels, columns: Levels) -> None:
    """Refuse labels of another length, single levels and factors that determine each other."""
    for name, found in (("first", rows), ("second", columns)):
        if len(found.codes) != len(values):
            raise DataError(f"{len(found.codes)} labels in {name} for {len(values)} observations")
        if len(found.levels) < 2:
            raise DataError(f"{name} has one level only, {found.levels[0]!r}; give two or more")
    occupied = np.zeros((len(rows.levels), len(columns.levels)), dtype=bool)
    occupied[rows.codes, columns.codes] = True
    if (occupied.sum(axis=0) == 1).all() or (occupied.sum(axis=1) == 1).all():
        pairs = [
            f"second {columns.levels[j]} = first {rows.levels[i]}"
            for i, j in np.argwhere(occupied).tolist()
        ]
        raise ConfoundedError(
            "each level of one factor occurs with a single level of the other, so their shares"
            " cannot be told apart; observe some level of each factor with two of the other",
            pairs,
        )


def _compressed(values: Floats) -> Floats:
    """Replace many features by as many as there are rows, with the same inner products of rows."""
    if values.shape[1] <= 2 * len(values):
        return values
    triangle: Floats = linalg.qr(values.T, mode="r")[0][: len(values)]
    return triangle.T


def _design(rows: Places, columns: Places) -> _Design:
    """Bases of first|second, second|first and first + second, and expected sums of squares."""
    pairs, cells = np.unique(np.stack([rows, columns]), axis=1, return_inverse=True)
    cells = cells.reshape(-1)
    counts = np.bincount(cells).astype(np.float64)
    weights = np.sqrt(counts)[:, None]
    one, two = (weights * (labels[:, None] == np.unique(labels)) for labels in pairs)
    first, second = _basis(two, one), _basis(one, two)
    additive = np.hstack([_basis(one), second])
    both = np.diag(weights[:, 0])
    expected = np.zeros((4, 4))  # rows: sums of squares; columns: components
    for index, basis in enumerate((first, second)):
        expected[index, index] = ((basis.T @ (one, two)[index]) ** 2).sum()
        expected[index, 2] = ((basis.T @ both) ** 2).sum()
    expected[2, 2] = counts.sum() - ((additive.T @ both) ** 2).sum()
    design = _Design(cells, counts, (first, second, additive), expected)
    expected[:, 3] = design.dfs
    return design


def _basis(given: Floats, columns: Floats | None = None) -> Floats:
    """Orthonormal basis of ``given``, or of ``columns`` residualised on ``given``."""
    base = pivoted(given / np.linalg.norm(given, axis=0), _TOLERANCE)[0]
    if columns is None:
        return base
    scaled = columns / np.linalg.norm(columns, axis=0)
    residuals = scaled - base @ (base.T @ scaled)
    residuals -= base @ (base.T @ residuals)
    residuals[:, np.linalg.norm(residuals, axis=0) <= _TOLERANCE] = 0.0
    return pivoted(residuals, _TOLERANCE)[0]


def _squares(values: Floats, design: _Design, cells: Places) -> tuple[Floats, float]:
    """Sums of squares of the four terms, and the total."""
    order = np.argsort(cells, kind="stable")
    starts = np.concatenate([[0], np.cumsum(design.counts)[:-1]]).astype(np.intp)
    centred = values - values.mean(axis=0)
    total = float(np.einsum("ij,ij->", centred, centred))
    sums = np.add.reduceat(centred[order], starts, axis=0)
    scaled = sums / np.sqrt(design.counts)[:, None]
    first, second, additive = design.bases
    between = float((scaled**2).sum())
    rest = scaled - additive @ (additive.T @ scaled)
    terms = [
        float(((first.T @ scaled) ** 2).sum()),
        float(((second.T @ scaled) ** 2).sum()),
        float((rest**2).sum()),
        total - between,
    ]
    squares = np.array(terms)
    squares[squares <= _ROUNDING * total] = 0.0
    return squares, total


def _numbers(squares: Floats, total: float, design: _Design) -> Floats:
    """Four shares of the total, then four shares of the variance components (NaN if unknown)."""
    numbers = np.full(8, np.nan)
    numbers[:4] = squares / total
    if design.dfs.min() > 0 and squares[3] > 0 and squares[2] > 0:
        components = np.linalg.solve(design.expected, squares)
        if components.sum() > 0:
            numbers[4:] = components / components.sum()
    return numbers


def _jackknife(values: Floats, rows: Places, columns: Places) -> Floats:
    """Numbers without each level of the second factor in turn, shape (levels, 8)."""
    found = []
    for level in range(columns.max() + 1):
        kept = columns != level
        design = _design(rows[kept], columns[kept])
        squares, total = _squares(values[kept], design, design.cells)
        if total == 0.0 or design.dfs[:2].min() == 0:
            return np.empty((0, 8))
        found.append(_numbers(squares, total, design))
    return np.array(found)


def _reach(spread: Floats, level: float) -> Floats:
    """Half-widths of jackknife intervals: t times sqrt((k - 1)/k Σ(x_i - x̄)²)."""
    count = len(spread)
    if count < 3:
        return np.full(8, np.inf)
    squares = ((spread - spread.mean(axis=0)) ** 2).sum(axis=0)
    quantile = special.stdtrit(count - 1, (1.0 + level) / 2.0)
    reach = quantile * np.sqrt((count - 1) / count * squares)
    return np.where(np.isfinite(reach), reach, np.inf)


def _null(
    values: Floats,
    rows: Places,
    design: _Design,
    permutations: int,
    seed: int,
    progress: Progress,
) -> Floats:
    """Shares after shuffling within the first factor; cell counts, so the design, stay the same."""
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(rows == row) for row in range(rows.max() + 1)]
    null = np.empty((permutations, 4))
    cells = design.cells.copy()
    for index in range(permutations):
        for group in members:
            cells[group] = generator.permutation(design.cells[group])
        squares, total = _squares(values, design, cells)
        null[index] = squares / total
        progress("shuffling", index + 1, permutations)
    return null
