"""The mathematics of variation that both halves use: numpy and scipy only.

Numbers happen here in pure functions on arrays that return frozen dataclasses. What one half alone
needs lives in that half.
"""

from __future__ import annotations

from batchsense.variation.aliasing import Relation
from batchsense.variation.components import beyond_chance, variance_component
from batchsense.variation.directions import (
    satterthwaite_directions,
    square_trace_of_residuals,
    square_trace_of_rows,
)
from batchsense.variation.grouped_moments import GroupedMoments
from batchsense.variation.interval import Interval, student_quantile
from batchsense.variation.linear import (
    DesignFactor,
    LinearFit,
    factor,
    residual_sum_of_squares,
)
from batchsense.variation.lines import Lines, weighted_lines
from batchsense.variation.moments import Moments, merged_weights
from batchsense.variation.proportion import draws_to_certify, miss_rate, proportion
from batchsense.variation.sample_size import (
    Rung,
    chebyshev_need,
    least_number,
    mean_square_need,
    pinelis_need,
    sample_size,
    without_replacement,
)

__all__ = [
    "DesignFactor",
    "GroupedMoments",
    "Interval",
    "LinearFit",
    "Lines",
    "Moments",
    "Relation",
    "Rung",
    "beyond_chance",
    "chebyshev_need",
    "draws_to_certify",
    "factor",
    "least_number",
    "mean_square_need",
    "merged_weights",
    "miss_rate",
    "pinelis_need",
    "proportion",
    "residual_sum_of_squares",
    "sample_size",
    "satterthwaite_directions",
    "square_trace_of_residuals",
    "square_trace_of_rows",
    "student_quantile",
    "variance_component",
    "weighted_lines",
    "without_replacement",
]
