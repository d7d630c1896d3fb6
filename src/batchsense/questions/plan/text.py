"""The plan in plain words, on one page, for readers who have never heard of noise scale."""

from __future__ import annotations

from collections.abc import Sequence

from batchsense.questions.answer import Tabulate
from batchsense.questions.plan.result import (
    PlanResult,
    TradeOffResult,
    WorkersChoiceResult,
    WorkersResult,
)
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Estimate
from batchsense.reports.wording import number, percent, ratio, seconds, size, span, with_interval

#: Training time within this of the least is as good: the noise scale is seldom known better.
_AS_GOOD = 1.05


def plan_text(result: PlanResult, table: Tabulate) -> str:
    """Write the plan for people."""
    parts = [
        prose(advice(result)),
        _reasons(result),
        _why(result),
        "What other batch sizes cost (1 = the least possible; 95 % intervals):",
        table(*_choices(result)),
        _learning_rate(result),
        _memory(result),
    ]
    if result.workers is not None:
        parts += [prose(workers_sentence(result.workers)), table(*workers_rows(result.workers))]
    if result.tolerance:
        parts += ["Least batch size for the tolerance, by what is promised:"]
        parts += [table(*_promises(result))]
    parts += ["What this is unsure of, first what may move the advice most:"]
    parts += [prose(doubt.message, "- ") for doubt in result.doubts]
    return "\n".join(_spaced(parts))


def advice(result: PlanResult) -> str:
    """Say in one sentence what to do, and what it would gain over today."""
    today, size, rule = result.batch_size_today, result.batch_size, result.learning_rate_rule
    now = "" if today is None else f" (today: {today:,})"
    loader = ", with drop_last=True" if result.drop_last else ""
    rate = ""
    if rule is not None and result.learning_rate is not None and size != today:
        rate = f", learning rate {number(result.learning_rate)}"
        if rule.rule == "unchanged":
            rate = ", with a learning rate searched anew"
    return (
        f"Recommended batch size for {result.target}: {size:,} examples{now}{loader}{rate}; "
        f"{_gain(result)}."
    )


def _gain(result: PlanResult) -> str:
    """Compare the time of the advice with that of today."""
    rows = {row.batch_size: row for row in result.pareto}
    mine = rows[result.batch_size].relative_time
    level = f"{number(100 * mine.level)} % interval "
    said = f"training takes {_times_least(mine, level)} the least time"
    today = rows.get(result.batch_size_today or 0)
    if today is None or today.batch_size == result.batch_size:
        return said
    theirs = today.relative_time
    said += f", today's size {_times_least(theirs)}"
    if theirs.high is not None and theirs.high <= _AS_GOOD and result.binding != "precision":
        return f"{said}, which is as good"
    overlap = theirs.low is None or mine.high is None or theirs.low <= mine.high
    asked = result.binding in ("precision", "minimum")
    return f"{said}; the intervals overlap" if overlap and not asked else said


def _times_least(time: Estimate, level: str = "") -> str:
    return f"{ratio(time.estimate)} times ({level}{ratio(time.low)} to {ratio(time.high)})"


def binding(result: PlanResult) -> str:
    """Say what keeps the batch size where it is."""
    critical = _about(result.critical_batch_size)
    overhead = _about(result.step_time.overhead_batch_size)
    return {
        "noise": f"noise: beyond the critical batch size, {critical} examples, more of them hardly "
        "improve a step",
        "overhead": f"overhead: beyond {overhead} examples, where the fixed part of a step is as "
        "long as the rest, larger minibatches save little time per example",
        "memory": "memory: a larger minibatch would be faster, but does not fit",
        "data": "data: a larger minibatch would be faster, but there are no more examples",
        "maximum": "your maximum: a larger minibatch would be faster",
        "precision": "precision: the tolerance asks for more examples than speed does",
        "minimum": "the minimum (yours, or 2 with BatchNorm): a smaller minibatch would be faster",
    }[result.binding]


