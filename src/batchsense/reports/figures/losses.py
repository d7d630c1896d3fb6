"""Figure: the loss of a training by steps, with the loss that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchsense.reports.figures.style import BLUE, DASHES, INK, axes, label, legend

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
