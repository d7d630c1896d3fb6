"""When workers stop paying, in plain words."""

from __future__ import annotations

from batchsense.questions.answer import Tabulate
from batchsense.questions.workers.result import PredictionResult, StepResult, WorkersResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope, Estimate, Note
from batchsense.reports.wording import number, percent, seconds

#: From so many measured configurations on the intervals held what they promise.
_FIRM_FROM = 8


def workers_text(envelope: Envelope[WorkersResult], table: Tabulate) -> str:
    """Write the answer for people."""
    result = envelope.answer()
    parts = [prose(headline(result)), table(*prediction_rows(result))]
    if result.turning is not None:
        parts.append(prose(turning_sentence(result)))
    if len(result.predictions) > 1:
        parts.append(prose(comparison_sentence(result)))
    if result.levers:
        parts += [lever_caption(result) + ":", table(*lever_rows(result))]
    parts.append(prose(evidence_sentence(result)))
    if envelope.notes:
        notes = (prose(note.message, "- ") for note in envelope.notes)
        parts.append("\n".join(["What to keep in mind:", *notes]))
    return "\n\n".join(parts)


def headline(result: WorkersResult) -> str:
    """Say the answer first."""
    if len(result.predictions) == 1:
        one = result.predictions[0]
        ends = f"{seconds(one.seconds.low)} to {seconds(one.seconds.high)}"
        return (
            f"A step of {one.batch_size:,} examples with {_named(one)} takes "
            f"{seconds(one.seconds.estimate)} (80 % interval {ends})."
        )
    best, most = result.best, _most(result)
    asked = sorted({one.workers for one in result.predictions})
    held = {
        "batch_size": f" at {best.batch_size:,} examples a step",
        "micro_batch": f" at {best.micro_batch:,} examples a worker",
        "rows": "",
    }[result.held]
    goal = "a given loss soonest" if _aims(result) else "the most examples a second"
    surely = "" if result.best_certain else " by the estimates, though not for certain"
    if result.slower_for_certain:
        return (
            f"{most:,} workers are slower for certain than fewer{held}; {_named(best)} "
            f"reach{'es' if best.workers == 1 else ''} {goal}{surely}."
        )
    among = f"Of {asked[0]:,} to {most:,} workers, " if len(asked) > 1 else ""
    return f"{among}{_named(best)} reach{'es' if best.workers == 1 else ''} {goal}{held}{surely}."


