"""Figures of heat: losses of weights and of their means along a run; escapes over a barrier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchsense.reports.figures.style import BLUE, DASHES, INK, VERMILLION, axes, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from batchsense.reports.envelope import Estimate


def draw_heat(
    steps: Sequence[int],
    mean_losses: Sequence[float],
    losses_of_mean: Sequence[float],
    ax: Axes | None = None,
) -> Axes:
    """Draw both losses of each window; what lies between them is heat."""
    ax = axes(ax)
    ax.fill_between(steps, losses_of_mean, mean_losses, color=VERMILLION, alpha=0.18, linewidth=0)
    ax.plot(steps, mean_losses, "o-", color=VERMILLION, label="weights, on average")
    ax.plot(steps, losses_of_mean, "s--", color=BLUE, label="their mean")
    label(ax, "step", "loss")
    legend(ax)
    return ax


def draw_escapes(
    barriers: Sequence[float],
    rates: Sequence[Estimate],
    law: Sequence[float],
    ax: Axes | None = None,
) -> Axes:
    """Draw the Arrhenius plot: counted rates with their intervals, and Kramers' law."""
    ax = axes(ax)
    counted = [(at, r.estimate, r.low, r.high) for at, r in zip(barriers, rates, strict=True)]
    for barrier, rate, low, high in counted:
        if low is not None and high is not None and rate is not None:
            ax.plot([barrier, barrier], [low, high], "-", color=BLUE)
            ax.plot(
                barrier, rate, "o", color=BLUE, label="counted" if barrier == barriers[0] else None
            )
    ax.plot(barriers, law, linestyle=DASHES, color=INK, label="Kramers' law")
    ax.set_yscale("log")
    label(ax, "height of the barrier over kT", "escapes per unit of training time")
    legend(ax)
    return ax
