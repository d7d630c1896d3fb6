"""A probe in plain words."""

from __future__ import annotations

import math

import numpy as np

from batchsense.machine_memory import format_bytes
from batchsense.questions.answer import Tabulate
from batchsense.questions.probe.result import LinkResult, ProbeResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope, Note
from batchsense.reports.wording import number, percent, seconds

#: Real steps farther than this from what the parts predict are told as a fault of the probe.
_FAR_OFF = 0.2
#: Local steps of all at once over those of one alone, from which it is told.
_DISTURBED = 1.15


def probe_text(envelope: Envelope[ProbeResult], table: Tabulate) -> str:
    """Write the probe for people."""
    result = envelope.answer()
    parts = [prose(headline(result)), prose(_compute(result)), prose(_gradients(result))]
    if result.allreduce:
        parts += ["Sums over all workers of a group, back to back:", table(*_exchange_rows(result))]
        parts += [prose(_links(result)), "Real steps, and what the parts predict of them:"]
        parts.append(table(*_step_rows(result)))
    notes = "\n".join(prose(note.message, "- ") for note in envelope.notes)
    return "\n\n".join([*parts, *(["What to keep in mind:\n" + notes] if notes else [])])


def headline(result: ProbeResult) -> str:
    """Say what was probed."""
    if result.workers == 1:
        return f"Probe of {result.target}: one worker, so nothing of an exchange."
    over = f" over {result.interface}" if result.interface else ""
    machines = "1 machine" if result.nodes == 1 else f"{result.nodes} machines"
    return (
        f"Probe of {result.target}: {result.workers} workers on {machines}, {result.backend}{over}."
    )


def _compute(result: ProbeResult) -> str:
    said = []
    for law in result.local_step:
        who = "one worker alone" if law.workers == 1 else f"each of {law.workers} at once"
        said.append(
            f"{seconds(law.fixed.estimate)} and {seconds(law.per_example.estimate)} an example for "
            f"{who}"
        )
    sizes = sorted({row.micro_batch for row in result.compute})
    return (
        f"A local step takes {'; '.join(said)} (from micro-batches of "
        f"{' and '.join(map(str, sizes))})."
    )


def _gradients(result: ProbeResult) -> str:
    total = format_bytes(sum(bucket.bytes for bucket in result.buckets))
    shown = [
        f"{format_bytes(bucket.bytes)} after {percent(bucket.ready)}" for bucket in result.buckets
    ]
    more = f" and {len(shown) - 4} more" if len(shown) > 5 else ""
    return (
        f"Gradients take {total}, sent in {len(shown)} bucket{'s'[: len(shown) > 1]}: "
        f"{', '.join(shown[:4] if more else shown)}{more} of the backward pass."
    )


def _exchange_rows(result: ProbeResult) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            format_bytes(one.bytes),
            str(one.workers),
            seconds(float(np.median(one.seconds))),
            f"{seconds(min(one.seconds))} to {seconds(max(one.seconds))}",
            str(len(one.seconds)),
        ]
        for one in result.allreduce
    ]
    return ["message", "workers", "median", "range", "repeats"], rows


def _links(result: ProbeResult) -> str:
    if len(result.links) == 1:
        return f"The link is {_link(result.links[0])}."
    return (
        f"The link may be {' or '.join(_link(link) for link in result.links)}: "
        "the readings do not tell which."
    )


def _link(link: LinkResult) -> str:
    meaning = {
        "switched": "switched (each worker has its own rate)",
        "shared": "shared (all traffic crosses one medium)",
    }[link.kind]
    rate = link.bytes_per_second.estimate
    told = "no rate that could be told" if rate is None else f"{number(rate * 8e-6)} Mbit/s"
    return f"{meaning} with {told} and {seconds(link.round_seconds.estimate)} a round"


def _step_rows(result: ProbeResult) -> tuple[list[str], list[list[str]]]:
    rows = []
    for step in result.steps:
        measured = float(np.median(step.seconds))
        rows.append(
            [
                str(step.workers),
                str(step.micro_batch),
                seconds(measured),
                seconds(step.predicted_seconds),
                f"{step.predicted_seconds / measured - 1:+.1%}",
            ]
        )
    return ["workers", "micro-batch", "measured", "predicted", "error"], rows


def probe_notes(result: ProbeResult) -> list[Note]:
    """What the numbers do not cover, and what comes next."""
    notes = []

    def note(code: str, message: str) -> None:
        notes.append(Note(code=code, message=message))

    start = f"-m batchsense probe {result.target} -o probe.json"
    if result.workers == 1:
        note(
            "no_exchange",
            f"Start it under torchrun to measure the exchange: torchrun --nproc_per_node 4 {start} "
            "(on several machines: torchrun --nnodes N --node_rank I --master_addr ADDRESS ...).",
        )
    elif len(result.links) > 1:
        why = (
            "One number of workers fits a switched and a shared link alike"
            if len({one.workers for one in result.allreduce}) == 1
            else "The time of a message grows with the workers as on neither kind of link"
        )
        note(
            "link_class_unknown",
            f"{why}; for other numbers of workers the two predict up to twofold different steps, "
            "and answers reach over both. A probe with 4 workers usually tells them apart.",
        )
    off = max(
        (abs(math.log(np.median(s.seconds) / s.predicted_seconds)) for s in result.steps), default=0
    )
    if off > _FAR_OFF:
        note(
            "parts_miss_steps",
            f"Real steps differ by up to {percent(math.expm1(off))} from what the parts predict; "
            "every interval is widened by as much. Something else takes time: other programs, "
            "forward hooks, buffers that are broadcast.",
        )
    if "nccl" in result.backend or result.device != "cpu":
        note(
            "nccl_not_verified",
            "Not verified with NCCL or on a GPU: the laws were checked on gloo.",
        )
    largest = max(bucket.bytes for bucket in result.buckets)
    if result.allreduce and max(one.bytes for one in result.allreduce) < largest:
        note(
            "sizes_left_out",
            f"Messages of {format_bytes(largest)} took too long for the time there was; the rate "
            "is that of smaller ones. Give more --budget to measure them.",
        )
    if len(result.local_step) > 1 and (slower := _slower(result)) > _DISTURBED:
        note(
            "workers_disturb_each_other",
            f"Local steps of all workers at once take {slower:.2f} times as long as those of one "
            "alone: they share processors or memory, and other numbers of workers on one machine "
            "will be slowed down by another factor.",
        )
    return notes


def _slower(result: ProbeResult) -> float:
    """Local steps of all at once over those of one alone, at the larger micro-batch."""
    size = max(row.micro_batch for row in result.compute)
    alone, together = (
        (law.fixed.estimate or 0.0) + size * (law.per_example.estimate or 0.0)
        for law in (result.local_step[0], result.local_step[-1])
    )
    return together / alone if alone > 0 else 1.0
