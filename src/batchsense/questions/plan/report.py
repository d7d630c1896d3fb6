"""The page of ``batchsense plan``, and what its figures say."""

from __future__ import annotations

from batchsense.questions.plan.result import PlanResult
from batchsense.questions.plan.text import (
    advice,
    binding,
    price,
    remarks,
    stream_sentence,
    workers_rows,
    workers_sentence,
)
from batchsense.reports.envelope import Envelope, Estimate
from batchsense.reports.figures.intervals import Row, draw_sizes
from batchsense.reports.figures.laws import draw_step_time
from batchsense.reports.figures.training.tradeoff import Choice, draw_tradeoff
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number, percent, seconds, span


def plan_report(envelope: Envelope[PlanResult], command_line: str | None = None) -> str:
    """The page of a plan."""
    result = envelope.answer()
    pictures = plan_pictures(result)
    found = result.workers
    return render(
        __file__,
        envelope,
        command_line,
        pictures=pictures,
        advice=advice(result),
        binding=binding(result),
        remarks=remarks,
        price=price(result),
        stream=stream_sentence(result),
        workers=None if found is None else (workers_sentence(found), *workers_rows(found)),
    )


def plan_pictures(result: PlanResult) -> dict[str, Picture]:
    """Draw the figures of a plan."""
    pictures = {"sizes": _sizes(result), "step_time": _step_time(result)}
    choices = [
        Choice(
            row.batch_size,
            row.relative_time.estimate,
            row.relative_examples.estimate,
            _ends(row.relative_time),
        )
        for row in result.pareto
        if row.relative_time.estimate is not None and row.relative_examples.estimate is not None
    ]
    if len(choices) > 1:
        pictures["tradeoff"] = _tradeoff(result, choices)
    return pictures


def _tradeoff(result: PlanResult, choices: list[Choice]) -> Picture:
    finding = (
        "Each point is a batch size. Further left fewer examples are spent, further down training "
        "is over sooner; no batch size has the best of both."
    )
    mine = next((c for c in choices if c.batch_size == result.batch_size), None)
    if mine is not None:
        finding += (
            f" The advised {result.batch_size:,} takes {mine.time:.2f} times the least time "
            f"and {mine.examples:.2f} times the fewest examples."
        )
    return Picture.of(
        draw_tradeoff(choices, result.batch_size),
        "tradeoff",
        "Training time against examples spent",
        finding,
    )


def _sizes(result: PlanResult) -> Picture:
    rows = [
        Row.of("critical batch size", result.critical_batch_size),
        Row.of("overhead batch size", result.step_time.overhead_batch_size),
        Row.of("fastest, not rounded", result.optimum),
    ]
    ends = span(result.critical_batch_size.low, result.critical_batch_size.high, 2)
    low, middle, high = (row.estimate or 0.0 for row in (rows[0], rows[2], rows[1]))
    between = min(low, high) <= middle <= max(low, high)
    finding = (
        f"The critical batch size lies at {_about(result.critical_batch_size)} examples "
        f"(95 % interval {ends}). At the overhead batch size the fixed part of a step costs "
        f"as much as its examples. {'The fastest size lies between the two; l' if between else 'L'}"
        f"imits and rounding give {result.batch_size:,}."
    )
    ax = draw_sizes(rows, result.batch_size, result.batch_size_today)
    return Picture.of(ax, "sizes", "The batch sizes that decide", finding)


def _step_time(result: PlanResult) -> Picture:
    timed = result.step_time
    finding = (
        f"A step takes {seconds(timed.c0_seconds)} however small it is, and "
        f"{seconds(timed.c1_seconds_per_example)} more for every example. The points are the "
        f"lower quartiles of {timed.rounds} readings; the line misses them by "
        f"{percent(timed.misfit)} at most."
    )
    ax = draw_step_time(
        timed.batch_sizes, timed.typical_seconds, timed.c0_seconds, timed.c1_seconds_per_example
    )
    return Picture.of(ax, "step-time", "Time of a training step", finding)


def _ends(value: Estimate) -> tuple[float, float] | None:
    if value.low is None or value.high is None:
        return None
    return value.low, value.high


def _about(value: Estimate) -> str:
    return "an unknown number of" if value.estimate is None else number(value.estimate, 2)