def prediction_rows(result: WorkersResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the steps; what is the same in all of them is said in the headline."""
    header = ["nodes", "workers", "micro-batch", "batch size", "step", "80 % interval", "measured"]
    header += ["examples/s", "time to a loss", "doubts"]
    left_out = {"batch_size": ["batch size"], "micro_batch": ["micro-batch"], "rows": []}[
        result.held
    ]
    left_out += [] if _aims(result) else ["time to a loss"]
    rows = [dict(zip(header, _row(one), strict=True)) for one in result.predictions]
    kept = [name for name in header if name not in left_out]
    return kept, [[row[name] for name in kept] for row in rows]


def _row(one: PredictionResult) -> list[str]:
    passes = f" × {one.accumulation}" if one.accumulation > 1 else ""
    return [
        f"{one.nodes:,}",
        f"{one.workers:,}",
        f"{one.micro_batch:,}{passes}",
        f"{one.batch_size:,}",
        seconds(one.seconds.estimate),
        f"{seconds(one.seconds.low)} to {seconds(one.seconds.high)}",
        seconds(one.measured_seconds),
        number(one.examples_per_second),
        "–" if one.time_to_target is None else f"{one.time_to_target:.2f}",
        ", ".join(flag.replace("_", " ") for flag in one.flags) or "none",
    ]


def turning_sentence(result: WorkersResult) -> str:
    """Say where more workers stop paying."""
    turning = result.turning
    if turning is None:
        return ""
    found = turning.workers
    if found.high is None:
        start = f"at {number(found.low)} workers or more"
    elif found.low == found.high:
        start = f"at {number(found.estimate)} worker{'s' if found.estimate != 1 else ''}"
    else:
        ends = f"{number(found.low)} to {number(found.high)}"
        start = f"at {number(found.estimate)} workers (80 % interval {ends})"
    return (
        f"A step of {turning.batch_size:,} examples is shortest {start}; up to "
        f"{turning.searched:,} workers on the fewest nodes were searched."
    )


def comparison_sentence(result: WorkersResult) -> str:
    """Say from which number to which a step gets slower, faster, or that it is open."""
    steps = [one for one in result.comparisons if _neighbours(result, one.from_, one.to)]
    said = []
    for verdict in ("faster", "slower", "undecided"):
        found = [
            f"{one.from_.workers:,} to {one.to.workers:,}"
            for one in steps
            if one.verdict == verdict
        ]
        if found:
            said.append(f"{verdict} from {', '.join(dict.fromkeys(found))} workers")
    if len(result.predictions) == 1:
        return headline(result)
    if not said:
        return "No two of these steps have one batch size or one micro-batch to be compared at."
    return f"For the same number of examples: {'; '.join(said)}."


def lever_caption(result: WorkersResult) -> str:
    """Name the step that the levers belong to."""
    return f"What would change the time of {_most(result):,} workers"


def lever_rows(result: WorkersResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate what would help."""
    rows = [
        [
            f"{one.words} ({one.option})" if one.option else one.words,
            f"{one.batch_size:,}",
            seconds(one.seconds.estimate),
            f"{percent(one.ratio.estimate)} ({_percents(one.ratio)})",
        ]
        for one in result.levers
    ]
    return ["what", "batch size", "step", "time per example"], rows


def evidence_sentence(result: WorkersResult) -> str:
    """Say what the predictions rest on."""
    if _from_parts(result):
        return (
            f"From {result.measured_in_words}: local steps, buckets and their exchange were timed "
            "one by one, and a step is put together of them. Intervals come from the repeats, and "
            "from how well the parts explain the probe's own real steps."
        )
    forms = ", ".join(one.form for one in result.model)
    return (
        f"From {result.measured_in_words} that were measured, by {len(result.model)} forms of the "
        f"step time ({forms}). An interval holds what these disagree about, and what no form "
        "follows."
    )


def workers_notes(result: WorkersResult, needed: str | None) -> list[Note]:
    """What the numbers do not cover."""
    from batchsense.training.workers import FLAGS

    notes = []
    if result.measured < _FIRM_FROM and not _from_parts(result):
        notes.append(
            Note(
                code="preliminary",
                message=f"Preliminary: with {result.measured} measured configurations intervals "
                f"have held less often than they say; measure {_FIRM_FROM}.",
            )
        )
    flags = dict.fromkeys(flag for one in result.predictions for flag in one.flags)
    for flag in flags:
        where = [
            f"nodes={one.nodes} workers={one.workers} micro_batch={one.micro_batch}"
            for one in result.predictions
            if flag in one.flags
        ]
        message = f"{len(where)} of {len(result.predictions)} steps: {FLAGS.get(flag, flag)}."
        notes.append(Note(code=flag, message=message, where=where))
    if needed is not None:
        notes.append(Note(code="measure", message=f"To make them firm, measure {needed}."))
    if any(one.name in ("accumulation", "larger_micro_batch") for one in result.levers):
        notes.append(
            Note(
                code="larger_batch_size",
                message="Levers that enlarge the batch size need fewer steps only while it is "
                "below the critical batch size; ask batchsense noise, and give --noise-scale.",
            )
        )
    return notes


def _from_parts(result: WorkersResult) -> bool:
    """Whether a probe was asked, not a table."""
    return [one.form for one in result.model] == ["white_box"]


def _neighbours(result: WorkersResult, one: StepResult, other: StepResult) -> bool:
    """Whether the two stand next to each other among the numbers of workers asked about."""
    counts = sorted({each.workers for each in result.predictions})
    return counts.index(other.workers) - counts.index(one.workers) == 1


def _named(one: StepResult) -> str:
    workers = f"{one.workers:,} worker{'s' if one.workers > 1 else ''}"
    return f"{workers} on {one.nodes:,} node{'s' if one.nodes > 1 else ''}"


def _most(result: WorkersResult) -> int:
    return max(one.workers for one in result.predictions)


def _aims(result: WorkersResult) -> bool:
    return result.predictions[0].time_to_target is not None


def _percents(ratio: Estimate) -> str:
    return f"{percent(ratio.low)} to {percent(ratio.high)}"
