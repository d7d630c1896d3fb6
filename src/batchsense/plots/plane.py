"""The first two principal components, for pictures: the plane in which specimens differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.reports.figures.points import draw_points
from batchsense.reports.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from batchsense.experiments.tables.columns import Factor
#: With more specimens and more features than this, only the most variable features are used: the
#: time grows with the cube of the smaller number. What that does to the picture was not measured.
MOST_FEATURES = 500


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Specimens in the plane of their first two principal components."""

    coordinates: Floats  #: (specimens, 2): in the unit of the observations
    explained: tuple[float, float]  #: Part of the variance (of the used features) along each
    #: Features that were used, and complete features that there are.
    used: int
    features: int


def principal_plane(observations: npt.ArrayLike) -> Plane | None:
    """Find the plane of largest variance."""
    values = np.asarray(observations, dtype=np.float64)
    values = values[:, np.isfinite(values).all(axis=0)]
    features = values.shape[1]
    if min(values.shape) < 2:
        return None
    if min(values.shape) > MOST_FEATURES:
        variances = values.var(axis=0)
        values = values[:, np.sort(np.argsort(-variances, kind="stable")[:MOST_FEATURES])]
    centred = values - values.mean(axis=0)
    specimens, used = centred.shape
    if specimens <= used:
        sizes, vectors = np.linalg.eigh(centred @ centred.T)
        coordinates = vectors[:, :-3:-1] * np.sqrt(np.maximum(sizes[:-3:-1], 0.0))
    else:
        sizes, vectors = np.linalg.eigh(centred.T @ centred)
        coordinates = centred @ vectors[:, :-3:-1]
    total = float(sizes.clip(min=0.0).sum())
    if total == 0.0 or sizes[-2] <= 1e-12 * sizes[-1]:
        return None
    # The sign of a component is arbitrary; fix it, so that a picture repeats.
    largest = np.abs(coordinates).argmax(axis=0)
    coordinates = coordinates * np.sign(coordinates[largest, [0, 1]])
    explained = (float(sizes[-1]) / total, float(sizes[-2]) / total)
    return Plane(coordinates, explained, used, features)


def draw_plane(plane: Plane, factor: Factor, ids: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw specimens in a plane, coloured and marked by a factor; a number by its thirds."""
    factor = grouped(factor)
    first, second = plane.explained
    return draw_points(
        plane.coordinates[:, 0],
        plane.coordinates[:, 1],
        [factor.levels[code] for code in factor.codes],
        factor.name,
        (f"component 1: {percent(first)}", f"component 2: {percent(second)}"),
        ax=ax,
        ids=ids,
    )


def grouped(factor: Factor) -> Factor:
    """A factor with levels: of numbers the lower, middle and upper third.

    Examples
    --------
    >>> from batchsense.experiments.tables.columns import Factor
    >>> age = Factor("age", (), np.zeros(3, dtype=int), np.array([30.0, 40.0, 50.0]))
    >>> grouped(age).levels
    ('first third, to 36.67', 'second, to 43.33', 'third, above 43.33')
    """
    if factor.values is None:
        return factor
    ends = np.quantile(factor.values, [1 / 3, 2 / 3])
    low, high = f"{ends[0]:.4g}", f"{ends[1]:.4g}"
    names = (f"first third, to {low}", f"second, to {high}", f"third, above {high}")
    return replace(factor, levels=names, codes=np.searchsorted(ends, factor.values), values=None)
