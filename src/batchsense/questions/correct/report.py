"""The page of ``batchsense correct``, and what its figures say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.experiments.tables.columns import label_factor
from batchsense.questions.correct.text import out_of_core_line, removed_words, reused_line
from batchsense.questions.plane import plane_picture, principal_plane
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import Picture, render

if TYPE_CHECKING:
    from batchsense.experiments import Corrected
    from batchsense.questions.correct.result import CorrectResult


def correct_report(
    envelope: Envelope[CorrectResult],
    corrected: Corrected | None = None,
    command_line: str | None = None,
) -> str:
    """The page of a correction."""
    how, earlier = envelope.answer().out_of_core, envelope.answer().reused
    planes = [] if corrected is None else _before_and_after(corrected)
    on_disk = None if how is None else out_of_core_line(how)
    return render(
        __file__,
        envelope,
        command_line,
        planes=planes,
        added=removed_words(envelope.answer()).removeprefix(". "),
        on_disk=on_disk,
        reused=None if earlier is None else reused_line(earlier),
    )


def _before_and_after(corrected: Corrected) -> list[Picture]:
    factor = label_factor(corrected.table, corrected.batch_labels)
    stages = zip(("before", "after"), corrected.compared(), strict=True)
    planes = [(when, principal_plane(values)) for when, values in stages]
    return [
        plane_picture(plane, factor, f"plane-{when}", f"{when} correction")
        for when, plane in planes
        if plane is not None
    ]
