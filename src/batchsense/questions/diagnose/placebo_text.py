"""What usual pipelines make of pure noise on the user's sheet, as text."""

from __future__ import annotations

from batchsense.questions.diagnose.placebo_result import FactorPlaceboResult, PlaceboResult
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.wording import estimate, number, span, with_interval

#: What is done before a test that leaves the batches out of its model.
BEFORE = {"uncorrected": "no correction", "linear": "linear removal", "combat": "ComBat"}


def placebo_lines(found: PlaceboResult, batch_name: str) -> list[str]:
    """Lay out what each pipeline makes of noise, one row for each kept factor and pipeline."""
    lines = [
        paragraph(f"Placebo: {introduction(found)}"),
        columns(*placebo_rows(found, batch_name)),
        *(paragraph(remark) for remark in remarks(found, batch_name)),
    ]
    sentence = headline(found, batch_name)
    return [*lines, paragraph(sentence)] if sentence else lines


def introduction(found: PlaceboResult) -> str:
    """Say what the noise is."""
    text = (
        f"{number(found.features)} features of pure noise on this sheet; whatever is called is "
        "false. "
    )
    if found.shift_sd is None:
        return text + f"{found.shift_reason[:1].upper()}{found.shift_reason[1:]}."
    if found.shift_sd == 0:
        return text + f"The noise has no shifts between batches: {found.shift_reason}."
    return text + (
        f"Its shifts between batches have a standard deviation of {number(found.shift_sd)} times "
        f"that within: {found.shift_reason}."
    )


def placebo_rows(found: PlaceboResult, batch_name: str) -> tuple[list[str], list[list[str]]]:
    """Give the header and the rows of the table: one for each kept factor and pipeline."""
    level = f"{found.alpha:g}"
    header = ["kept", "what is done", f"p ≤ {level} (95 % interval)", f"called (q ≤ {level})"]
    rows = [
        [one.factor, _way(one, batch_name), share(one), number(one.called)]
        for one in found.outcomes
    ]
    return header, rows


def _way(one: FactorPlaceboResult, batch_name: str) -> str:
    if one.pipeline == "model":
        return f"{one.test} test with {batch_name} in the model"
    then = "" if one.pipeline == "uncorrected" else "then "
    return f"{BEFORE[one.pipeline]}, {then}{one.test} test without {batch_name}"


def share(one: FactorPlaceboResult) -> str:
    """Write the share of noise with small p, or that there is none."""
    if one.rate.estimate is None:
        return (one.rate.reason or "").partition(":")[0]
    ends = span(one.rate.low, one.rate.high, scale=100)
    return f"{estimate(one.rate, scale=100)} % ({ends})"


def remarks(found: PlaceboResult, batch_name: str) -> list[str]:
    """Say where a test covers a part of the factor only."""
    return [
        f"{one.factor}, {_way(one, batch_name)}: {one.rate.reason}."
        for one in found.outcomes
        if one.rate.estimate is not None and one.rate.reason is not None
    ]


def headline(found: PlaceboResult, batch_name: str) -> str:
    """Say in a sentence what the worst pipeline would call, beside the batches in the model."""
    run = [one for one in found.outcomes if one.rate.estimate is not None]
    others = [one for one in run if one.pipeline != "model"]
    if not others:
        return ""
    clear = [one for one in others if (one.rate.low or 0.0) > found.alpha]
    if not clear:
        return (
            f"None of the ways without {batch_name} in the model calls clearly more noise than the "
            f"{100 * found.alpha:g} % that it may."
        )
    worst = max(clear, key=lambda one: one.rate.estimate or 0.0)
    article = "An F" if worst.test == "F" else "A t"
    corrected = worst.pipeline != "uncorrected"
    when = f"after {BEFORE[worst.pipeline]}" if corrected else f"without {batch_name}"
    text = (
        f"{article} test of {worst.factor} {when} would call {number(worst.called)} of the "
        f"{number(found.features)}; its false-positive rate at {found.alpha:g} is "
        f"{with_interval(worst.rate, ' %', scale=100)}."
    )
    for one in run:
        if one.pipeline == "model" and one.factor == worst.factor:
            text += (
                f" With {batch_name} in the model it would call {number(one.called)}, and the rate "
                f"is {with_interval(one.rate, ' %', scale=100)}."
            )
    return text
