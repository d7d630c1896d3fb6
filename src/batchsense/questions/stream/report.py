"""The page of ``batchsense stream``, and what its figure says."""

from __future__ import annotations

from batchsense.machine_memory import format_bytes
from batchsense.questions.stream import text
from batchsense.questions.stream.result import StreamResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.training.design_effect import draw_design_effect
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number


def stream_report(envelope: Envelope[StreamResult], command_line: str | None = None) -> str:
    """The page of a stream."""
    result = envelope.answer()
    sentences = [text.clustering_sentence(result)]
    if result.before is not None:
        sentences.append(text.before_sentence(result))
    if not result.fits:
        sentences.append(text.remedy_sentence(result))
    return render(
        __file__,
        envelope,
        command_line,
        pictures={} if result.block >= result.rows else {"pools": _pools(result)},
        headline=text.headline(result),
        sentences=sentences,
        used=format_bytes(result.used_bytes),
        memory=format_bytes(result.memory_bytes),
        plan=text.rows(result),
    )


def _pools(result: StreamResult) -> Picture:
    from batchsense.training.streaming import design_effect

    blocks = max(result.rows // result.block, 1)
    least = -(-result.batch_size // result.block)
    sizes = sorted({max(min(least * 2**n, blocks), 1) for n in range(40)} | {result.pool})
    ends = [result.icc.low or 0.0, result.icc.estimate or 0.0, 1.0]
    if result.icc.high is not None:
        ends[2] = result.icc.high
    low, middle, high = (
        [
            design_effect(
                min(max(icc, 0.0), 1.0), result.batch_size, result.rows, result.block, size
            )
            for size in sizes
        ]
        for icc in ends
    )
    place = sizes.index(result.pool)
    ax = draw_design_effect(sizes, (low, middle, high), result.allowed, result.pool)
    finding = (
        f"With blocks of {result.block:,} rows, {result.pool:,} blocks in a pool make minibatches "
        f"vary {number(middle[place], 3)} times as much as independent rows, at most "
        f"{number(high[place], 3)} times. The number of blocks counts, not that of rows."
    )
    return Picture.of(ax, "pools", "Design effect by blocks in a pool", finding)
