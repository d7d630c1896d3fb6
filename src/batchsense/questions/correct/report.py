"""The page of ``batchsense correct``, and what its figures say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.questions.correct.text import out_of_core_line, removed_words, reused_line
from batchsense.questions.plane import coloured_planes, colouring, relative_picture
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.experiments import Corrected
    from batchsense.questions.correct.result import CorrectResult


#: Factors that colour the planes before and after, the batches among them.
MOST_FACTORS = 4


def correct_report(
    envelope: Envelope[CorrectResult],
    corrected: Corrected | None = None,
    command_line: str | None = None,
) -> str:
    """The page of a correction."""
    how, earlier = envelope.answer().out_of_core, envelope.answer().reused
    planes, relative, undrawn = [], [], ""
    if corrected is not None:
        names = [*corrected.batch_columns, *(one.name for one in corrected.kept)]
        numbers = {*corrected.numeric_batches}
        numbers |= {one.name for one in corrected.kept if one.kind == "numeric"}
        labels = [name for name in names if name not in numbers]
        coloured, undrawn = colouring(corrected.table, names, labels, MOST_FACTORS)
        planes = coloured_planes(corrected, coloured)
        stages = (("before", False), ("after", True))
        relative = [relative_picture(corrected, corrected.shown_column, *one) for one in stages]
    on_disk = None if how is None else out_of_core_line(how)
    return render(
        __file__,
        envelope,
        command_line,
        planes=planes,
        relative=relative,
        undrawn=undrawn,
        added=removed_words(envelope.answer()).removeprefix(". "),
        on_disk=on_disk,
        reused=None if earlier is None else reused_line(earlier),
    )
