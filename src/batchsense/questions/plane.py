"""The first two principal components, for pictures: the plane in which specimens differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.reports.columns import headings
from batchsense.reports.figures.points import draw_points, reduction
from batchsense.reports.page import DataTable, Picture
from batchsense.reports.wording import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from batchsense.experiments.tables.columns import Factor

#: With more specimens and more features than this, only the most variable features are used: the
#: time grows with the cube of the smaller number. What that does to the picture was not measured.
MOST_FEATURES = 500


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Specimens in the plane of their first two principal components.

    Attributes
    ----------
    coordinates : array of shape (specimens, 2)
        In the unit of the observations.
    explained : tuple of two floats
        Part of the variance (of the used features) along each.
    used, features : int
        Features that were used, and complete features that there are.
    """

    coordinates: Floats
    explained: tuple[float, float]
    used: int
    features: int


def principal_plane(observations: npt.ArrayLike) -> Plane | None:
    """Find the plane of largest variance.

    Examples
    --------
    >>> plane = principal_plane([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0]])
    >>> [round(part, 3) for part in plane.explained]
    [0.8, 0.2]
    """
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


def drawn_plane(plane: Plane, factor: Factor, shapes: Factor | None = None) -> Axes:
    """Draw specimens in a plane, coloured by a factor, with shapes for another one."""
    return draw_points(
        plane.coordinates[:, 0],
        plane.coordinates[:, 1],
        [factor.levels[code] for code in factor.codes],
        factor.name,
        tuple(f"component {k}: {percent(part)}" for k, part in enumerate(plane.explained, start=1)),
        None if shapes is None else [shapes.levels[code] for code in shapes.codes],
        "" if shapes is None else shapes.name,
    )


def plane_picture(plane: Plane, factor: Factor, name: str, when: str = "") -> Picture:
    """Draw specimens in a plane, coloured by a factor."""
    ax = drawn_plane(plane, factor)
    first, second = plane.explained
    finding = (
        f"Every point is a specimen; near points are alike. The plane holds "
        f"{percent(first + second)} of the variance"
    )
    if plane.used < plane.features:
        finding += f" of the {plane.used} most variable of {plane.features:,} features"
    finding += ". " + reduction(len(factor.codes), len(factor.levels))
    title = f"Coloured by {factor.name}" + (f", {when}" if when else "")
    return Picture.of(ax, name, title, finding.strip(), centres(plane, factor))


def centres(plane: Plane, factor: Factor) -> DataTable:
    """Tabulate where the groups lie on average."""
    rows = []
    for code, level in enumerate(factor.levels):
        here = plane.coordinates[factor.codes == code]
        mean = here.mean(axis=0)
        rows.append([level, f"{len(here):,}", number(mean[0]), number(mean[1])])
    header = headings([factor.name, "specimens", "component 1", "component 2"])
    return DataTable("Mean coordinates", header, rows, folded=True)
