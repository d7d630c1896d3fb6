"""Specimens in the pages of several questions: planes of components, and relative expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchsense.errors import listed
from batchsense.experiments.correction.interface import Corrected
from batchsense.experiments.tables.columns import Factor
from batchsense.plots.plane import Plane, draw_plane, grouped, principal_plane
from batchsense.plots.specimens import factor_of, plot_relative_expression, present
from batchsense.reports.figures.expression.relative import MOST_BOXES, MOST_FEATURES
from batchsense.reports.figures.points import reduction
from batchsense.reports.page import Picture
from batchsense.reports.wording import percent

if TYPE_CHECKING:
    from batchsense.experiments import Table


def colouring(
    table: Table, names: Sequence[str], labels: Sequence[str], most: int
) -> tuple[list[Factor], str]:
    """The columns that colour planes, ``labels`` one by one, and a sentence on those left out."""
    known = present(table, names)
    said = f" Not drawn: {listed(known[most:])}." if known[most:] else ""
    return [factor_of(table, name, labels) for name in known[:most]], said


def coloured_planes(observations: Table | Corrected, factors: Sequence[Factor]) -> list[Picture]:
    """Specimens in their plane by each factor; of a corrected table before and after."""
    if isinstance(observations, Corrected):
        table, both = observations.table, observations.compared()
        stages = [("before", both[0]), ("after", both[1])]
    else:
        table, stages = observations, [("", observations.values)]
    planes = [(when, principal_plane(values)) for when, values in stages]
    return [
        plane_picture(plane, factor, table.specimens, f"plane-{k}{when and '-'}{when}", when)
        for k, factor in enumerate(factors)
        for when, plane in planes
        if plane is not None
    ]


def relative_picture(
    observations: Table | Corrected, batch_labels: str, when: str = "", after: bool = False
) -> Picture | None:
    """Specimens as boxes of relative expression; None where the batches are no column."""
    table = observations.table if isinstance(observations, Corrected) else observations
    if not present(table, [batch_labels]) or table.values.shape[1] < FEWEST_FEATURES:
        return None
    ax = plot_relative_expression(observations, batch_labels, after)
    finding = (
        "Each line is a specimen: its values less the median of each feature. The mark is their "
        "median, the thick line holds half of them, the thin one 90 %. Where nothing but chance "
        "differs, all look alike; a box that is higher or longer says how a whole specimen or "
        "batch is off, wanted or not."
    )
    specimens, features = table.values.shape
    if specimens > MOST_BOXES:
        finding += f" Drawn are {MOST_BOXES} of {specimens:,}, evenly from all batches."
    if features > MOST_FEATURES:
        finding += f" Every box is of {MOST_FEATURES:,} of {features:,} features, evenly taken."
    title = "Relative expression" + (f", {when} correction" if when else "")
    name = f"relative-{when}" if when else "relative"
    return Picture.of(ax, name, title, finding)


#: A box of fewer features shows nothing.
FEWEST_FEATURES = 8


def plane_picture(
    plane: Plane, factor: Factor, ids: tuple[str, ...], name: str, when: str = ""
) -> Picture:
    """Draw specimens in a plane, coloured by a factor."""
    ax = draw_plane(plane, factor, ids)
    first, second = plane.explained
    finding = (
        f"Every point is a specimen; near points are alike. The plane holds "
        f"{percent(first + second)} of the variance"
    )
    if plane.used < plane.features:
        finding += f" of the {plane.used} most variable of {plane.features:,} features"
    finding += "."
    if factor.values is not None:
        finding += " Groups are thirds of the specimens."
    factor = grouped(factor)
    finding += " " + reduction(len(factor.codes), len(factor.levels))
    title = f"Coloured by {factor.name}" + (f", {when} correction" if when else "")
    return Picture.of(ax, name, title, finding.strip())
