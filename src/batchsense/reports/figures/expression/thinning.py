"""Fewer marks than there are rows: evenly, so that the picture stays the same."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Places


def evenly(count: int, most: int) -> Places:
    """At most so many places of ``count``, at equal distances.

    Examples
    --------
    >>> evenly(3, 5).tolist(), evenly(9, 3).tolist()
    ([0, 1, 2], [0, 4, 8])
    """
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).astype(np.intp)
