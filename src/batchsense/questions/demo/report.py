"""The page of ``batchsense demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.demo.pictures import demo_pictures
from batchsense.questions.demo.text import INTRODUCTION, scenes
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.questions.demo.result import DemoResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def demo_report(envelope: Envelope[DemoResult], command_line: str | None = None) -> str:
    """Write the report of the demo.

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
        introduction=INTRODUCTION,
        scenes=scenes(result),
        pictures=demo_pictures(result),
    )
