"""Logarithms of counts per million: one for looking at, one for weighing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats

#: Added to a count in a library of average size, so that small counts do not scatter as logarithms:
#: the default of edgeR's ``cpm``.
_PRIOR = 2.0


def log_cpm(counts: ArrayLike, sizes: ArrayLike) -> Floats:
    r"""Log2 counts per million for looking at: distances, components, clusters.

    :math:`\log_2(10^6\,(y + p)/(N + 2p))` with :math:`p = 2N/\bar N`, so that a count of zero gives
    the same in every library. Counts y have shape (specimens, features), effective library sizes N
    (specimens,): all counts of a specimen times its factor.

    References
    ----------
    edgeR's manual, ``cpm``.

    Examples
    --------
    >>> log_cpm([[0, 6], [0, 12]], [1e6, 2e6]).round(3)
    array([[0.415, 2.874],
           [0.415, 2.874]])
    """
    depth = np.asarray(sizes, dtype=np.float64)[:, None]
    added = _PRIOR * depth / depth.mean()
    return np.asarray(np.log2((np.asarray(counts) + added) / (depth + 2.0 * added) * 1e6))


def log_cpm_for_weights(counts: ArrayLike, sizes: ArrayLike) -> Floats:
    r"""Log2 counts per million for tests with precision weights: log2(10⁶ (y + 0.5)/(N + 1)).

    The same is added everywhere, and small counts scatter the more; their weights say so. Shapes
    are those of :func:`log_cpm`.

    References
    ----------
    Law, Chen, Shi and Smyth 2014, Genome Biol. 15, R29 (voom).

    Examples
    --------
    >>> log_cpm_for_weights([[0, 1]], [1e6 - 1]).round(3)
    array([[-1.   ,  0.585]])
    """
    depth = np.asarray(sizes, dtype=np.float64)[:, None]
    return np.asarray(np.log2((np.asarray(counts) + 0.5) / (depth + 1.0) * 1e6))
