"""The page that ``batchsense gap`` prints, and the sentences that its report shares."""

from __future__ import annotations

from batchsense.errors import listed
from batchsense.questions.entangled import note_lines
from batchsense.questions.gap.result import GapResult, WayResult
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.envelope import Envelope, Estimate
from batchsense.reports.wording import estimate, number, percent, span, with_interval

#: What the models are called in a sentence, for classes and for numbers.
MODEL_NAMES = {
    ("nearest", "categorical"): "the nearest neighbour",
    ("nearest", "numeric"): "the mean of five neighbours",
    ("logistic", "categorical"): "logistic regression",
    ("ridge", "numeric"): "ridge regression",
    ("forest", "categorical"): "a random forest",
    ("forest", "numeric"): "a random forest",
}
#: What the corrections are called in a table.
WAY_NAMES = {"none": "not corrected", "linear": "linear", "combat": "ComBat"}


def gap_text(envelope: Envelope[GapResult], source: str) -> str:
    """Write a comparison as text."""
    result = envelope.answer()
    lines = [
        f"{source}: {number(result.specimens)} specimens, {number(result.features)} features.",
        paragraph(task_sentence(result)),
        "",
        paragraph(f"Verdict: {verdict_word(result)}. {verdict_sentence(result)}"),
    ]
    lines += [paragraph(sentence) for sentence in change_sentences(result)]
    lines += ["", f"{capital(result.measure)}, in brackets 95 % intervals over batches"]
    lines.append(columns(*way_rows(result)))
    lines.append(paragraph(guess_sentence(result)))
    lines += ["", f"{capital(result.measure)} of each {result.batch}, shuffled / left out"]
    lines.append(columns(*batch_rows(result)))
    lines += note_lines(envelope.notes)
    return "\n".join(lines)


def verdict_word(result: GapResult) -> str:
    """Name the verdict in one or two words."""
    return {"gap": "a gap", "no_gap_seen": "no gap seen", "cannot_tell": "cannot tell"}[
        result.verdict
    ]


def task_sentence(result: GapResult) -> str:
    """Say what was predicted by what, and how it was tested."""
    what = f"{len(result.classes)} classes" if result.classes else "a number"
    plain = result.ways[0]
    times = "once" if result.repeats == 1 else f"{number(result.repeats)} times"
    return (
        f"{MODEL_NAMES[result.model, result.kind].capitalize()} predicts {result.predicted} "
        f"({what}). {len(plain.by_batch)} batches ({result.batch}): each left out in turn, "
        f"against as many shuffled folds, drawn {times}."
        + (
            f" Either way no {result.block} is in training and predicted at once, so these are "
            f"errors on a new {result.block}."
            if result.block
            else ""
        )
    )


def verdict_sentence(result: GapResult) -> str:
    """Say what the numbers without correction mean."""
    plain = result.ways[0]
    both = (
        f"{_measured(result, plain.left_out)} on a {result.batch} that the model has not seen, "
        f"against {_measured(result, plain.shuffled)} on shuffled folds"
    )
    if result.verdict == "gap":
        if plain.ratio.estimate is None:
            return f"{capital(result.measure)} {both}."
        return (
            f"{capital(result.measure)} {both}: {with_interval(plain.ratio)} times as much. "
            "Shuffled folds promise what a new batch does not keep."
        )
    bounds = f"difference {_with_span(result, plain.difference)}"
    if result.verdict == "no_gap_seen":
        if plain.left_out.estimate == 0:
            return f"{capital(result.measure)} {both}: no error was seen in either way of testing."
        return (
            f"{capital(result.measure)} {both}; {bounds}. A gap as large as the shuffled error is "
            "excluded."
        )
    if result.withheld_for:
        return (
            f"{capital(result.measure)} {both}; {bounds}. Rows that share "
            f"{listed(result.withheld_for)} lie on both sides of the folds, so that no gap is "
            f"excluded for new ones; to tell would take {needed(result)}."
        )
    return (
        f"{capital(result.measure)} {both}; {bounds}. Not even a gap as large as the shuffled "
        f"error is excluded; to tell would take {needed(result)}."
    )


