"""The page that ``batchsense layout`` prints."""

from __future__ import annotations

from batchsense.questions.entangled import note_lines
from batchsense.questions.layout.result import BalancedFactor, LayoutResult, PlatesResult
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import number, spread

#: Tables with more batches than this would be wider than a line; the written sheet has them.
MOST_BATCHES = 12


def layout_text(envelope: Envelope[LayoutResult]) -> str:
    """Write a layout as text."""
    result = envelope.answer()
    lines = [
        f"{number(result.specimens)} specimens in {len(result.batches)} batches of "
        f"{spread([one.specimens for one in result.batches])}{_references(result)}; "
        f"new column: {result.column}.",
        paragraph(score_sentence(result)),
    ]
    if result.plates is not None:
        lines.append(paragraph(plates_sentence(result)))
    lines += ["", f"What is balanced, and what {result.column} costs it"]
    header, rows = worth_rows(result)
    lines += [columns(header, rows), paragraph(result.assumptions)]
    if len(result.batches) <= MOST_BATCHES:
        for one in result.factors:
            header, rows = batch_rows(result, one)
            lines += ["", columns(header, rows)]
    lines += note_lines(envelope.notes)
    lines += ["", f"Written: {result.output}"]
    return "\n".join(lines)


def score_sentence(result: LayoutResult) -> str:
    """Compare the score with chance."""
    chance = (
        "no random layout was found that keeps the constraints"
        if result.random_best is None
        else f"the best of {result.random_layouts} random layouts has "
        f"{number(result.random_best)}, their mean is {number(result.random_mean)}"
    )
    return (
        f"Sum of R² of the balanced factors with {result.column}: {_tiny(result.score)}; {chance}."
    )


def plates_sentence(result: LayoutResult) -> str:
    """Say how well positions are balanced."""
    plates = result.plates
    if plates is None:
        return ""
    return (
        f"Plates of {plates.rows} × {plates.columns}: sum of R² with plate row, column and edge "
        f"{_tiny(plates.score)}; the best of 50 random placements has {number(plates.random_best)}."
        f"{_asked_of_wells(plates)}"
    )


def _asked_of_wells(plates: PlatesResult) -> str:
    empty, kept = len(plates.empty_wells), plates.kept
    words = f" {_counted(empty, 'well')} of every plate stay{'s' * (empty == 1)} empty." * bool(
        empty
    )
    return words + f" {_counted(kept, 'specimen')} kept the well from before." * bool(kept)


def _counted(count: int, noun: str) -> str:
    return f"{number(count)} {noun}{'s' if count > 1 else ''}"


def _references(result: LayoutResult) -> str:
    count = result.reference_specimens
    return f", and {count} reference{'s' if count > 1 else ''} in each" if count else ""


def worth_rows(result: LayoutResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate what the batches cost each factor."""
    header = ["factor", "R²", "VIF", f"effective n of {number(result.specimens)}"]
    header += ["detectable", "without batches", "between"]
    with_plates = result.plates is not None
    if with_plates:
        header.insert(2, "R² with positions too")
    rows = []
    for one in result.factors:
        row = [
            one.name,
            f"{one.r2_with_batch:.4f}",
            "infinite" if one.vif is None else f"{one.vif:.3f}",
            f"{one.effective_n:,.1f}",
            _effect(one.detectable),
            _effect(one.detectable_unbatched),
            one.contrast.removeprefix(f"{one.name}: "),
        ]
        if with_plates:
            row.insert(2, "–" if one.position_r2 is None else f"{one.position_r2:.4f}")
        rows.append(row)
    return header, rows


def batch_rows(result: LayoutResult, one: BalancedFactor) -> tuple[list[str], list[list[str]]]:
    """Tabulate a factor by batch: counts of its levels, or means."""
    header = [one.name, *(batch.name for batch in result.batches)]
    if one.counts is not None:
        return header, [[level, *map(str, row)] for level, row in one.counts.items()]
    cells = one.by_batch or []
    return header, [
        ["mean", *(number(cell.mean, 4) for cell in cells)],
        ["SD", *(number(cell.standard_deviation, 3) for cell in cells)],
    ]


def _effect(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} SD"


def _tiny(value: float) -> str:
    return "0" if value < 1e-9 else number(value)
