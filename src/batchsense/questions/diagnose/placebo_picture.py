"""The figure of a placebo: how much of pure noise each pipeline calls."""

from __future__ import annotations

from batchsense.questions.diagnose.placebo_result import PlaceboResult
from batchsense.questions.diagnose.placebo_text import BEFORE, headline
from batchsense.reports.figures.intervals import Row, draw_intervals
from batchsense.reports.page import Picture

#: More rows than this are not drawn; the table has them all.
MOST_ROWS = 24


def placebo_picture(found: PlaceboResult, batch_name: str) -> Picture | None:
    """Draw the false-positive rate of every pipeline beside the one that it should have."""
    rows = [
        Row(
            f"{one.factor}: {BEFORE.get(one.pipeline, f'{batch_name} in the model')}",
            *(
                None if end is None else 100 * end
                for end in (one.rate.estimate, one.rate.low, one.rate.high)
            ),
        )
        for one in found.outcomes
        if one.rate.estimate is not None
    ]
    if not rows:
        return None
    ax = draw_intervals(
        rows[:MOST_ROWS],
        f"noise with p ≤ {found.alpha:g} (%)",
        "false-positive rate",
        reference=100 * found.alpha,
        reference_label="as it should be",
    )
    finding = headline(found, batch_name)
    if len(rows) > MOST_ROWS:
        finding += f" The first {MOST_ROWS} of {len(rows)} are drawn."
    return Picture.of(ax, "placebo", "False-positive rates", finding)
