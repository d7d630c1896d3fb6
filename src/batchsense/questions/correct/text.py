"""The page that ``batchsense correct`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from batchsense.errors import listed
from batchsense.machine_memory import format_bytes
from batchsense.questions.correct.result import CorrectResult, LearnedBatch, Reused
from batchsense.questions.entangled import confounding_table, note_lines
from batchsense.questions.out_of_core_result import OutOfCore
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import number, percent


def correct_text(envelope: Envelope[CorrectResult], source: str) -> str:
    """Write an account of a correction as text."""
    result = envelope.answer()
    removed = (
        f"Removed by the {result.method} method: {result.batch} "
        f"({_removed_parts(result)}){removed_words(result)}"
    )
    lines = [
        f"{source}: {number(result.specimens)} specimens, {number(result.features)} features; "
        f"the matrix is {result.orientation}.",
        removed if result.removed_share >= 0 else paragraph(removed),
        _kept_line(result),
        f"Written: {result.output}",
    ]
    if result.saved_fitted is not None:
        lines.append(f"Written: {result.saved_fitted} (what was learned; for --fitted)")
    if result.reused is not None:
        lines.append(reused_line(result.reused))
    if result.out_of_core is not None:
        lines.append(out_of_core_line(result.out_of_core))
    if result.kept:
        where = "" if result.reused is None else " in the fit"
        lines += ["", f"What was kept, and how it goes with {result.batch}{where}"]
        lines.append(confounding_table(result.kept, result.batch, result.fitted_specimens))
    if result.learned:
        lines += ["", f"What {result.levels_of} does, over all features (in standard deviations)"]
        lines.append(_learned_table(result.learned))
    lines.extend(note_lines([*envelope.notes, *result.notes]))
    return "\n".join(lines)


def _removed_parts(result: CorrectResult) -> str:
    if len(result.batch_columns) == 1:
        return f"{len(result.batch_levels)} batches"
    return f"{result.rank_lost} degrees of freedom"


def removed_words(result: CorrectResult) -> str:
    """Say by how much the total sum of squares fell, or that it grew, and why that can be."""
    of_what = "the total sum of squares"
    of_what += " of log counts per million" if result.method == "combat-seq" else ""
    if result.removed_share >= 0:
        return f", {percent(result.removed_share)} of {of_what}."
    stretched = "" if result.method == "linear" else ", or where scales were changed"
    return (
        f". The correction added variation: {of_what} grew by {percent(-result.removed_share)}. "
        "That can be where batch effects run against what is kept, or are badly known because they "
        f"go with it (see VIF){stretched}."
    )


def reused_line(how: Reused) -> str:
    """Say what an earlier fit rests on."""
    line = f"Learned earlier from {number(how.specimens)} specimens: {how.file}."
    if how.new_batches:
        line += f" Estimated from this table: {listed(how.new_batches)}."
    return line


def out_of_core_line(how: OutOfCore) -> str:
    """Say how it was corrected without being loaded."""
    if how.cluster is None:
        line, each = "Out of core: a few specimens at a time", ""
    else:
        line, each = f"Out of core: on the cluster {how.cluster}", " a worker"
    if how.memory_bytes is not None:
        line += f", {format_bytes(how.memory_bytes)}{each}"
    return f"{line}; an interrupted run was taken up." if how.resumed else f"{line}."


def _kept_line(result: CorrectResult) -> str:
    kept = [one.name for one in result.kept if one.estimable]
    lost = [one.name for one in result.kept if not one.estimable]
    line = f"Kept: {listed(kept) if kept else 'nothing'}."
    return f"{line} Lost, at least in part: {listed(lost)}." if lost else line


def _learned_table(learned: Sequence[LearnedBatch]) -> str:
    header = ["batch", "specimens", "shift", "stretched by"]
    rows = [
        [
            one.level,
            number(one.specimens) if one.specimens else "came later",
            f"{round(one.shift, 2) + 0.0:+.2f} ± {one.shift_spread:.2f}",
            f"{one.scale:.2f} ± {one.scale_spread:.2f}",
        ]
        for one in learned
    ]
    return columns(header, rows)
