"""How precise each log count is: weights from the trend of the scatter in the size of a count."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.experiments.testing.prior.lowess import lowess
from batchsense.variation.linear import DesignFactor

#: Window of the trend, as in Law et al. (2014); with it the numbers equal limma's.
_SPAN = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionWeights:
    """Inverse variances of log counts, and the trend they come from."""

    #: (specimens, features): inverse variance of each observation.
    weights: Floats = field(repr=False)
    #: (features,): mean log2 count, root of the residual standard deviation, and the smooth curve
    #: through it.
    sizes: Floats = field(repr=False)
    scatter: Floats = field(repr=False)
    trend: Floats = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Fitted values (specimens, features), residual sums of squares (features,), their df."""

    fitted: Floats
    residual_sum_of_squares: Floats
    df: int


def precision_weights(
    logs: Floats, design: DesignFactor, effective: Floats, fit: Fit | None = None
) -> PrecisionWeights:
    r"""Weigh each observation by the scatter of features whose counts are as large.

    Every feature is fitted by least squares, unless ``fit`` is given; the roots of the residual
    standard deviations are smoothed over the mean log counts. The weight is
    :math:`\operatorname{trend}(\lambda)^{-4}` at the fitted log count
    :math:`\lambda = \hat\mu + \log_2(N + 1) - \log_2 10^6`, the trend being constant beyond its
    ends.

    ``logs`` of shape (specimens, features) are those of
    :func:`~batchsense.experiments.counts.log_cpm_for_weights`, ``effective`` of shape (specimens,)
    the effective library sizes N; the design leaves degrees of freedom.

    Source: Law, Chen, Shi and Smyth 2014, Genome Biol. 15, R29; Cleveland 1979 (the smooth curve).
    """
    if logs.shape[1] < 2:
        raise UnresolvedError(
            f"{logs.shape[1]} feature has enough counts; how counts scatter is seen from many",
            needed="at least 2 such features, or log counts per million and --values log",
        )
    if fit is None:
        plain = design.fit(logs)
        fit = Fit(plain.fitted, plain.residual_sum_of_squares, plain.df)
    to_log_counts = np.log2(effective + 1.0) - np.log2(1e6)
    sizes = logs.mean(axis=0) + to_log_counts.mean()
    scatter = (fit.residual_sum_of_squares / fit.df) ** 0.25
    trend = lowess(sizes, scatter, span=_SPAN)
    if not (trend > 0).all():
        raise UnresolvedError(
            "the scatter of the log counts falls to nothing, so that weights would be infinite",
            needed="more features, or counts that were not made alike",
        )
    places, first = np.unique(sizes, return_index=True)
    found = np.interp(fit.fitted + to_log_counts[:, None], places, trend[first])
    return PrecisionWeights(found**-4.0, sizes, scatter, trend)
