"""Figures: a loss by steps, or an error by time, with the one that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchsense.reports.figures.style import BLUE, DASHES, FAINT, INK, axes, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_losses(
    steps: Sequence[int], losses: Sequence[float], target: float | None, ax: Axes | None = None
) -> Axes:
    """Draw the mean loss of each stretch at its last step."""
    ax = axes(ax)
    ax.plot(steps, losses, "-", color=BLUE, linewidth=1.4, label="loss")
    if target is not None:
        ax.axhline(target, color=INK, linewidth=1.1, linestyle=DASHES, label="asked for")
        legend(ax)
    label(ax, "step", "loss of a minibatch")
    return ax


def draw_error(
    times: Sequence[float],
    errors: Sequence[float],
    switches: Sequence[float],
    target: float | None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the error by time, a line where each phase begins."""
    ax = axes(ax)
    for at in switches:
        ax.axvline(at, color=FAINT, linewidth=0.8)
    ax.plot(times, errors, "-", color=BLUE, linewidth=1.4, label="error")
    if target is not None:
        ax.axhline(target, color=INK, linewidth=1.1, linestyle=DASHES, label="asked for")
        legend(ax)
    ax.set_yscale("log")
    label(ax, "seconds of processor time", "relative L2 error")
    return ax
