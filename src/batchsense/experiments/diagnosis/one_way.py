"""One-way variance components: how much varies between groups, how much within, how surely.

The model is y_ij = μ + a_i + e_ij with independent normal a_i (variance ``between``) and e_ij
(variance ``within``). The same estimator serves blocks of rows on a disk and specimens in batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.diagnosis.one_way_intervals import GroupMeans, between_end, icc_end
from batchsense.experiments.row_labels import in_one_order
from batchsense.variation.components import variance_component
from batchsense.variation.interval import Interval
from batchsense.variation.labels import Levels, levels_of
from batchsense.variation.matrices import finite_matrix


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """Variance between and within groups of one feature.

    Attributes
    ----------
    between, within : Interval
        Variances, in squared units of the observations. ``between`` is unbiased and keeps its
        sign: chance makes it negative when the groups differ less than their scatter predicts.
    between_truncated : float
        ``between``, or 0 where that is negative.
    icc : Interval
        Intraclass correlation between / (between + within); not truncated either.
    design_effect : Interval
        1 + (m - 1)·icc with m = Σn_i²/n: how many times more the mean varies than that of as many
        independent observations (Kish 1965).
    f_statistic : float
        Mean square between over mean square within.
    df_between, df_within : int
        Degrees of freedom.
    mean_group_size : float
        n0 = (n - Σn_i²/n) / (groups - 1), the group size in E[MS between] = within + n0·between.
    """

    between: Interval
    within: Interval
    between_truncated: float
    icc: Interval
    design_effect: Interval
    f_statistic: float
    df_between: int
    df_within: int
    mean_group_size: float


@dataclass(frozen=True, slots=True, eq=False)
class FeatureComponents:
    """Variance components of many features; every array has shape (features,).

    Attributes
    ----------
    between, between_low, between_high : ndarray
        Variance between groups and its confidence interval; may be negative.
    within, within_low, within_high : ndarray
        Variance within groups.
    icc, icc_low, icc_high : ndarray
        Intraclass correlation; NaN exactly where ``constant``.
    f_statistic : ndarray
        Infinite where a feature does not vary within groups; NaN exactly where ``constant``.
    constant : ndarray of bool
        Features without any variation: nothing can be shared out.
    design_size : float
        m = Σn_i²/n.
    mean_group_size : float
        n0.
    df_between, df_within : int
        Degrees of freedom.
    level : float
        Confidence level.
    """

    between: Floats
    between_low: Floats
    between_high: Floats
    within: Floats
    within_low: Floats
    within_high: Floats
    icc: Floats
    icc_low: Floats
    icc_high: Floats
    f_statistic: Floats
    constant: Flags
    design_size: float
    mean_group_size: float
    df_between: int
    df_within: int
    level: float


@dataclass(frozen=True, slots=True)
class _Groups:
    """Sufficient statistics: group sizes, group means around an origin, squares within."""

    sizes: Floats
    means: Floats
    squares_within: Floats
    constant: Flags = field(repr=False)


def variance_components(
    observations: ArrayLike, labels: ArrayLike, *, level: float = 0.95
) -> VarianceComponents:
    """Estimate the variance between and within groups, with confidence intervals.

    within = MSW; between = (MSB - MSW)/n0; icc = between/(between + within). The intervals:

    - ``within``: exact, from χ² of the squares within.
    - ``icc``: exact for normal data. With w_i = n_i/(1 + n_i·θ) and weighted mean ȳ_w, the pivot
      Σw_i(ȳ_i - ȳ_w)² / ((groups - 1)·MSW) at the true θ = between/within follows F; it falls in
      θ and is solved for the two quantiles (Wald 1940). For equal groups this is Searle's
      (F/F_q - 1)/(F/F_q + n - 1).
    - ``between``: generalized interval (Weerahandi 1993): the pivot is solved for ``between`` with
      ``within`` spread over its own χ² law. An approximation; counted coverage .94 to .96, also
      for groups of 1 to 40 observations and for icc 0.

    Parameters
    ----------
    observations : array of shape (observations,)
        Finite numbers.
    labels : array of shape (observations,)
        The group of each observation.
    level : float
        Confidence level of all intervals.

    Raises
    ------
    DataError
        If a value is not finite or missing, there is one group only, or nothing varies.
    UnresolvedError
        If no group has two observations.

    References
    ----------
    Searle 1971, Linear Models, chapter 9; Wald 1940, Ann. Math. Stat. 11, 96;
    Weerahandi 1993, J. Am. Stat. Assoc. 88, 899; Hannig, Iyer and Patterson 2006, J. Am. Stat.
    Assoc. 101, 254.

    Examples
    --------
    Group means 2, 5 and 8, each pair 1 off its mean: MSB = 18, MSW = 2, n0 = 2.

    >>> found = variance_components([1, 3, 4, 6, 7, 9], ["a", "a", "b", "b", "c", "c"])
    >>> print(found.between.estimate, found.within.estimate, found.icc.estimate)
    8.0 2.0 0.8
    >>> print(round(found.icc.low, 3), round(found.icc.high, 3))
    -0.281 0.994
    """
    labels = in_one_order({"observations": observations, "labels": labels})["labels"]
    values = np.asarray(observations)
    if values.ndim != 1:
        raise DataError(
            f"observations have shape {values.shape}; give a vector, or use"
            " variance_components_by_feature for a matrix"
        )
    found = variance_components_by_feature(values[:, None], labels, level=level)
    if found.constant[0]:
        raise DataError("all observations are equal: there is no variance to share out")

    between = _interval(found.between, found.between_low, found.between_high, level)
    icc = _interval(found.icc, found.icc_low, found.icc_high, level)
    growth = found.design_size - 1.0
    return VarianceComponents(
        between=between,
        within=_interval(found.within, found.within_low, found.within_high, level),
        between_truncated=max(0.0, between.estimate),
        icc=icc,
        design_effect=Interval(
            1.0 + growth * icc.estimate, 1.0 + growth * icc.low, 1.0 + growth * icc.high, level
        ),
        f_statistic=float(found.f_statistic[0]),
        df_between=found.df_between,
        df_within=found.df_within,
        mean_group_size=found.mean_group_size,
    )


def variance_components_by_feature(
    observations: ArrayLike, labels: ArrayLike, *, level: float = 0.95
) -> FeatureComponents:
    """Do the same as :func:`variance_components` for every column of a matrix at once.

    Parameters
    ----------
    observations : array of shape (observations, features)
        Finite numbers.
    labels : array of shape (observations,)
        The group of each observation.
    level : float
        Confidence level of all intervals, each for its feature alone.

    Raises
    ------
    DataError
        If a value is not finite or a label missing, or there is one group only.
    UnresolvedError
        If no group has two observations.

    Examples
    --------
    >>> columns = [[1.0, 5.0], [3.0, 5.0], [4.0, 5.0], [6.0, 5.0]]
    >>> found = variance_components_by_feature(columns, ["a", "a", "b", "b"])
    >>> print(found.between, found.constant)
    [3.5 0. ] [False  True]
    """
    if not 0.0 < level < 1.0:
        raise DataError(f"level is {level}; it must lie between 0 and 1, for example 0.95")
    labels = in_one_order({"observations": observations, "labels": labels})["labels"]
    values = finite_matrix(observations, "observations")
    _check_magnitude(values)
    groups = levels_of(labels)
    if len(groups.codes) != len(values):
        raise DataError(f"{len(groups.codes)} labels for {len(values)} observations")
    df_between, df_within = len(groups.levels) - 1, len(values) - len(groups.levels)
    if df_between < 1:
        raise DataError(f"all observations belong to one group, {groups.levels[0]!r}; give two")
    if df_within < 1:
        raise UnresolvedError(
            "every group has a single observation, so nothing shows the variance within groups",
            needed="a second observation in at least one group",
        )
    table = _summarise(values, groups)
    sizes = table.sizes
    total = float(sizes.sum())
    design_size = float((sizes**2).sum()) / total
    group_size = (total - design_size) / df_between
    grand = sizes @ table.means / total
    ms_between = sizes @ (table.means - grand) ** 2 / df_between
    ms_within = table.squares_within / df_within
    between = variance_component(
        df_between * ms_between, df_between, ms_within, df_between * group_size
    )
    tails = ((1.0 + level) / 2.0, (1.0 - level) / 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        f_statistic = ms_between / ms_within
        icc = between / (between + ms_within)
    icc[np.isinf(f_statistic)] = 1.0
    pooled, df = GroupMeans.of(sizes, table.means), (df_between, df_within)
    icc_low, icc_high = (icc_end(pooled, ms_within, df, tail) for tail in tails)
    low, high = (between_end(pooled, table.squares_within, df, tail) for tail in tails[::-1])
    for ends in (icc_low, icc_high):
        ends[ms_within == 0.0] = 1.0
        ends[table.constant] = np.nan
    return FeatureComponents(
        between=between,
        between_low=np.minimum(low, between),
        between_high=np.maximum(high, between),
        within=ms_within,
        within_low=table.squares_within / special.chdtri(df_within, tails[1]),
        within_high=table.squares_within / special.chdtri(df_within, tails[0]),
        icc=icc,
        icc_low=np.minimum(icc_low, icc),
        icc_high=np.maximum(icc_high, icc),
        f_statistic=f_statistic,
        constant=table.constant,
        design_size=design_size,
        mean_group_size=group_size,
        df_between=df_between,
        df_within=df_within,
        level=level,
    )


def _interval(estimate: Floats, low: Floats, high: Floats, level: float) -> Interval:
    """Take the first feature's interval."""
    return Interval(float(estimate[0]), float(low[0]), float(high[0]), level)


def _check_magnitude(values: Floats) -> None:
    """Refuse features whose squares do not fit into float64."""
    ranges = values.max(axis=0) / 2.0 - values.min(axis=0) / 2.0
    unfit = (ranges > 1e150) | ((ranges < 1e-150) & (ranges > 0))
    if unfit.any():
        feature = int(np.argmax(unfit))
        raise DataError(
            f"feature {feature} varies by about {2.0 * ranges[feature]:.0e}, whose square does not"
            " fit into a float64; express it in another unit"
        )


def _summarise(values: Floats, groups: Levels) -> _Groups:
    """Group means and squares within, around the first row, so that offsets cost no digits."""
    order = np.argsort(groups.codes, kind="stable")
    sizes = groups.counts.astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(groups.counts)[:-1]])
    origin = values[0]
    arranged = values[order] - origin
    firsts = arranged[starts]
    arranged -= np.repeat(firsts, groups.counts, axis=0)
    shifts = np.add.reduceat(arranged, starts, axis=0) / sizes[:, None]
    arranged -= np.repeat(shifts, groups.counts, axis=0)
    squares = np.einsum("ij,ij->j", arranged, arranged)
    flat = (values == origin).all(axis=0)
    return _Groups(sizes, firsts + shifts, squares, flat)
