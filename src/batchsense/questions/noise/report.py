"""The page of ``batchsense noise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.noise import text
from batchsense.questions.noise.pictures import noise_pictures
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.questions.noise.result import GradientNoiseResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def noise_report(envelope: Envelope[GradientNoiseResult], command_line: str | None = None) -> str:
    """Write the report of a noise measurement.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    result = envelope.answer()
    header, rows = text.layer_rows(result)
    return render(
        TEMPLATE,
        envelope,
        command_line,
        pictures=noise_pictures(result),
        headline=text.headline(result),
        unresolved=text.unresolved_sentence(result),
        meaning=text.meaning(result),
        run=text.run_sentence(result),
        layer_header=header,
        layer_rows=rows,
    )
