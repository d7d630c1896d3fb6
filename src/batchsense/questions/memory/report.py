"""The page of ``batchsense memory``, and what its figure says."""

from __future__ import annotations

from batchsense.machine_memory import format_bytes
from batchsense.questions.memory import text
from batchsense.questions.memory.result import MemoryResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.training.memory import draw_memory
from batchsense.reports.page import Picture, render


def memory_report(envelope: Envelope[MemoryResult], command_line: str | None = None) -> str:
    """The page of a memory prediction."""
    result = envelope.answer()
    sentences = [text.limit_sentence(result), text.peak_sentence(result)]
    if result.full_batch_bytes is not None:
        sentences.append(text.full_batch_sentence(result))
    if result.accumulation is not None:
        sentences.append(text.accumulation_sentence(result))
    return render(
        __file__,
        envelope,
        command_line,
        pictures={"curve": _curve(result)},
        headline=text.headline(result),
        sentences=sentences,
        evidence=text.evidence_sentence(result),
        peak=format_bytes(result.peak_bytes),
        usable=format_bytes(result.usable_bytes),
        limit=format_bytes(result.limit_bytes),
        breakdown=text.breakdown_rows(result),
        curve=text.curve_rows(result),
    )


def _curve(result: MemoryResult) -> Picture:
    points = {p.batch_size: (p.peak_bytes, p.counted_bytes) for p in result.curve}
    points[result.batch_size] = result.peak_bytes, result.counted_bytes
    sizes = sorted(points)
    peaks, counts = zip(*(points[size] for size in sizes), strict=True)
    ax = draw_memory(sizes, peaks, counts, result.usable_bytes, result.batch_size)
    counted = format_bytes(result.counted_bytes)
    kept = "" if result.counted_bytes == result.peak_bytes else f", counted as {counted},"
    finding = (
        f"At {result.batch_size:,} examples the peak of {format_bytes(result.peak_bytes)}{kept} "
        f"{'is below' if result.counted_bytes <= result.usable_bytes else 'exceeds'} the "
        f"{format_bytes(result.usable_bytes)} that a step may take."
    )
    return Picture.of(ax, "curve", "Peak memory by batch size", finding)
