"""The page of ``batchsense correct``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.correct.pictures import before_and_after
from batchsense.questions.correct.text import out_of_core_line, reused_line
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.experiments import Corrected
    from batchsense.questions.correct.result import CorrectResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def correct_report(
    envelope: Envelope[CorrectResult],
    corrected: Corrected | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of a correction.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    how, earlier = envelope.answer().out_of_core, envelope.answer().reused
    planes = [] if corrected is None else before_and_after(corrected)
    on_disk = None if how is None else out_of_core_line(how)
    return render(
        TEMPLATE,
        envelope,
        command_line,
        planes=planes,
        on_disk=on_disk,
        reused=None if earlier is None else reused_line(earlier),
    )
