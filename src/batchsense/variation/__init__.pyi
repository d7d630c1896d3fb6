"""What ``batchsense.variation`` exports, and where it is defined: read at run time too."""

from .aliasing import Relation
from .components import beyond_chance, variance_component
from .directions import satterthwaite_directions, square_trace_of_residuals, square_trace_of_rows
from .grouped_moments import GroupedMoments
from .interval import Interval, student_quantile
from .linear import DesignFactor, LinearFit, factor, residual_sum_of_squares
from .lines import Lines, weighted_lines
from .moments import Moments, merged_weights
from .proportion import draws_to_certify, miss_rate, proportion
from .sample_size import (
    chebyshev_need,
    least_number,
    mean_square_need,
    pinelis_need,
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
    "satterthwaite_directions",
    "square_trace_of_residuals",
    "square_trace_of_rows",
    "student_quantile",
    "variance_component",
    "weighted_lines",
    "without_replacement",
]
