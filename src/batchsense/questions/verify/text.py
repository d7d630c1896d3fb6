"""The verdict on a plan in plain words: first the answer, then the table behind it."""

from __future__ import annotations

from collections.abc import Iterator

from batchsense.questions.answer import Tabulate
from batchsense.questions.verify.result import SweptSizeResult, VerifyResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope, Note
from batchsense.reports.wording import number, percent, seconds, span, with_interval

# The search tries half, once and twice the rate of the plan: a step of it is a finding.
_ODD_RATE = 2.0
# Root mean square of log steps; by judgement, not measured.
_BAD_FIT = 0.15
# By judgement: training time forgives smaller errors of the critical batch size.
_OFF = 2.0


def verify_text(envelope: Envelope[VerifyResult], table: Tabulate) -> str:
    """Write the verdict for people."""
    result = envelope.answer()
    parts = [
        prose(verdict_sentence(result)),
        prose(_law(result)),
        f"Training to a loss of {number(result.target_loss)} from the same weights:",
        table(*_sizes(result)),
        *(prose(note.message, "- ") for note in envelope.notes),
    ]
    return "\n\n".join(parts)


def verdict_sentence(result: VerifyResult) -> str:
    """Say the answer in one or two sentences."""
    advised = f"{result.batch_size:,} examples"
    if result.regret.estimate is None:
        return (
            f"The advice of {advised} is refuted: training with it did not reach a loss of "
            f"{number(result.target_loss)}, and with others it did."
            if result.verdict == "refuted"
            else f"Training with the advised {advised} did not reach the target within the budget."
        )
    reached = f"the {sum(size.reached for size in result.sizes)} sizes that reached the loss"
    longer = (
        f"it takes {percent(result.regret.estimate)} longer than the fastest of {reached}"
        if result.regret.estimate > 0
        else f"it is the fastest of {reached}"
    )
    loss = (
        f"{longer} ({number(100 * result.regret.level)} % interval of the time lost "
        f"{span(result.regret.low, result.regret.high, 2, 100)} %), and "
        f"{percent(result.allowed_regret)} is allowed"
    )
    if result.verdict == "confirmed":
        return f"The advice of {advised} holds: {loss}."
    if result.verdict == "refuted":
        return (
            f"The advice of {advised} is refuted: {loss}. "
            f"{result.fastest:,} examples were the fastest."
        )
    return f"The advice of {advised} is not refuted, but not confirmed either: {loss}."


def verify_notes(result: VerifyResult, closest_target: bool = True) -> Iterator[Note]:
    """Say what the reader of a verdict must know."""
    if not result.complete:
        yield Note(
            code="budget_spent",
            message=f"The budget of {number(result.budget_seconds)} seconds ended before all "
            "runs were made. What was done is kept: the same command goes on from there.",
        )
    advised = next((s for s in result.sizes if s.batch_size == result.batch_size), None)
    factor = None if advised is None else advised.learning_rate_multiplier
    if factor is not None and max(factor, 1 / factor) >= _ODD_RATE:
        yield Note(
            code="learning_rate_off",
            message=f"At the advised size the fastest learning rate was {number(factor)} times "
            "the one that the plan gives. Noise depends on the learning rate: plan again with "
            "the better one.",
        )
    ratio, lost = result.ratio_to_plan, result.regret.estimate
    forgiven = lost is not None and lost <= result.allowed_regret
    if ratio.high is not None and (ratio.high < 1 / _OFF or (ratio.low or 0.0) > _OFF):
        yield Note(
            code="critical_batch_size_off",
            message=f"The sweep puts the critical batch size at {number(ratio.estimate)} times "
            "that of the plan."
            + (
                " Training time forgives much of that, as the regret shows; other uses of the "
                "number do not."
                if forgiven
                else ""
            ),
        )
    missed = [size.batch_size for size in result.sizes if not size.reached]
    if missed:
        yield Note(
            code="target_not_reached",
            message=f"No learning rate tried{'' if result.complete else ' so far'} reached the "
            f"target at {', '.join(f'{size:,}' for size in missed)} examples.",
            where=[str(size) for size in missed],
        )
    if result.misfit > _BAD_FIT:
        yield Note(
            code="law_misfit",
            message=f"Steps miss the law S_min (1 + B_crit/B) by {percent(result.misfit)} "
            "(root mean square), so read its two numbers with care; the regret does not "
            "depend on it.",
        )
    if not closest_target:
        yield Note(
            code="other_target_loss",
            message="The target loss is yours, not the plan's: the critical batch size grows "
            "as the loss falls, so the two are not the same question.",
        )


def _law(result: VerifyResult) -> str:
    planned = result.planned_critical_batch_size
    swept, steps = result.critical_batch_size, result.minimum_steps
    unresolved = "" if swept.resolved else ", which is not resolved"
    return (
        f"Critical batch size by the sweep: {with_interval(swept, ' examples', 2)}{unresolved}; "
        f"the plan has {with_interval(planned, '', 2)}. Least steps: "
        f"{with_interval(steps, '', 2)}."
    )


def _sizes(result: VerifyResult) -> tuple[list[str], list[list[str]]]:
    header = ["batch size", "steps", "learning rate", "step", "time", "relative", "remark"]
    return header, [_row(size, result) for size in result.sizes]


def _row(size: SweptSizeResult, result: VerifyResult) -> list[str]:
    remarks = []
    if size.batch_size == result.batch_size:
        remarks.append("advised")
    if size.batch_size == result.fastest:
        remarks.append("fastest")
    if not size.reached:
        remarks.append("target not reached")
    elif size.at_edge:
        remarks.append("learning rate at the edge of those tried")
    rate = size.learning_rate_multiplier
    return [
        f"{size.batch_size:,}",
        "–" if size.steps is None else f"{size.steps:,.0f}",
        "–" if rate is None else f"{number(rate)} × rule",
        seconds(size.seconds_per_step),
        seconds(size.seconds_to_target),
        "–" if size.relative_time is None else f"{size.relative_time:.2f}",
        ", ".join(remarks),
    ]