def _reasons(result: PlanResult) -> str:
    ends = span(result.optimum.low, result.optimum.high, 2)
    lines = [
        f"Fastest by the measurements: {_about(result.optimum)} examples "
        f"(95 % interval {ends}), before limits and rounding.",
        f"What decides: {binding(result)}.",
    ]
    stream = [] if result.stream is None else [stream_sentence(result)]  # whole, to be searched
    return "\n".join([*stream, *map(prose, lines)])


def stream_sentence(result: PlanResult) -> str:
    """Say how many rows of the stream are worth the advice."""
    stream = result.stream
    if stream is None:
        return ""
    return (
        f"From {stream.file} take {stream.batch_size:,} rows, which are worth "
        f"{stream.independent:,} independent ones (design effect "
        f"{number(stream.design_effect)})."
    )


def _why(result: PlanResult) -> str:
    critical, timed = result.critical_batch_size, result.step_time
    resolved = "" if critical.resolved else " This is not resolved yet; see below."
    noise = (
        "Noise. Each example gives its own opinion on how to change the model; a minibatch "
        "averages them. The critical batch size is where the disagreement left in the average is "
        "as strong as what the examples agree on: with much smaller minibatches steps wander, "
        "with much larger ones examples are spent on an average that is good enough already. "
        f"Measured here: {with_interval(critical, ' examples', 2)}, in a run of "
        f"{result.run.steps} steps of {result.run.batch_size} examples in which the loss went "
        f"from {number(result.run.initial_loss)} to {number(result.run.final_loss)}.{resolved}"
    )
    overhead = (
        f"Overhead. A step takes {seconds(timed.c0_seconds)} "
        f"({_times(timed.fixed)}) however small it is, and "
        f"{seconds(timed.c1_seconds_per_example)} ({_times(timed.per_example)}) more for each "
        "example. The fixed part outweighs the examples below "
        f"{_about(timed.overhead_batch_size)} examples."
    )
    excess = (
        "Together. Training takes (number of steps) × (time of a step); the two pull in opposite "
        f"directions. {price(result)}"
    )
    return "\n".join(prose(text) for text in (noise, overhead, excess))


def price(result: PlanResult) -> str:
    """Say what the advice costs: against what the limits allow, and what a limit itself costs.

    The second is the row of the table.
    """
    row = next(row for row in result.pareto if row.batch_size == result.batch_size)
    within = (
        "Over all values inside the intervals, this choice takes at most "
        f"{percent(result.worst_excess)} more time than the best one"
    )
    limit = {
        "precision": "the tolerance",
        "minimum": "the minimum",
        "maximum": "your maximum",
    }.get(result.binding)
    if limit is None:
        return f"{within} within the limits."
    times = row.relative_time
    return (
        f"{within} that {limit} allows; {limit} itself makes it {number(times.estimate)} times "
        f"(95 % interval {span(times.low, times.high)}) the least time that memory and data allow."
    )


def _choices(result: PlanResult) -> tuple[list[str], list[list[str]]]:
    header = ["batch size", "training time", "interval", "examples spent", "interval", "remark"]
    rows = []
    for row in result.pareto:
        time, spent = row.relative_time, row.relative_examples
        remark = remarks(row, result)
        rows.append(
            [
                f"{row.batch_size:,}",
                f"{time.estimate:.2f}" if time.estimate is not None else "–",
                _between(time),
                f"{spent.estimate:.2f}" if spent.estimate is not None else "–",
                _between(spent),
                ", ".join(remark),
            ]
        )
    return header, rows


def remarks(row: TradeOffResult, result: PlanResult) -> list[str]:
    """Name a row of the table; what is asked for at a price is not blamed for it."""
    said = ["today"] if row.batch_size == result.batch_size_today else []
    if row.batch_size == result.batch_size:
        asked = {"precision": " for the tolerance", "minimum": " for the minimum"}
        return [*said, f"recommended{asked.get(result.binding, '')}"]
    return [*said, *(() if row.efficient else ["slower and dearer than a smaller one"])]


