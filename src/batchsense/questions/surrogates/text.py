"""The page that ``batchsense surrogates`` prints."""

from __future__ import annotations

from batchsense.questions.entangled import note_lines
from batchsense.questions.surrogates.result import SurrogateResult, SurrogatesResult
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import number, percent


def surrogates_text(envelope: Envelope[SurrogatesResult], source: str) -> str:
    """Write an account of surrogate variables as text."""
    result = envelope.answer()
    lines = [
        f"{source}: {number(len(result.specimens))} specimens, {number(result.features)} features.",
        paragraph(count_sentence(result)),
    ]
    if result.surrogates:
        lines += ["", columns(*surrogate_rows(result))]
    if result.kept:
        lines += ["", "What is to be kept, and how it goes with the surrogates"]
        lines.append(columns(*kept_rows(result)))
    lines += note_lines(envelope.notes)
    lines += ["", f"Written: {result.output}"]
    return "\n".join(lines)


#: The methods in words.
METHODS = {
    "reweighted": "reweighted method",
    "two-step": "two-step method",
    "controls": "from control features",
}


def count_sentence(result: SurrogatesResult) -> str:
    """Say how many directions exceed chance, and how many surrogates were made."""
    seen = result.count_seen
    words = ("No direction", "exceeds") if seen == 0 else (f"{seen} directions", "exceed")
    words = ("1 direction", "exceeds") if seen == 1 else words
    told = (
        f"{words[0]} of the residual variation {words[1]} what {result.permutations} permutations "
        "show (p below 0.1). "
        if seen is not None
        else ""
    )
    return f"{told}Surrogates: {len(result.surrogates)} ({METHODS[result.method]})" + (
        f"; about {number(round(result.affected_features))} of {number(result.features)} "
        "features took part."
        if result.surrogates
        else "."
    )


def surrogate_rows(result: SurrogatesResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the surrogates."""
    header = ["surrogate", "share of the residual variation", "looks like (adjusted R²)"]
    return header, [
        [one.name, percent(one.residual_share), looks_like(one)] for one in result.surrogates
    ]


def kept_rows(result: SurrogatesResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the kept factors."""
    header = ["kept", "R² with surrogates", "VIF", f"effective n of {len(result.specimens)}"]
    return header, [
        [
            one.name,
            f"{one.r2_with_surrogates:.3f}",
            number(one.vif),
            f"{one.effective_n:,.1f}",
        ]
        for one in result.kept
    ]


def looks_like(one: SurrogateResult) -> str:
    """Name the columns that a surrogate looks like."""
    if not one.looks_like:
        return "no column of the sheet"
    return ", ".join(f"{like.column} ({like.adjusted_r2:.2f})" for like in one.looks_like)
