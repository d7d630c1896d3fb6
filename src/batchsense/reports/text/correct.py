"""The page that ``batchsense correct`` prints."""

from __future__ import annotations

from batchsense.errors import listed
from batchsense.reports.envelope import Envelope
from batchsense.reports.results.correct import CorrectResult
from batchsense.reports.text.entangled import confounding_table, note_lines
from batchsense.reports.wording import number, percent


def correct_text(envelope: Envelope[CorrectResult], source: str) -> str:
    """Write an account of a correction as text.

    Parameters
    ----------
    envelope : Envelope
        The answer.
    source : str
        What was read, for the first line.

    Returns
    -------
    str
        The page.
    """
    result = envelope.result
    if result is None:
        raise ValueError("there is no result to write about")
    lines = [
        f"{source}: {number(result.specimens)} specimens, {number(result.features)} features; "
        f"the matrix is {result.orientation}.",
        f"Removed by the {result.method} method: {result.batch} "
        f"({len(result.batch_levels)} batches), {percent(result.removed_share)} of the total sum "
        "of squares.",
        f"Kept: {listed([one.name for one in result.kept]) if result.kept else 'nothing'}.",
        f"Written: {result.output}",
    ]
    if result.kept:
        lines += ["", f"What was kept, and how it goes with {result.batch}"]
        lines.append(confounding_table(result.kept, result.batch, result.specimens))
    lines.extend(note_lines([*envelope.notes, *result.notes]))
    return "\n".join(lines)
