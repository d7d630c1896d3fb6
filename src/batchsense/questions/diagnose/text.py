"""The page that ``batchsense diagnose`` prints."""

from __future__ import annotations

from batchsense.questions.diagnose.placebo_text import placebo_lines
from batchsense.questions.diagnose.result import DiagnoseResult
from batchsense.questions.diagnose.scores_text import (
    clustering_lines,
    component_line,
    component_lines,
    contrast_sentences,
)
from batchsense.questions.entangled import aliased_lines, confounding_table, note_lines
from batchsense.questions.shares import ShareResult
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import estimate, number, percent, span, with_interval

_HEADLINES = {
    "fine": "fine",
    "adjust": "adjust (keep the batch in the model)",
    "partly_lost": "partly lost",
    "not_estimable": "not estimable",
}
#: Shares below this are what rounding leaves of a balanced design.
_ROUNDING = 1e-9


def diagnose_text(envelope: Envelope[DiagnoseResult], source: str) -> str:
    """Write a diagnosis as text."""
    result = envelope.answer()
    batch = result.batch
    sizes = sorted(batch.levels.values())
    lines = [
        f"{source}: {number(result.specimens)} specimens, {number(result.features)} features; "
        f"the matrix is {result.orientation}.",
        f"Batch: {batch.name}, numbers."
        if batch.columns and all(one.kind == "numeric" for one in batch.columns)
        else f"Batch: {batch.name}, {len(sizes)} {'combinations' if batch.columns else 'batches'} "
        f"of {_range(sizes)} specimens.",
        "",
        paragraph(f"Verdict: {_HEADLINES[result.verdict]}. {_sentence(result.reason)}"),
        "",
        "Share of the variance that each term adds to the others, chance subtracted",
        _share_table(result),
    ]
    reasons = [
        f"{name}: {share.reason}." for name, share in _shares(result) if share.reason is not None
    ]
    lines.extend(map(paragraph, [*reasons, *interaction_sentence(envelope)]))
    lines.append(paragraph(_remainder(result)))
    lines.extend(map(paragraph, block_sentence(result)))
    if batch.component is not None:
        lines.append(component_line(batch.component, batch.name))
    if result.scores is not None:
        lines += ["", *clustering_lines(result.scores), "", *component_lines(result.scores)]
    if result.kept:
        lines += ["", f"What is to be kept, and how it goes with {batch.name}"]
        lines.append(confounding_table(result.kept, batch.name, result.specimens))
        lines.extend(aliased_lines(result.kept, batch.name))
        lines.extend(map(paragraph, contrast_sentences(result.kept)))
    if result.placebo is not None:
        lines += ["", *placebo_lines(result.placebo, batch.name)]
    lines.extend(note_lines(envelope.notes))
    return "\n".join(lines)


def interaction_sentence(envelope: Envelope[DiagnoseResult]) -> list[str]:
    """Say so where nothing is left to judge an interaction with what is kept by."""
    result = envelope.result
    if result is None or result.interaction is not None or not result.kept:
        return []
    if any(note.code == "interaction_left_out" for note in envelope.notes):
        return []
    names = ", ".join(one.name for one in result.kept)
    return [
        f"Whether {result.batch.name} acts differently on {names} cannot be told: no degree of "
        "freedom is left for their interaction."
    ]


def block_sentence(result: DiagnoseResult) -> list[str]:
    """Say what the subjects add, where they were named."""
    block = result.block
    if block is None:
        return []
    if block.share.estimate is None:
        return [f"What {block.name} adds to these terms cannot be told: {block.share.reason}."]
    return [
        f"Beside these terms the {number(block.count)} entries of {block.name} explain "
        f"{with_interval(block.share, ' %', scale=100)}, chance subtracted (p = "
        f"{number(block.share.p_value, 2)}). Test with --block {block.name}."
    ]


def _shares(result: DiagnoseResult) -> list[tuple[str, ShareResult]]:
    terms = [(result.batch.name, result.batch.share)]
    terms.extend((one.name, one.share) for one in result.batch.columns)
    terms.extend((one.name, one.share) for one in result.kept)
    if result.interaction is not None:
        terms.append((result.interaction.name, result.interaction.share))
    if result.kept:
        names = [result.batch.name, *(one.name for one in result.kept)]
        terms.append((" + ".join(names), result.joint))
    return terms


def _remainder(result: DiagnoseResult) -> str:
    rest = result.residual
    text = (
        f"No term explains {with_interval(rest, ' %', scale=100)}."
        if rest.estimate is not None
        else f"What no term explains cannot be told: {rest.reason}."
    )
    if result.kept and result.shared is not None:
        alone = [(result.batch.name, result.batch.r2_alone)]
        alone += [(one.name, one.r2_alone) for one in result.kept]
        each = ", ".join(f"{name} {percent(value)}" for name, value in alone)
        text += f" Raw shares of each term alone: {each}; "
        if abs(result.shared) < _ROUNDING:
            text += "none of it belongs to several terms at once."
        elif result.shared > 0:
            text += f"{percent(result.shared)} belong to several terms at once."
        else:
            text += f"beside the others they explain {percent(-result.shared)} more."
    return text


def _share_table(result: DiagnoseResult) -> str:
    header = ["term", "share", "95 % interval", "raw", "raw by chance (mean, 95 %)", "p"]
    rows = [[name, *_cells(share)] for name, share in _shares(result)]
    return columns(header, rows)


def _cells(share: ShareResult) -> list[str]:
    if share.estimate is None:
        return ["–"] * 5
    return [
        f"{estimate(share, scale=100)} %",
        f"{span(share.low, share.high, scale=100)} %",
        percent(share.raw, 3),
        f"{percent(share.null_mean)}, {percent(share.null_high)}",
        number(share.p_value, 2),
    ]


def _range(sizes: list[int]) -> str:
    return f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("no ") else text
