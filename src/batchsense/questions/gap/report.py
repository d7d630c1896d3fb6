"""The page of ``batchsense gap``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.gap import text
from batchsense.questions.gap.pictures import gap_pictures
from batchsense.questions.layout.text import spread
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.questions.gap.result import GapResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def gap_report(envelope: Envelope[GapResult], command_line: str | None = None) -> str:
    """Write the report of a model on batches left out.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    if envelope.result is None:
        raise ValueError("there is no result to report")
    result = envelope.result
    errors, *folds = gap_pictures(result)
    return render(
        TEMPLATE,
        envelope,
        command_line,
        task=text.task_sentence(result),
        verdict=text.capital(text.verdict_word(result)),
        sentence=text.verdict_sentence(result),
        changes=text.change_sentences(result),
        guess=text.guess_sentence(result),
        sizes=spread([one.specimens for one in result.ways[0].by_batch]),
        ways=[row[:-1] for row in text.way_rows(result)[1]],  # the figures say on how many
        errors=errors,
        folds=folds,
    )
