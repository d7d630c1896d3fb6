"""A stream in plain words."""

from __future__ import annotations

import math
from pathlib import Path

from batchsense.machine_memory import format_bytes
from batchsense.questions.answer import Tabulate
from batchsense.questions.stream.result import StreamResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope, Note
from batchsense.reports.wording import number, span

#: Blocks below this many bytes are read slowly from disks that have to seek, and from those that
#: are reached over a network.
_SMALL_BLOCK = 64 * 1024


def stream_text(envelope: Envelope[StreamResult], table: Tabulate) -> str:
    """Write the plan of a stream for people."""
    result = envelope.answer()
    parts = [prose(headline(result)), prose(clustering_sentence(result))]
    if result.before is not None:
        parts.append(prose(before_sentence(result)))
    if not result.fits:
        parts.append(prose(remedy_sentence(result)))
    parts.append(table(*rows(result)))
    if envelope.notes:
        notes = (prose(note.message, "- ") for note in envelope.notes)
        parts.append("\n".join(["What to keep in mind:", *notes]))
    return "\n\n".join(parts)


def headline(result: StreamResult) -> str:
    """Say the answer first."""
    effect = result.design_effect
    high = number(effect.high, 4)
    if result.pool == 1 and result.block >= result.rows:
        return (
            f"All {result.rows:,} rows of {result.file} fit into one pool: minibatches of "
            f"{result.batch_size:,} are drawn from the whole table."
        )
    blocks = f"{result.pool:,} random blocks of {_counted(result.block, 'row')}"
    if result.fits:
        return (
            f"Stream {result.file} in pools of {blocks}: minibatches of {result.batch_size:,} vary "
            f"at most {high} times as much as independent rows."
        )
    return (
        f"{result.file} cannot be streamed well in {format_bytes(result.memory_bytes)}: "
        f"minibatches of {result.batch_size:,} from {blocks} may vary {high} times as much as "
        f"independent rows, more than {result.allowed:g}."
    )


def clustering_sentence(result: StreamResult) -> str:
    """Say how alike rows are that lie together."""
    if result.icc.estimate is None or result.icc_block is None:
        return "The table has too few rows to tell how alike those are that lie together."
    ends = span(result.icc.low, result.icc.high, 2)
    worth = (
        f"A minibatch of {result.batch_size:,} is worth "
        f"{number(result.effective_batch_size)} independent rows."
    )
    return (
        f"Rows that lie in one block of {result.icc_block:,} share "
        f"{number(max(result.icc.estimate, 0.0), 2)} of the variance of {result.icc_column} (95 % "
        f"interval {ends}), from {result.pilot_blocks} random blocks. {worth}"
    )


def before_sentence(result: StreamResult) -> str:
    """Say what the shuffle changed."""
    before = result.before
    if before is None:
        return ""
    return (
        f"The rows of {result.shuffled_from} were written to {result.file} in random order; before "
        f"that minibatches could vary {number(before.high)} times as much as independent rows."
    )


def remedy_sentence(result: StreamResult) -> str:
    """Say what would mend a bad shuffle."""
    megabytes = math.ceil(result.least_bytes / 1e5) / 10
    enough = f"{format_bytes(result.least_bytes)} would suffice ({megabytes:,.1f} MB)"
    if Path(result.file).suffix.lower() in (".h5ad", ".zarr"):
        return f"{enough}; or write the file with its rows in random order."
    return (
        f"{enough}; "
        "or shuffle the rows once on the disk, with --shuffle-to OUT: two reads and two writes of "
        "the file, and after that a pool of some ten minibatches is enough."
    )


def rows(result: StreamResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the plan."""
    effect = result.design_effect
    pool = result.block * result.pool
    found = [
        ["rows of the table", f"{result.rows:,}", f"{format_bytes(result.row_bytes)} each"],
        [
            "block",
            _counted(result.block, "row"),
            format_bytes(result.block * result.row_bytes),
        ],
        [
            "pool",
            _counted(result.pool, "block"),
            f"{pool:,} rows, {format_bytes(pool * result.row_bytes)}",
        ],
        [
            "design effect",
            number(effect.estimate, 4),
            f"95 % interval {span(effect.low, effect.high, 4)}",
        ],
        [
            "memory",
            format_bytes(result.used_bytes),
            f"of {format_bytes(result.memory_bytes)}"
            + (f", in {result.loaders} loader processes" if result.loaders else ""),
        ],
    ]
    return ["what", "size", ""], found


def stream_notes(result: StreamResult) -> list[Note]:
    """What the numbers do not cover."""
    notes = []
    if result.left_out:
        shown = ", ".join(result.left_out[:5])
        more = f" and {len(result.left_out) - 5} more" if len(result.left_out) > 5 else ""
        notes.append(
            Note(
                code="missing_values",
                message=f"Not looked at, because they miss values in the blocks that were read: "
                f"{shown}{more}.",
                where=result.left_out[:100],
            )
        )
    small = result.block * result.row_bytes < _SMALL_BLOCK
    if small and result.fits and result.block < result.rows:
        notes.append(
            Note(
                code="small_blocks",
                message=f"Blocks of {format_bytes(result.block * result.row_bytes)} are read "
                "slowly from disks that seek or lie behind a network; more memory allows larger "
                "ones.",
            )
        )
    notes.append(
        Note(
            code="one_step",
            message="The design effect is that of one step. Minibatches of one pool share its "
            "blocks, so the noise of neighbouring steps is related as well.",
        )
    )
    return notes


def _counted(number_of: int, what: str) -> str:
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"
