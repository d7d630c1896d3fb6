"""Figure: the error of a classifier on each form, tested in two ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.reports.figures.style import BELOW, BLUE, FAINT, VERMILLION, axes, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_folds(
    by_form: npt.ArrayLike,
    forms: Sequence[str],
    both: tuple[str, str] = ("shuffled folds", "form left out"),
    ax: Axes | None = None,
) -> Axes:
    """Draw two error rates per form, joined by a line.

    Parameters
    ----------
    by_form : array of shape (forms, 2)
        Error rates, as fractions.
    forms : sequence of str
        Names of the forms.
    both : pair of str
        Names of the two ways.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; rates are drawn in per cent.
    """
    rates = 100 * np.asarray(by_form, dtype=float)
    ax = axes(ax, height=1.25 + 0.21 * len(rates))
    y = np.arange(len(rates))
    ax.hlines(y, rates[:, 0], rates[:, 1], color=FAINT, linewidth=1.6)
    ax.plot(rates[:, 0], y, "o", color=BLUE, markersize=6, label=both[0])
    ax.plot(rates[:, 1], y, "D", color=VERMILLION, markersize=5.5, label=both[1])
    ax.set_yticks(y, forms)
    ax.set_ylim(len(rates) - 0.4, -0.6)
    ax.set_xlim(-0.02 * rates.max(), 1.05 * rates.max())
    ax.grid(False, axis="y")
    label(ax, "error rate (%)", "form")
    legend(ax, columns=2, below=BELOW)
    return ax
