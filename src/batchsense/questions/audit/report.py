"""The page of ``batchsense audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.audit.pictures import audit_picture
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.questions.audit.result import AuditResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def audit_report(envelope: Envelope[AuditResult], command_line: str | None = None) -> str:
    """Write the report of an audit.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    result = envelope.answer()
    return render(TEMPLATE, envelope, command_line, drawn=audit_picture(result))
