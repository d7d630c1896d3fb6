"""The figures of a correction: the specimens before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.experiments.tables.columns import label_factor
from batchsense.questions.diagnose.pictures import plane_picture
from batchsense.questions.diagnose.plane import principal_plane
from batchsense.reports.page import Picture

if TYPE_CHECKING:
    from batchsense.experiments import Corrected


def before_and_after(corrected: Corrected) -> list[Picture]:
    """Draw the specimens, coloured by batch, before and after correction."""
    factor = label_factor(corrected.table, corrected.batch_labels)
    stages = zip(("before", "after"), corrected.compared(), strict=True)
    planes = [(when, principal_plane(values)) for when, values in stages]
    return [
        plane_picture(plane, factor, f"plane-{when}", f"{when} correction")
        for when, plane in planes
        if plane is not None
    ]
