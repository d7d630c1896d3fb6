"""A flexible curve with few parameters: natural cubic splines."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats


def natural_spline_basis(x: ArrayLike, columns: int, at: ArrayLike | None = None) -> Floats:
    """Columns that span the natural cubic splines with knots at quantiles of x.

    Cubic between the knots, straight outside; ``columns`` - 2 inner knots at equally spaced
    quantiles and the two ends of the range. With the scaled x in 0 to 1, knots κ_1 to κ_K and
    d_k(x) = ((x - κ_k)₊³ - (x - κ_K)₊³)/(κ_K - κ_k) the columns are 1, x and
    d_k - d_{K-1} for k = 1 to K - 2.

    Parameters
    ----------
    x : array of shape (observations,)
        Finite numbers with at least two distinct values.
    columns : int
        At least 2 (a straight line).
    at : array, optional
        Where to evaluate the columns; at x by default. The knots stay those of x.

    Returns
    -------
    array of shape (observations, columns)
        Fewer columns where quantiles coincide.

    References
    ----------
    Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, section 5.2.1.

    Examples
    --------
    >>> natural_spline_basis([0.0, 1.0, 2.0, 4.0], 2)
    array([[1.  , 0.  ],
           [1.  , 0.25],
           [1.  , 0.5 ],
           [1.  , 1.  ]])
    """
    values = np.asarray(x, dtype=np.float64)
    low, high = values.min(), values.max()
    knots = np.unique(np.quantile((values - low) / (high - low), np.linspace(0.0, 1.0, columns)))
    places = values if at is None else np.asarray(at, dtype=np.float64)
    scaled = (places - low) / (high - low)
    tail = np.clip(scaled[:, None] - knots, 0.0, None) ** 3
    slopes = (tail[:, :-1] - tail[:, -1:]) / (knots[-1] - knots[:-1])
    return np.column_stack([np.ones(len(scaled)), scaled, slopes[:, :-1] - slopes[:, -1:]])
