"""Many tests at once: which hits to believe."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats
from batchsense.errors import DataError


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Turn p-values into q: calling all with q ≤ α keeps the expected false share at α.

    q of the i-th smallest of m is min over j ≥ i of m·p_(j)/j, at most 1. NaN (not tested) stays
    NaN and does not count. Holds for independent tests and for positively dependent ones.

    Shapes: ``p_values`` (tests,).

    Source: Benjamini and Hochberg 1995, J. R. Statist. Soc. B 57, 289.
    """
    values = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    known = values[tested]
    if ((known < 0) | (known > 1)).any():
        raise DataError("p-values must lie between 0 and 1")
    found = np.full(values.shape, np.nan)
    if not len(tested):
        return found
    order = np.argsort(-known, kind="stable")
    ranks = np.arange(len(known), 0, -1)
    found[tested[order]] = np.minimum(np.minimum.accumulate(known[order] * len(known) / ranks), 1.0)
    return found


def holm(p_values: ArrayLike) -> Floats:
    """p-values after Holm (1979): the i-th smallest of m times m - i + 1, never below those before.

    At most 1. All those that stay below α are right with probability 1 - α.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    times = np.minimum(values[order] * np.arange(len(values), 0, -1), 1.0)
    found = np.empty_like(values)
    found[order] = np.maximum.accumulate(times)
    return found