def needed(result: GapResult) -> str:
    """Say what would tell."""
    if result.withheld_for:
        return f"one row of each {listed(result.withheld_for)}, such as the mean of its rows"
    if result.batches_needed is None:
        return (
            "more than 1,000 batches like these, for the shuffled error is small beside how much "
            "they differ"
        )
    return f"about {number(result.batches_needed)} batches like these"


def change_sentences(result: GapResult) -> list[str]:
    """Say what each correction does to the batches left out."""
    sentences = []
    for way in result.ways:
        if way.change is None:
            continue
        low, high = way.change.low or 0.0, way.change.high or 0.0
        verdict = "helps" if high < 0 else "harms" if low > 0 else "makes no difference that shows"
        sentences.append(
            f"The {WAY_NAMES[way.correction]} correction inside the folds {verdict} on a new "
            f"{result.batch}: {_measured(result, way.left_out)}, a change of "
            f"{_with_span(result, way.change)}."
        )
    return sentences


def guess_sentence(result: GapResult) -> str:
    """Say what a model without any feature would do."""
    words = f"Guessing without any feature: {_measured(result, result.guess)}."
    if result.cramers_v is not None:
        words += (
            f" {result.predicted} goes with {result.batch} by Cramér's V = {result.cramers_v:.3f}."
        )
    return words


def way_rows(result: GapResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate both errors for every correction."""
    header = ["inside the folds", "shuffled", f"{result.batch} left out", "difference", "ratio"]
    header.append("worse on")
    return header, [_way_row(result, way) for way in result.ways]


def batch_rows(result: GapResult, most: int = 40) -> tuple[list[str], list[list[str]]]:
    """Tabulate the errors of every batch; at most so many, those with the largest gaps."""
    plain = result.ways[0].by_batch
    shown = chosen_batches(result, most)
    header = [result.batch if len(shown) == len(plain) else f"{result.batch} (largest gaps)"]
    header += ["specimens", *(WAY_NAMES[way.correction] for way in result.ways)]
    rows = []
    for k in shown:
        cells = [plain[k].batch_label, number(plain[k].specimens)]
        for way in result.ways:
            one = way.by_batch[k]
            cells.append(f"{_one(result, one.shuffled)} / {_one(result, one.left_out)}")
        rows.append(cells)
    return header, rows


def chosen_batches(result: GapResult, most: int) -> list[int]:
    """Give the places of at most so many batches, those with the largest gaps, in their order."""
    plain = result.ways[0].by_batch
    gaps = sorted(range(len(plain)), key=lambda k: plain[k].shuffled - plain[k].left_out)
    return sorted(gaps[:most])


def capital(words: str) -> str:
    """Begin a sentence."""
    return words[:1].upper() + words[1:]


def _way_row(result: GapResult, way: WayResult) -> list[str]:
    points = _points(result, way.difference)
    cells = [WAY_NAMES[way.correction], _cell(result, way.shuffled), _cell(result, way.left_out)]
    cells.append(
        f"{estimate(way.difference, scale=_scale(result))}{points} "
        f"({span(way.difference.low, way.difference.high, scale=_scale(result))})"
    )
    if way.ratio.estimate is None:
        cells.append("–")
    else:
        cells.append(f"{estimate(way.ratio)} ({span(way.ratio.low, way.ratio.high)})")
    return [*cells, f"{way.batches_worse} of {len(way.by_batch)}"]


def _scale(result: GapResult) -> float:
    return 100.0 if result.measure == "error rate" else 1.0


def _measured(result: GapResult, value: Estimate) -> str:
    unit = " %" if result.measure == "error rate" else ""
    return estimate(value, scale=_scale(result)) + unit


def _cell(result: GapResult, value: Estimate) -> str:
    """Write an error and its interval for a table."""
    return f"{_measured(result, value)} ({span(value.low, value.high, scale=_scale(result))})"


def _with_span(result: GapResult, value: Estimate) -> str:
    return with_interval(value, _points(result, value), scale=_scale(result))


def _points(result: GapResult, value: Estimate) -> str:
    if result.measure != "error rate":
        return ""
    one = estimate(value, scale=_scale(result)).lstrip("−") == "1"
    return " point" if one else " points"


def _one(result: GapResult, value: float) -> str:
    return percent(value) if result.measure == "error rate" else number(value)
