"""Figure: the variance of a minibatch gradient against the batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from batchsense.reports.figures.style import BLUE, INK, VERMILLION, axes, label, legend, plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_variance(
    batch_sizes: Sequence[int],
    variances: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    squared_gradient_norm: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw measured variances with intervals beside the law 1/n."""
    ax = axes(ax)
    n = np.asarray(batch_sizes, dtype=float)
    value = np.asarray(variances, dtype=float)
    constant = np.exp(np.mean(np.log(value * n)))
    ends = np.array([n.min() / 1.3, n.max() * 1.3])
    ax.plot(ends, constant / ends, "-", color=BLUE, linewidth=1.5, label="law 1/n")
    whiskers = np.abs(np.vstack([low, high]) - value)
    ax.errorbar(
        n,
        value,
        yerr=whiskers,
        fmt="D",
        color=VERMILLION,
        markersize=5,
        elinewidth=1.3,
        label="measured, 95 % interval",
    )
    if squared_gradient_norm is not None:
        ax.axhline(
            squared_gradient_norm,
            color=INK,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label="squared length of the full gradient",
        )
    plain_log(ax, x=True, y=True)
    label(ax, "batch size n (examples)", "variance of the gradient")
    legend(ax)
    return ax
