"""The page of ``batchsense surrogates``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.surrogates import text
from batchsense.questions.surrogates.pictures import surrogate_pictures
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.questions.surrogates.result import SurrogatesResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def surrogates_report(envelope: Envelope[SurrogatesResult], command_line: str | None = None) -> str:
    """Write the report of surrogate variables.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    result = envelope.answer()
    return render(
        TEMPLATE,
        envelope,
        command_line,
        sentence=text.count_sentence(result),
        surrogate_rows=text.surrogate_rows(result)[1],
        kept_rows=text.kept_rows(result)[1],
        pictures=surrogate_pictures(result),
    )
