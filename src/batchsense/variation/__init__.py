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
from batchsense.variation.confounding import (
    Confounding,
    CramersV,
    LinkedGroup,
    analyse,
    connected_components,
    cramers_v,
)
from batchsense.variation.count_quantiles import map_counts
from batchsense.variation.crossed import RandomShares, Share, TwoFactorShares, two_factor_shares
from batchsense.variation.dispersion import common_dispersion, feature_dispersions
from batchsense.variation.false_positives import (
    centred_rate,
    plain_inflation,
    plain_rate,
    plain_rate_f,
)
from batchsense.variation.gram import MeanLength, mean_length
from batchsense.variation.grouped_moments import GroupedMoments
from batchsense.variation.interval import Interval
from batchsense.variation.linear import (
    DesignFactor,
    LinearFit,
    factor,
    residual_sum_of_squares,
)
from batchsense.variation.lowess import lowess
from batchsense.variation.miss_rate import draws_to_certify, miss_rate
from batchsense.variation.moments import Moments
from batchsense.variation.multiplicity import benjamini_hochberg
from batchsense.variation.natural_spline import natural_spline_basis
from batchsense.variation.negative_binomial import LogLinearFit, fit_log_linear
from batchsense.variation.pilot import PilotNoise, clipped_gram, gram_of, pilot_noise
from batchsense.variation.sample_size import Rung, sample_size, without_replacement
from batchsense.variation.shrinkage import ShrunkenVariances, shrink_variances
from batchsense.variation.tail_areas import f_p_value, t_p_value

__all__ = [
    "Confounding",
    "CramersV",
    "DesignFactor",
    "FeatureComponents",
    "GroupedMoments",
    "Interval",
    "LinearFit",
    "LinkedGroup",
    "LogLinearFit",
    "MeanLength",
    "Moments",
    "PilotNoise",
    "RandomShares",
    "Relation",
    "Rung",
    "Share",
    "ShrunkenVariances",
    "TwoFactorShares",
    "VarianceComponents",
    "analyse",
    "benjamini_hochberg",
    "centred_rate",
    "clipped_gram",
    "common_dispersion",
    "connected_components",
    "cramers_v",
    "draws_to_certify",
    "f_p_value",
    "factor",
    "feature_dispersions",
    "fit_log_linear",
    "gram_of",
    "lowess",
    "map_counts",
    "mean_length",
    "miss_rate",
    "natural_spline_basis",
    "pilot_noise",
    "plain_inflation",
    "plain_rate",
    "plain_rate_f",
    "residual_sum_of_squares",
    "sample_size",
    "shrink_variances",
    "t_p_value",
    "two_factor_shares",
    "variance_components",
    "variance_components_by_feature",
    "without_replacement",
]
