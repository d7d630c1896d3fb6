"""The memory of a training step in plain words."""

from __future__ import annotations

from batchsense.machine_memory import format_bytes
from batchsense.questions.answer import Tabulate
from batchsense.questions.memory.result import MemoryResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope, Note
from batchsense.reports.wording import percent

#: Relative errors that are printed as none.
_EXACT = 5e-5
_SETTINGS = "MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=65536"


def memory_text(envelope: Envelope[MemoryResult], table: Tabulate) -> str:
    """Write the memory for people."""
    result = envelope.answer()
    parts = [prose(headline(result)), prose(limit_sentence(result)), prose(peak_sentence(result))]
    if result.full_batch_bytes is not None:
        parts.append(prose(full_batch_sentence(result)))
    if result.accumulation is not None:
        parts.append(prose(accumulation_sentence(result)))
    parts += [
        "What the peak is for:",
        table(*breakdown_rows(result)),
        "Other batch sizes:",
        table(*curve_rows(result)),
        prose(evidence_sentence(result)),
    ]
    if envelope.notes:
        notes = (prose(note.message, "- ") for note in envelope.notes)
        parts.append("\n".join(["What to keep in mind:", *notes]))
    return "\n\n".join(parts)


def headline(result: MemoryResult) -> str:
    """Say the answer first."""
    at_most = "at least " if result.lower_bound else ""
    peak = f"a step of {result.batch_size:,} takes {at_most}{format_bytes(result.peak_bytes)}"
    if not result.fits:
        most = result.max_batch_size
        then = f"; {most:,} fit." if most else "; not even one fits."
        if result.batch_size == 1:
            return f"Not even one example of {result.target} fits: {peak}."
        return f"{result.batch_size:,} examples of {result.target} do not fit: {peak}{then}"
    if result.max_batch_size is None:
        return f"{result.target} takes the same memory at every batch size: {peak}."
    if result.max_batch_size >= result.examples:
        return f"All {result.examples:,} examples of {result.target} fit: {peak}."
    return (
        f"Largest batch size of {result.target} that fits: {result.max_batch_size:,} examples; "
        f"{peak}."
    )


def limit_sentence(result: MemoryResult) -> str:
    """Say what the limit leaves for a step."""
    sentence = (
        f"Of {result.limit_source}, {format_bytes(result.usable_bytes)} are left for a step, after "
        "what the process itself takes and a margin."
    )
    allocator = result.allocator
    if allocator.kept_factor is None or allocator.kept_below_bytes is None:
        return sentence
    more = min(allocator.max_batch_size_returning or 0, result.examples)
    gain = ""
    if result.max_batch_size is not None and more > result.max_batch_size:
        gain = f" With {_SETTINGS} before the command that trains, {more:,} fit."
    return (
        f"{sentence} The C library keeps freed blocks below "
        f"{format_bytes(allocator.kept_below_bytes)} in pieces, so these count "
        f"{allocator.kept_factor:g} times: the step counts {format_bytes(result.counted_bytes)}."
        f"{gain}"
    )


def peak_sentence(result: MemoryResult) -> str:
    """Say what binds."""
    sentence = (
        f"The peak is at {result.binding.operation}; one more example costs "
        f"{format_bytes(result.bytes_per_example)} there."
    )
    more = result.max_batch_size_when_deleted
    if more is not None and result.max_batch_size is not None and more > result.max_batch_size:
        sentence += (
            f" A loop that deletes each minibatch before it loads the next has room for {more:,}."
        )
    return sentence


def full_batch_sentence(result: MemoryResult) -> str:
    """Say what all examples at once would take."""
    return (
        f"A step over all {result.examples:,} examples would take "
        f"{format_bytes(result.full_batch_bytes or 0)} ({(result.full_batch_bytes or 0) / 1e9:.4g} "
        "GB)."
    )


def accumulation_sentence(result: MemoryResult) -> str:
    """Say how a larger batch size can be trained."""
    parts = result.accumulation
    if parts is None:
        return ""
    return (
        f"{result.batch_size:,} can be trained as {parts.count} micro-batches of "
        f"{parts.micro_batch:,} whose gradients are added up ({format_bytes(parts.peak_bytes)} at "
        "the peak), if the loss allows that: ask batchsense audit."
    )


def breakdown_rows(result: MemoryResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate what the peak is for."""
    whole = max(result.peak_bytes, 1)
    rows = [
        [name, format_bytes(amount), percent(amount / whole)]
        for name, amount in result.breakdown.model_dump().items()
    ]
    return ["part", "memory", "share"], rows


def curve_rows(result: MemoryResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the curve."""
    rows = [
        [f"{point.batch_size:,}", format_bytes(point.peak_bytes), point.operation]
        for point in result.curve
    ]
    return ["batch size", "peak", "at"], rows


def evidence_sentence(result: MemoryResult) -> str:
    """Say what the prediction was compared with."""
    probes = ", ".join(str(size) for size in result.probe_sizes)
    if result.without_data:
        return f"Followed without data at {probes} examples; no step was run."
    traced = f"From steps of {probes} examples"
    if result.checked_batch_size is None or result.checked_error is None:
        return f"{traced}; not compared with a larger step."
    off = abs(result.checked_error)
    way = "more" if result.checked_error > 0 else "less"
    took = f"{percent(off)} {way} than" if off >= _EXACT else "what"
    end = "predicted" if off >= _EXACT else "was predicted, to a hundredth of a percent"
    return f"{traced}; a real step of {result.checked_batch_size} took {took} {end}."


def memory_notes(result: MemoryResult) -> list[Note]:
    """What the numbers do not cover."""
    notes = []
    if result.lower_bound:
        notes.append(
            Note(
                code="lower_bound",
                message=f"{', '.join(result.lower_bound[:5])}: their kernels take working memory "
                "that steps without data do not show, so every number is a lower bound; measure "
                "real steps where the model fits.",
            )
        )
    if result.device != "cpu":
        notes.append(
            Note(
                code="gpu_not_verified",
                message="Not verified on a GPU: its caching allocator rounds and fragments; 15 % "
                "are kept free for that. Try a step before you rely on it.",
            )
        )
    if result.largest_of is not None:
        notes.append(
            Note(
                code="examples_differ_in_size",
                message="Examples differ in size; every one is counted as the largest of "
                f"{result.largest_of:,} looked at, of {result.examples:,}.",
            )
        )
    if result.trial is not None:
        tried = ", ".join(f"{size:,}" for size in result.trial.tried)
        became = (
            f"{result.trial.batch_size:,} trained, with {format_bytes(result.trial.resident_bytes)}"
            " more resident memory"
            if result.trial.batch_size
            else "none of them trained"
        )
        notes.append(
            Note(code="tried", message=f"Tried under the limit, in a process: {tried}; {became}.")
        )
    notes.append(
        Note(
            code="loader_not_counted",
            message="Minibatches that loader processes fetch ahead are not counted: workers × "
            f"prefetch_factor × {format_bytes(result.minibatch_bytes)}.",
        )
    )
    return notes
