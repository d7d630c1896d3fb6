"""The mathematics of variation, shared by both sides: numpy and scipy only.

Numbers happen here in pure functions on arrays that return frozen dataclasses.
"""

from __future__ import annotations

from batchsense.variation.aliasing import Relation
from batchsense.variation.components import (
    FeatureComponents,
    VarianceComponents,
    variance_components,
    variance_components_by_feature,
)
from batchsense.variation.crossed import RandomShares, Share, TwoFactorShares, two_factor_shares
from batchsense.variation.gram import MeanLength, mean_length
from batchsense.variation.grouped_moments import GroupedMoments
from batchsense.variation.interval import Interval
from batchsense.variation.linear import (
    DesignFactor,
    LinearFit,
    factor,
    residual_sum_of_squares,
)
from batchsense.variation.miss_rate import draws_to_certify, miss_rate
from batchsense.variation.moments import Moments
from batchsense.variation.sample_size import Rung, sample_size, without_replacement

__all__ = [
    "DesignFactor",
    "FeatureComponents",
    "GroupedMoments",
    "Interval",
    "LinearFit",
    "MeanLength",
    "Moments",
    "RandomShares",
    "Relation",
    "Rung",
    "Share",
    "TwoFactorShares",
    "VarianceComponents",
    "draws_to_certify",
    "factor",
    "mean_length",
    "miss_rate",
    "residual_sum_of_squares",
    "sample_size",
    "two_factor_shares",
    "variance_components",
    "variance_components_by_feature",
    "without_replacement",
]
