"""From fits to tests: shrunken variances, t, F, p, q and intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg
from batchsense.experiments.statistics.tail_areas import f_p_value, t_p_value, t_quantile
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.experiments.testing.moderation import shrink_variances


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """The variance that each feature is judged by.

    Attributes
    ----------
    variance, df : array of shape (features,)
        NaN and 0 where a feature cannot be judged.
    prior_df, prior_variance : array of shape (features,)
        What other features lend; 0 and NaN without shrinkage.
    """

    variance: Floats
    df: Floats
    prior_df: Floats
    prior_variance: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """The numbers of one contrast, each of shape (features,)."""

    effect: Floats
    low: Floats
    high: Floats
    standard_error: Floats
    t: Floats
    p_value: Floats
    q_value: Floats


def scale_of(
    fits: ContrastFits,
    usable: Flags,
    shrink: bool = True,
    trend: Floats | None = None,
    robust: bool = False,
) -> Scale:
    """Give each feature its variance: its own, or drawn towards that of all.

    Parameters
    ----------
    fits : ContrastFits
        The fits.
    usable : array of bool, shape (features,)
        Features that are judged; constant ones would falsify what is common to the others.
    shrink : bool
        Draw the variances together.
    trend : array of shape (features,), optional
        What the common variance may depend on.
    robust : bool
        Let no wild feature set the common variance.

    Raises
    ------
    UnresolvedError
        Too few features have degrees of freedom to shrink.
    """
    features = len(fits.df)
    variance, prior_variance = np.full(features, np.nan), np.full(features, np.nan)
    df, prior_df = np.zeros(features), np.zeros(features)
    own = usable & (fits.df > 0)
    variance[own] = fits.residual_squares[own] / fits.df[own]
    if not shrink:
        known = own & (variance > 0)
        return Scale(
            np.where(known, variance, np.nan), np.where(known, fits.df, 0), prior_df, prior_variance
        )
    found = shrink_variances(
        np.where(own, variance, 0.0)[usable],
        fits.df[usable],
        None if trend is None else trend[usable],
        robust,
    )
    variance[usable], df[usable] = found.variance, found.df
    prior_df[usable], prior_variance[usable] = found.prior_df, found.prior_variance
    return Scale(variance, df, prior_df, prior_variance)


def t_statistics(fits: ContrastFits, contrast: int, scale: Scale, level: float) -> Statistics:
    """Test one contrast on every feature; NaN where it cannot be tested."""
    effect = np.where(np.isnan(scale.variance), np.nan, fits.estimates[contrast])
    # Two roots: in odd units the product may leave the range that its root is in.
    error = np.sqrt(scale.variance) * np.sqrt(fits.unscaled[contrast])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = effect / error
    df = np.where(scale.df > 0, scale.df, np.nan)
    half = t_quantile(level, df) * error
    p = t_p_value(t, df)
    return Statistics(effect, effect - half, effect + half, error, t, p, benjamini_hochberg(p))


def f_statistics(
    fits: ContrastFits, group: int, size: int, scale: Scale
) -> tuple[Floats, Floats, Floats]:
    """Test a group of contrasts on every feature: F, p and q."""
    f = fits.joint[group] / scale.variance
    df = np.where(scale.df > 0, scale.df, np.nan)
    p = f_p_value(f, float(size), df)
    return f, p, benjamini_hochberg(p)
