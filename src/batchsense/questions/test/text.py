"""The page that ``batchsense test`` prints."""

from __future__ import annotations

from batchsense.errors import listed
from batchsense.questions.entangled import note_lines
from batchsense.questions.test.result import (
    ContrastTestsResult,
    Counted,
    CountsResult,
    EffectResult,
    FactorResult,
    RefusedResult,
)
from batchsense.reports.columns import columns, headings, paragraph
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import estimate, number, percent, span

#: So many features are shown of each contrast; fewer where there are many contrasts, so that the
#: answer stays on about one screen.
_SHOWN, _SHOWN_OF_MANY, _MANY = 10, 3, 3
#: Said beside the model, not among the notes.
COUNTS_NOTE = "tested_as_counts"


def contrast_text(envelope: Envelope[ContrastTestsResult], source: str) -> str:
    """Write the tests of a table as text."""
    result = envelope.answer()
    lines = [
        f"{source}: {number(result.specimens)} specimens, {number(result.features)} features; "
        f"the matrix is {result.orientation}.",
        paragraph(model_sentence(result)),
    ]
    lines += [paragraph(note.message) for note in envelope.notes if note.code == COUNTS_NOTE]
    shown = _SHOWN if len(result.effects) <= _MANY else _SHOWN_OF_MANY
    for one in result.factors:
        lines += ["", _factor_sentence(one), columns(*_f_rows(one, shown))]
    for effect in result.effects:
        lines += ["", _effect_sentence(effect), columns(*_effect_rows(effect, result.level, shown))]
    if result.refused:
        lines += ["", "Refused"]
        for refused in result.refused:
            lines.append(f"{refused.contrast} cannot be told from {beside(refused)}:")
            lines.extend(f"  {relation}" for relation in refused.aliased[:10])
            if refused.explanation:
                lines.append(paragraph(refused.explanation))
    if result.output is not None:
        lines += ["", f"Written: {result.output} (every feature)"]
    notes = [note for note in envelope.notes if note.code not in ("not_estimable", COUNTS_NOTE)]
    lines.extend(note_lines(notes))
    return "\n".join(lines)


def brief(envelope: Envelope[ContrastTestsResult]) -> str:
    """Every contrast in a few words, all in one line."""
    result = envelope.answer()
    said = [_factor_sentence(one) for one in result.factors]
    said += [_effect_sentence(one) for one in result.effects]
    said += [f"{one.contrast} cannot be told from {result.batch}" for one in result.refused]
    return " | ".join(said)


def model_sentence(result: ContrastTestsResult) -> str:
    """Say what is in the model and how variances are judged."""
    model = f"Model: {listed([*result.terms, result.batch])}."
    if (blocks := result.blocks) is not None:
        which = f"the {number(blocks.count)} entries of {blocks.column}"
        if blocks.per_feature:
            return (
                f"{model} Between {which} each feature has a variance of its own. t and F with "
                "Satterthwaite's degrees of freedom; nothing is shared among features."
            )
        model += f" Rows within {which} are correlated ({blocks.correlation:.3f})."
    if not result.shrink:
        return f"{model} Ordinary t and F: each feature is judged by its own variance."
    options = [name for name in ("trend", "robust") if getattr(result, name)]
    lent = (
        f"all features{' but wild ones' if result.robust else ''} share one variance"
        if result.prior_df is None
        else f"the other features lend {number(result.prior_df)} degrees of freedom"
    )
    how = f" ({', '.join(options)})" if options else ""
    return f"{model} Moderated t and F{how}: {lent}."


def beside(refused: RefusedResult) -> str:
    """What a contrast cannot be told from."""
    return refused.beside or "the rest of the model, without the batches"


def library_table(counts: CountsResult) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Give columns and rows of the libraries, the least effective first."""
    found = sorted((counts.sizes[name] * factor, name) for name, factor in counts.factors.items())
    rows = [
        [name, number(counts.sizes[name]), f"{counts.factors[name]:.3f}", number(effective)]
        for effective, name in found
    ]
    return headings(["specimen", "counts", "TMM factor", "effective"]), rows


def _effect_sentence(one: EffectResult) -> str:
    return (
        f"{one.contrast} · {_called(one)}; R² with the batches {one.r2_with_batch:.3f}, "
        f"VIF {number(one.vif)}"
    )


def _factor_sentence(one: FactorResult) -> str:
    levels = "all levels" if one.complete else "the comparable levels"
    which = {
        "levels": f"{one.factor}, {levels} together",
        "interaction": f"{one.factor}, interaction{'' if one.complete else ', what can be told'}",
        "contrasts": one.factor,
    }[one.of]
    return f"{which} (F, {one.df} df) · {_called(one)}"


def _called(one: Counted) -> str:
    return f"{number(one.called)} of {number(one.tested)} features at q ≤ 0.05"


def _effect_rows(one: EffectResult, level: float, shown: int) -> tuple[list[str], list[list[str]]]:
    header = ["feature", "effect", f"{number(100 * level)} % interval", "t", "p", "q"]
    rows = [
        [
            row.feature,
            estimate(row.effect),
            span(row.effect.low, row.effect.high),
            number(row.t),
            number(row.p_value, 2),
            number(row.q_value, 2),
        ]
        for row in one.top[:shown]
    ]
    return header, rows


def _f_rows(one: FactorResult, shown: int) -> tuple[list[str], list[list[str]]]:
    header = ["feature", "F", "p", "q"]
    rows = [
        [row.feature, number(row.f), number(row.p_value, 2), number(row.q_value, 2)]
        for row in one.top[:shown]
    ]
    return header, rows


def headlines(result: ContrastTestsResult) -> list[str]:
    """Say for each test how many features are called."""
    whole = [f"{one.factor} (F): {_called(one)}" for one in result.factors]
    return whole + [f"{one.contrast}: {_called(one)}" for one in result.effects]


def price_rows(result: ContrastTestsResult) -> list[list[str]]:
    """Give the price of the batches for each test, and that of forgetting them."""
    rows = [[f"{one.factor} (F)", "–", "–", *_counts(one)] for one in result.factors]
    for one in result.effects:
        rows.append([one.contrast, f"{one.r2_with_batch:.3f}", number(one.vif), *_counts(one)])
    # That rate takes rows as independent.
    return rows if result.blocks is None else [[*row[:-1], "–"] for row in rows]


def feature_tables(
    result: ContrastTestsResult,
) -> list[tuple[str, list[tuple[str, str]], list[list[str]]]]:
    """Give caption, columns and rows of the first features of each test."""
    shown = _SHOWN if len(result.effects) <= _MANY else _SHOWN_OF_MANY
    tables = []
    for one in result.factors:
        header, rows = _f_rows(one, shown)
        tables.append((f"{one.factor} (F)", headings(header), rows))
    for effect in result.effects:
        header, rows = _effect_rows(effect, result.level, shown)
        tables.append((effect.contrast, headings(header), rows))
    return tables


def _counts(one: Counted) -> list[str]:
    return [number(one.called), number(one.tested), percent(one.plain_false_positive_rate)]
