"""Figures of a measurement beside its law: gradient variance, steps and time by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsense.reports.figures.style import (
    BLUE,
    DASHES,
    FAINT,
    INK,
    VERMILLION,
    axes,
    label,
    legend,
    name_points,
    plain_log,
)

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
    """Draw measured variances of a minibatch gradient, with intervals, beside the law 1/n."""
    ax = axes(ax)
    n = np.asarray(batch_sizes, dtype=float)
    value = np.asarray(variances, dtype=float)
    constant = np.exp(np.mean(np.log(value * n)))
    ends = np.array([n.min() / 1.3, n.max() * 1.3])
    ax.plot(ends, constant / ends, "-", color=BLUE, linewidth=1.5, label="law 1/n")
    whiskers = np.abs(np.vstack([low, high]) - value)
    looks: dict[str, Any] = {"fmt": "D", "color": VERMILLION, "markersize": 5, "elinewidth": 1.3}
    ax.errorbar(n, value, yerr=whiskers, label="measured, 95 % interval", **looks)
    if squared_gradient_norm is not None:
        name = "squared length of the full gradient"
        ax.axhline(squared_gradient_norm, color=INK, linewidth=1, linestyle=DASHES, label=name)
    plain_log(ax, x=True, y=True)
    label(ax, "batch size n (examples)", "variance of the gradient")
    legend(ax)
    return ax


def draw_sweep(
    batch_sizes: Sequence[int],
    orders: Sequence[Sequence[float]],
    minimum_steps: float,
    critical_batch_size: float,
    advised: int,
    ax: Axes | None = None,
) -> Axes:
    """Draw measured steps to a loss beside the law S_min (1 + B_crit/B)."""
    ax = axes(ax)
    sizes = np.asarray(batch_sizes, dtype=float)
    line = np.geomspace(sizes.min() / 1.3, sizes.max() * 1.3, 200)
    law = minimum_steps * (1 + critical_batch_size / line)
    ax.plot(line, law, "-", color=BLUE, linewidth=1.6, label="fitted law")
    points = [(size, steps) for size, row in zip(sizes, orders, strict=True) for steps in row]
    ax.plot(*zip(*points, strict=True), ".", color=FAINT, markersize=7, label="one order")
    means = [float(np.exp(np.mean(np.log(row)))) for row in orders]
    ax.plot(sizes, means, "D", color=VERMILLION, markersize=6, label="mean")
    ax.axvline(advised, color=FAINT, linewidth=1.2, linestyle=DASHES, label="advised")
    plain_log(ax, x=True, y=True)
    label(ax, "batch size (examples)", "steps to the target loss")
    legend(ax)
    name_points(ax, sizes.tolist(), means, [f"{size:,}" for size in batch_sizes])
    return ax


def draw_step_time(
    batch_sizes: Sequence[int],
    seconds: Sequence[float],
    c0_seconds: float,
    c1_seconds_per_example: float,
    ax: Axes | None = None,
) -> Axes:
    """Draw measured step times beside the line ``c0 + c1 · batch size``."""
    ax = axes(ax)
    sizes = np.asarray(batch_sizes, dtype=float)
    line = np.array([0.0, sizes.max() * 1.03])
    milliseconds = 1e3 * np.asarray(seconds, dtype=float)
    fitted = 1e3 * (c0_seconds + c1_seconds_per_example * line)
    ax.plot(line, fitted, "-", color=BLUE, linewidth=1.6, label="fitted line")
    ax.plot(sizes, milliseconds, "D", color=VERMILLION, markersize=5.5, label="measured")
    ax.set_xlim(0, line[1])
    ax.set_ylim(0, 1.12 * max(milliseconds.max(), fitted.max()))
    label(ax, "batch size (examples)", "time of a step (ms)")
    legend(ax)
    name_points(ax, sizes.tolist(), milliseconds.tolist(), [f"{size:,}" for size in batch_sizes])
    return ax
