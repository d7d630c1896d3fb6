"""The table of confounding numbers that diagnose and correct share."""

from __future__ import annotations

from collections.abc import Sequence

from batchsense.questions.shares import Entangled
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.envelope import Note
from batchsense.reports.wording import number, percent


def confounding_table(kept: Sequence[Entangled], batch_name: str, specimens: int) -> str:
    """Lay out how each kept factor goes with the batches."""
    header = ["kept", f"R² with {batch_name}", "VIF", f"effective n of {number(specimens)}"]
    header += ["lost by naive centring", "Cramér's V"]
    rows = [
        [
            one.name,
            _coefficient(one.r2_with_batch),
            "infinite" if one.vif is None else number(one.vif),
            f"{one.effective_n:,.1f}",
            percent(one.attenuation),
            "–" if one.cramers_v is None else _coefficient(one.cramers_v),
        ]
        for one in kept
    ]
    return columns(header, rows)


def aliased_lines(kept: Sequence[Entangled], batch_name: str) -> list[str]:
    """Name what is entangled, and what would help."""
    lines = []
    for one in kept:
        if not one.estimable:
            lines.append(f"{one.name} cannot be told from {batch_name}:")
            lines.extend(f"  {relation}" for relation in one.aliased)
            if one.explanation:
                lines.append(paragraph(one.explanation))
    return lines


def note_lines(notes: Sequence[Note]) -> list[str]:
    """List the notes under a heading."""
    if not notes:
        return []
    return ["", "Notes", *(paragraph(f"- {note.message}", hanging="- ") for note in notes)]


def _coefficient(value: float) -> str:
    return "0" if value < 5e-4 else "1" if value == 1 else f"{value:.3f}"
