"""Pictures of results, for notebooks: each takes ``ax=None``, draws, and returns the axes.

On axes of its own a picture shows when the cell of a notebook ends; in a script it is saved.

:func:`save_figure` writes any of them as SVG or PNG, or its numbers as CSV.
"""

from batchsense.plots.answers import plot_gap, plot_layout, plot_shares, plot_surrogates
from batchsense.plots.specimens import plot_components, plot_relative_expression
from batchsense.plots.tested import (
    plot_leading_features,
    plot_mean_difference,
    plot_p_values,
    plot_trend,
    plot_volcano,
)
from batchsense.reports.saving import save_figure

__all__ = [
    "plot_components",
    "plot_gap",
    "plot_layout",
    "plot_leading_features",
    "plot_mean_difference",
    "plot_p_values",
    "plot_relative_expression",
    "plot_shares",
    "plot_surrogates",
    "plot_trend",
    "plot_volcano",
    "save_figure",
]
