"""The page of ``batchsense surrogates``, and what its figures say."""

from __future__ import annotations

from batchsense.questions.surrogates import text
from batchsense.questions.surrogates.result import SurrogatesResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.points import draw_points, reduction
from batchsense.reports.page import Picture, render


def surrogates_report(envelope: Envelope[SurrogatesResult], command_line: str | None = None) -> str:
    """The page of surrogate variables."""
    result = envelope.answer()
    return render(
        __file__,
        envelope,
        command_line,
        sentence=text.count_sentence(result),
        surrogate_rows=text.surrogate_rows(result)[1],
        kept_rows=text.kept_rows(result)[1],
        pictures=_surrogate_pictures(result),
    )


def _surrogate_pictures(result: SurrogatesResult) -> list[Picture]:
    pictures = []
    order = list(range(1, len(result.specimens) + 1))
    for k, one in enumerate(result.surrogates[:4]):
        ax = draw_points(
            order,
            one.values,
            [one.name] * len(order),
            "surrogate",
            ("specimens in the order of the matrix", one.name),
            ids=result.specimens,
        )
        finding = "Steps or drifts along the order of the matrix hint at when things were done. "
        finding += reduction(len(order), 1)
        title = f"{one.name} in the order of the matrix"
        pictures.append(Picture.of(ax, f"surrogate-{k}", title, finding.strip()))
    return pictures
