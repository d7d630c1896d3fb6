"""The HTML reports about sheets: a layout planned for one, and surrogate variables added to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render

if TYPE_CHECKING:
    from batchsense.experiments import Layout
    from batchsense.reports.results.layout import LayoutResult
    from batchsense.reports.results.surrogates import SurrogatesResult


def layout_report(
    envelope: Envelope[LayoutResult],
    found: Layout | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of a layout.

    Parameters
    ----------
    envelope : Envelope of LayoutResult
        The answer; the page carries it unchanged.
    found : Layout, optional
        What the answer was made of: adds pictures of numbers and plates.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.layout import factor_pictures, plate_pictures
    from batchsense.reports.text import layout_plan as text

    result = envelope.answer()
    header, rows = text.worth_rows(result)
    worst = max(one.vif or float("inf") for one in result.factors)
    return render(
        "layout.html.j2",
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


def surrogates_report(envelope: Envelope[SurrogatesResult], command_line: str | None = None) -> str:
    """Write the report of surrogate variables.

    Parameters
    ----------
    envelope : Envelope of SurrogatesResult
        The answer; the page carries it unchanged.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.surrogates import surrogate_pictures
    from batchsense.reports.text import surrogates as text

    result = envelope.answer()
    return render(
        "surrogates.html.j2",
        envelope,
        command_line,
        sentence=text.count_sentence(result),
        surrogate_rows=text.surrogate_rows(result)[1],
        kept_rows=text.kept_rows(result)[1],
        pictures=surrogate_pictures(result),
    )
