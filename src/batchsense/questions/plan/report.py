"""The page of ``batchsense plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.plan.pictures import plan_pictures
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.questions.plan.result import PlanResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def plan_report(envelope: Envelope[PlanResult], command_line: str | None = None) -> str:
    """Write the report of a plan.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    result = envelope.answer()
    pictures = plan_pictures(result)
    return render(TEMPLATE, envelope, command_line, pictures=pictures)
