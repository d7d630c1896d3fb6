"""The nearest points of points, themselves left out."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats, Places

#: Neighbours among so few points are looked up faster than a tree can be loaded.
_FEW_POINTS = 200


def nearest(points: Floats, looked_up: Places, count: int) -> tuple[Floats, Places]:
    """Distances and places of the nearest other points of some, each (looked up, neighbours)."""
    count = min(count, len(points) - 1)
    if len(points) <= _FEW_POINTS:
        squares = ((points[looked_up, None] - points) ** 2).sum(axis=2)
        squares[np.arange(len(looked_up)), looked_up] = np.inf
        found = np.argsort(squares, axis=1, kind="stable")[:, :count]
        return np.sqrt(np.take_along_axis(squares, found, axis=1)), found
    from scipy.spatial import cKDTree

    distances, found = cKDTree(points).query(points[looked_up], k=count + 1)
    own = found == looked_up[:, None]
    own[~own.any(axis=1), -1] = True  # many equal points: itself need not be among the nearest
    shape = len(looked_up), count
    return distances[~own].reshape(shape), np.asarray(found[~own].reshape(shape))