def workers_sentence(found: WorkersResult) -> str:
    """Say how many workers to take for what."""
    sizes = {one.workers: one.batch_size for one in found.choices}

    def shown(workers: int) -> str:
        return f"{workers} worker{'s'[: workers > 1]} with {sizes[workers]:,} examples a step"

    advice = (
        f"For time: {shown(found.fastest)}. For cost: {shown(found.cheapest)}. Between, with the "
        f"least product of both: {shown(found.knee)}."
    )
    if found.fastest == found.cheapest == found.knee:
        advice = f"{shown(found.fastest)} takes the least time and costs the least."
    return f"Workers. {advice} Predicted from {found.network}; 80 % intervals:"


def workers_rows(found: WorkersResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the choices, each with the price of the workers added."""
    header = ["workers", "batch size", "step", "training time", "cost", "price of the added"]
    rows = [
        [
            str(one.workers),
            f"{one.batch_size:,}",
            seconds(one.step_seconds.estimate),
            f"{one.relative_time.estimate:.2f} ({_between(one.relative_time)})",
            f"{one.relative_cost.estimate:.2f} ({_between(one.relative_cost)})",
            _price_of_more(one),
        ]
        for one in found.choices
    ]
    return header, rows


def _price_of_more(one: WorkersChoiceResult) -> str:
    """The time that added workers save, and what they cost."""
    saved, paid = one.saved, one.paid
    if saved is None or paid is None or saved.estimate is None or paid.estimate is None:
        return ""
    if saved.low is None or saved.high is None or saved.high <= 0:
        return f"slower, and {percent(paid.estimate)} dearer"
    end = "" if saved.low > 0 else ", or none"
    return f"{percent(max(saved.estimate, 0.0))} less time{end}, {percent(paid.estimate)} more cost"


def _promises(result: PlanResult) -> tuple[list[str], list[list[str]]]:
    names = {"mean_square": "on average", "chebyshev": "Chebyshev"}
    rows = [
        [
            names.get(rung.guarantee, rung.guarantee),
            "none" if rung.batch_size is None else f"{rung.batch_size:,}",
            rung.assumes if rung.needed is None else f"{rung.assumes}; needed: {rung.needed}",
        ]
        for rung in result.tolerance
    ]
    return ["promise", "batch size", "what it assumes"], rows


def _learning_rate(result: PlanResult) -> str:
    rule = result.learning_rate_rule
    if rule is None or result.learning_rate is None:
        return "Learning rate: not given; see below."
    if rule.from_batch_size == rule.to_batch_size:
        return f"Learning rate: keep {number(result.learning_rate)}; the batch size stays."
    if rule.rule == "unchanged":
        return f"Learning rate: search anew; {rule.validity}."
    others = [
        f"{name} {number(value, 4)}"
        for name, value in (
            ("β₂", rule.beta2), ("ε", rule.epsilon), ("weight decay", rule.weight_decay)
        )
        if value is not None
    ]  # fmt: skip
    with_it = f" with {', '.join(others)}" if others else ""
    return prose(
        f"Learning rate: {number(result.learning_rate)}{with_it} for {rule.to_batch_size:,} "
        f"examples, if today's suits {rule.from_batch_size:,} (times {number(rule.factor)}; "
        f"{rule.rule.replace('_', ' ')} rule: {rule.validity})."
    )


def _memory(result: PlanResult) -> str:
    memory = result.memory
    if memory.peak_bytes is None:
        return "Memory: unknown; see below."
    text = f"Memory: a step of {result.batch_size:,} examples takes {size(memory.peak_bytes)}"
    if memory.checked_error is not None:
        text += f" (checked at {memory.checked_batch_size}: {percent(memory.checked_error)} off)"
    if memory.max_batch_size is None:
        return prose(f"{text}; {memory.source}.")
    return prose(
        f"{text}; up to {memory.max_batch_size:,} examples fit, with margin, into {memory.source}."
    )


def _times(value: Estimate) -> str:
    return f"{seconds(value.low)} to {seconds(value.high)}"


def _about(value: Estimate) -> str:
    return "any number of" if value.estimate is None else number(value.estimate, 2)


def _between(value: Estimate) -> str:
    high = "∞" if value.high is None else f"{value.high:.2f}"
    return f"{value.low:.2f}–{high}" if value.low is not None else "–"


def _spaced(parts: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for part in parts:
        if lines and not part.startswith("- "):
            lines.append("")
        lines.append(part)
    return lines
