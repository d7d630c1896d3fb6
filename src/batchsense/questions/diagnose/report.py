"""The page of ``batchsense diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchsense.questions.diagnose import placebo_text
from batchsense.questions.diagnose.pictures import (
    design_pictures,
    plane_pictures,
    scores_picture,
    share_picture,
)
from batchsense.questions.diagnose.placebo_picture import placebo_picture
from batchsense.questions.diagnose.scores_text import contrast_sentences
from batchsense.questions.diagnose.text import interaction_sentence
from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.experiments import Diagnosis, Table
    from batchsense.questions.diagnose.placebo_result import PlaceboResult
    from batchsense.questions.diagnose.result import DiagnoseResult

TEMPLATE = Path(__file__).with_name("report.html.j2")


def diagnose_report(
    envelope: Envelope[DiagnoseResult],
    found: Diagnosis | None = None,
    table: Table | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of a diagnosis.

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
        shares=share_picture(result),
        uncrossed=interaction_sentence(envelope),
        designs=design_pictures(result),
        contrasts=contrast_sentences(result.kept),
        components=None if result.scores is None else scores_picture(result.scores),
        placebo=None if result.placebo is None else _placebo(result.placebo, result.batch.name),
        planes=[] if found is None or table is None else plane_pictures(found, table),
    )


def _placebo(found: PlaceboResult, batch_name: str) -> dict[str, object]:
    """Give what the report of a diagnosis shows of its placebo."""
    header, rows = placebo_text.placebo_rows(found, batch_name)
    return {
        "introduction": placebo_text.introduction(found),
        "picture": placebo_picture(found, batch_name),
        "columns": [
            (name, "n") if place > 1 else (name.capitalize(), "")
            for place, name in enumerate(header)
        ],
        "rows": rows,
        "remarks": placebo_text.remarks(found, batch_name),
    }
