"""Weighted straight lines, many at once, around their own centres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Lines by weighted least squares: level + slope·(x - centre).

    Attributes
    ----------
    centre : array of shape (...)
        Weighted mean of x.
    level : array of shape (...)
        Weighted mean of y: the line at the centre.
    slope : array of shape (...)
        In units of y per unit of x; 0 where x does not vary.
    spread : array of shape (...)
        Σ w(x - centre)², which is one over the variance of the slope where w are inverse
        variances.
    """

    centre: Floats
    level: Floats
    slope: Floats
    spread: Floats

    def at(self, x: float) -> Floats:
        """The lines at one x, in units of y."""
        return self.level + self.slope * (x - self.centre)


def weighted_lines(x: Floats, y: Floats, weights: Floats) -> Lines:
    r"""Fit a line to each row.

    .. math:: \text{slope} = \frac{\sum w (x - \bar x) y}{\sum w (x - \bar x)^2}, \qquad
        \bar x = \frac{\sum w x}{\sum w}

    Parameters
    ----------
    x, y, weights : arrays that broadcast to shape (..., points)
        Weights are not negative; no row has zeros only.

    Returns
    -------
    Lines
        One for each row.

    Examples
    --------
    >>> found = weighted_lines(np.arange(3.0), np.array([[1.0, 3.0, 5.0]]), np.ones(3))
    >>> found.slope, found.at(0.0)
    (array([2.]), array([1.]))
    """
    total = weights.sum(axis=-1)
    centre = (weights * x).sum(axis=-1) / total
    centred = x - centre[..., None]
    spread = (weights * centred**2).sum(axis=-1)
    moment = (weights * centred * y).sum(axis=-1)
    slope = np.divide(moment, spread, out=np.zeros_like(moment), where=spread > 0)
    return Lines(centre, (weights * y).sum(axis=-1) / total, slope, spread)
