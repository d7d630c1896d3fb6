"""The page of ``batchsense test``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.test import text
from batchsense.questions.test.pictures import effect_pictures
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.experiments import ContrastTests
    from batchsense.questions.test.result import ContrastTestsResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def contrast_report(
    envelope: Envelope[ContrastTestsResult],
    found: ContrastTests | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of tests.

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
        model=text.model_sentence(result),
        headlines=text.headlines(result),
        untested=sum(result.untested.values()),
        prices=text.price_rows(result),
        pictures=[] if found is None else effect_pictures(found),
        tables=text.feature_tables(result),
    )
