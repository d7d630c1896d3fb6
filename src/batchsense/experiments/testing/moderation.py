"""From fits to tests: variances drawn towards what all features share, then t, F, p and q."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg
from batchsense.experiments.statistics.tail_areas import f_p_value, t_p_value, t_quantile
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.experiments.testing.prior.robust_prior import TAILS, robust_prior
from batchsense.experiments.testing.prior.variance_prior import VariancePrior, floored, moment_prior

#: With fewer variances nothing can be said about how they spread: one number has no spread.
FEWEST = 2


@dataclass(frozen=True, slots=True, eq=False)
class FeatureVariances:
    """The variances that features are judged by, and how many degrees of freedom they are worth."""

    #: (features,): (d0·s0² + d·s²)/(d0 + d), in squared units of the observations; s² without
    #: shrinkage, NaN where a feature cannot be judged.
    variance: Floats = field(repr=False)
    #: (features,): d + d0, at most what all features have together; 0 where a feature cannot be
    #: judged.
    df: Floats = field(repr=False)
    #: (features,): s0²; differs between features only along a trend. NaN without shrinkage.
    prior_variance: Floats
    #: (features,): d0; differs between features only in robust estimation. May be infinite; 0
    #: without shrinkage.
    prior_df: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """The numbers of one contrast, each of shape (features,)."""

    #: (features,): the estimate with its interval, in units of the observations (per unit of a
    #: numeric factor).
    effect: Floats = field(repr=False)
    low: Floats = field(repr=False)
    high: Floats = field(repr=False)
    #: (features,): of the moderated t; q by Benjamini and Hochberg over the features of this
    #: contrast.
    standard_error: Floats = field(repr=False)
    t: Floats = field(repr=False)
    p_value: Floats = field(repr=False)
    q_value: Floats = field(repr=False)
    df: Floats = field(repr=False)  #: (features,): degrees of freedom of t; NaN without an answer


def scale_of(
    fits: ContrastFits,
    usable: Flags,
    shrink: bool = True,
    trend: Floats | None = None,
    robust: bool = False,
) -> FeatureVariances:
    """The variance that each feature is judged by: its own, or drawn towards that of all."""
    features = len(fits.df)
    variance, prior_variance = np.full(features, np.nan), np.full(features, np.nan)
    df, prior_df = np.zeros(features), np.zeros(features)
    own = usable & (fits.df > 0)
    variance[own] = fits.residual_squares[own] / fits.df[own]
    if not shrink:
        known = own & (variance > 0)
        variance, df = np.where(known, variance, np.nan), np.where(known, fits.df, 0.0)
        return FeatureVariances(variance, df, prior_variance, prior_df)
    along = None if trend is None else trend[usable]
    found = shrink_variances(np.where(own, variance, 0.0)[usable], fits.df[usable], along, robust)
    variance[usable], df[usable] = found.variance, found.df
    prior_df[usable], prior_variance[usable] = found.prior_df, found.prior_variance
    return FeatureVariances(variance, df, prior_variance, prior_df)


def t_statistics(
    fits: ContrastFits, contrast: int, scale: FeatureVariances, level: float
) -> Statistics:
    """Test one contrast on every feature; NaN where it cannot be tested."""
    effect = np.where(np.isnan(scale.variance), np.nan, fits.estimates[contrast])
    # Two roots: in odd units the product may leave the range that its root is in.
    error = np.sqrt(scale.variance) * np.sqrt(fits.unscaled[contrast])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = effect / error
    df = np.where(scale.df > 0, scale.df if fits.own_df is None else fits.own_df[contrast], np.nan)
    half = t_quantile(level, df) * error
    p = t_p_value(t, df)
    return Statistics(effect, effect - half, effect + half, error, t, p, benjamini_hochberg(p), df)


def f_statistics(
    fits: ContrastFits, group: int, size: int, scale: FeatureVariances
) -> tuple[Floats, Floats, Floats, Floats]:
    """Test a group of contrasts on every feature: F, p, q and the degrees of freedom below."""
    f = fits.joint[group] / scale.variance
    df = np.where(scale.df > 0, scale.df if fits.joint_df is None else fits.joint_df[group], np.nan)
    p = f_p_value(f, float(size), df)
    return f, p, benjamini_hochberg(p), df


def shrink_variances(
    variances: ArrayLike,
    df: ArrayLike,
    covariate: ArrayLike | None = None,
    robust: bool = False,
    tails: tuple[float, float] = TAILS,
) -> FeatureVariances:
    r"""Estimate the common distribution of the variances and draw each towards it.

    If :math:`s^2 \sim \sigma^2\chi^2_d/d` and :math:`1/\sigma^2 \sim \chi^2_{d_0}/(d_0 s_0^2)`, the
    posterior mean of the precision gives

    .. math:: \tilde s^2 = \frac{d_0 s_0^2 + d s^2}{d_0 + d},

    and a t statistic with it has d + d0 degrees of freedom. The prior comes from the variances
    themselves. A feature without degrees of freedom gets the prior.

    ``variances`` (0 or more, ignored where ``df`` is 0) and a ``covariate`` that the prior may
    depend on, such as the mean, have shape (features,); ``df`` has it too or is one number.
    ``robust`` keeps a few wild features from setting the prior, and lends them less; ``tails`` are
    the parts of the log variances that it winsorises below and above.

    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3, article 3; Phipson et al. 2016, Ann. Appl.
    Statist. 10, 946 (robust).
    """
    values, freedom = _checked(variances, df)
    along = None if covariate is None else np.asarray(covariate, dtype=np.float64)
    if along is not None and (along.shape != values.shape or not np.isfinite(along).all()):
        raise DataError("the covariate must hold one finite number for each feature")
    known = freedom > 0
    if known.sum() < FEWEST:
        raise UnresolvedError(
            f"{'one feature has' if known.any() else 'no feature has'} degrees of freedom for a "
            "variance; the spread of the variances cannot be seen",
            needed=f"at least {FEWEST} such features, or an ordinary test (--ordinary)",
        )
    if not values[known].any():
        raise UnresolvedError(
            "every residual variance is zero, so no test is possible", needed="unrounded values"
        )
    prior = _prior(values, freedom, known, along, robust, tails)
    own = np.where(known, values * freedom, 0.0)
    with np.errstate(invalid="ignore"):
        mixed = (prior.df * prior.variance + own) / (prior.df + freedom)
    return FeatureVariances(
        variance=np.where(np.isinf(prior.df), prior.variance, mixed),
        df=np.minimum(freedom + prior.df, freedom.sum()),
        prior_variance=prior.variance,
        prior_df=prior.df,
    )


def _prior(
    variances: Floats,
    df: Floats,
    known: Flags,
    covariate: Floats | None,
    robust: bool,
    tails: tuple[float, float],
) -> VariancePrior:
    along = None if covariate is None else covariate[known]
    if not robust:
        everywhere = np.zeros(len(variances)) if covariate is None else covariate
        return moment_prior(floored(variances[known]), df[known], along, everywhere)
    found = robust_prior(variances[known], df[known], along, tails)
    if known.all():
        return found
    lent = np.full(len(variances), found.df.max())
    lent[known] = found.df
    level = np.full(len(variances), found.variance[0])
    if covariate is not None and along is not None:
        order = np.argsort(along, kind="stable")
        level = np.exp(np.interp(covariate, along[order], np.log(found.variance[order])))
    level[known] = found.variance
    return VariancePrior(lent, level)


def _checked(variances: ArrayLike, df: ArrayLike) -> tuple[Floats, Floats]:
    values = np.asarray(variances, dtype=np.float64)
    freedom = np.asarray(df, dtype=np.float64)
    if values.ndim != 1 or freedom.shape not in [(), values.shape]:
        raise DataError(
            f"variances of shape {values.shape} and degrees of freedom of shape {freedom.shape}; "
            "give one of each for a feature"
        )
    freedom = np.broadcast_to(freedom, values.shape)
    values = np.where(freedom > 0, values, 0.0)
    for name, array in (("variances", values), ("degrees of freedom", freedom)):
        if not np.isfinite(array).all() or (array < 0).any():
            raise DataError(f"{name} must be finite and not negative")
    return values, freedom
