"""The page of ``batchsense layout``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.layout import text
from batchsense.questions.layout.pictures import factor_pictures, plate_pictures
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.experiments import Layout
    from batchsense.questions.layout.result import LayoutResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def layout_report(
    envelope: Envelope[LayoutResult],
    found: Layout | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of a layout.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    result = envelope.answer()
    header, rows = text.worth_rows(result)
    worst = max(one.vif or float("inf") for one in result.factors)
    return render(
        TEMPLATE,
        envelope,
        command_line,
        headline=f"Largest VIF {worst:.3f}",
        score=text.score_sentence(result),
        plates_sentence=text.plates_sentence(result),
        sizes=text.spread([one.specimens for one in result.batches]),
        worth_columns=[(name, "" if name in {"factor", "between"} else "n") for name in header],
        worth_rows=rows,
        drawn=factor_pictures(result, found),
        plates=plate_pictures(found),
    )
