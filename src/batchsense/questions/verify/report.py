"""The page of ``batchsense verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.verify.pictures import sweep_picture
from batchsense.questions.verify.text import verdict_sentence
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.questions.verify.result import VerifyResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def verify_report(envelope: Envelope[VerifyResult], command_line: str | None = None) -> str:
    """Write the report of a checked plan.

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
        sentence=verdict_sentence(result),
        sweep=sweep_picture(result),
    )
