"""The audit in plain words: the answer, where it goes wrong, what follows, what to do."""

from __future__ import annotations

from batchsense.questions.answer import Tabulate
from batchsense.questions.audit.result import AuditResult, ConsequenceResult, SourceResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import number

_ANSWERS = {
    "yes": "may be split into micro-batches",
    "no": "may not simply be split into micro-batches",
    "unresolved": "is not known to bear splitting into micro-batches",
}


def audit_text(envelope: Envelope[AuditResult], table: Tabulate) -> str:
    """Write the audit for people."""
    result = envelope.answer()
    parts = [_prose(answer(result)), _prose(result.conclusion)]
    if result.normaliser is not None:
        parts.append(_prose(f"It divides by: {result.normaliser}."))
    if result.sources:
        sources = [_prose(_source_sentence(source), "- ") for source in result.sources]
        parts.append("\n".join(["Where:", *sources]))
    parts.append(table(*_consequence_rows(result)))
    parts.append(_prose(f"What to do: {result.fix}"))
    parts += [_prose(note.message, "- ") for note in envelope.notes]
    return "\n\n".join(parts)


def answer(result: AuditResult) -> str:
    """Say the verdict in one sentence."""
    randomness = " (with its random numbers)" if result.stochastic else ""
    return f"The loss of {result.target} {_ANSWERS[result.verdict]}{randomness}."


def _source_sentence(source: SourceResult) -> str:
    where = f" ({source.where})" if source.where else ""
    if source.place == "loss":
        return f"in the loss: {source.detail}{where}"
    return f"{source.place} {source.name}: {source.detail}{where}"


def _consequence_rows(result: AuditResult) -> tuple[list[str], list[list[str]]]:
    three = result.consequences
    named = [
        ("gradient accumulation", three.gradient_accumulation),
        ("several processes (DDP)", three.ddp),
        ("uneven last micro-batch", three.uneven_last),
    ]
    header = ["if averaged over", "off by", "which means"]
    return header, [[name, _off(found), found.message] for name, found in named]


def _off(found: ConsequenceResult) -> str:
    if found.deviation is None:
        return "–"
    return "0" if found.deviation < 1e-9 else f"{number(100 * found.deviation, 2)} %"


def _prose(text: str, mark: str = "") -> str:
    # Paths of modules and names of files stay whole, so that they can be searched for.
    return prose(text, mark, break_long_words=False, break_on_hyphens=False)
