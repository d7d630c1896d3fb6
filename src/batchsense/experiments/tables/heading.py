"""What stands above and beside a table: comments, titles, columns that are none; one wording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchsense.errors import DataError, listed
from batchsense.experiments.tables.matrix import shortened
from batchsense.experiments.tables.text import is_number
from batchsense.notes import Note

#: What featureCounts writes before the counts: where a gene lies, which no specimen is.
FEATURE_COUNTS = ("Geneid", "Chr", "Start", "End", "Strand", "Length")
#: A line with one cell is a title if the next has at least so many: with two it could be the header
#: of a table without the name of its first column, as R writes it.
_COLUMNS_BELOW_A_TITLE = 3


def is_title(cells: Sequence[str], below: Sequence[str]) -> bool:
    """Whether a line is a title of the table below it: several words in one cell, nothing beside.

    Below must stand what can be a header, not numbers.

    Examples
    --------
    >>> is_title(["Table S1"], ["id", "g1", "g2"]), is_title(["Table S1", "", ""], ["", "a", "b"])
    (True, True)
    >>> is_title(["id", "", ""], ["s1", "A", "B"]), is_title(["Table S1"], ["s1", "1", "2"])
    (False, False)
    """
    filled = [cell for cell in cells if cell.strip()]
    names = [cell for cell in below if cell.strip()]
    # The name of the ids may be left out, which leaves an empty cell in front.
    width = max((place for place, cell in enumerate(below, 1) if cell.strip()), default=0)
    return (
        len(filled) == 1
        and len(filled[0].split()) > 1
        and width >= _COLUMNS_BELOW_A_TITLE - (len(cells) > 1)
        and not all(map(is_number, names[1:]))
    )


def title_note(line: int, text: str, kind: str) -> Note:
    """Say that a title was passed over."""
    return Note(
        "title_line",
        f"Line {line} of the {kind} is a title above the table, {shortened(text)}, and was passed "
        "over.",
        (str(line),),
    )


def comment_note(lines: Sequence[int], text: str, kind: str) -> Note:
    """Say that comments were passed over; ``text`` is the first of them."""
    numbers = listed(map(str, lines), 5)
    which = (
        f"Line {numbers} of the {kind} is a comment ({shortened(text)}) and was"
        if len(lines) == 1
        else f"Lines {numbers} of the {kind} are comments (the first is {shortened(text)}) and were"
    )
    return Note("comment_lines", f"{which} passed over.", tuple(map(str, lines[:10])))


def annotation_columns(columns: Sequence[str], corner: str | None) -> int:
    """How many columns after the ids tell where a gene lies, as featureCounts writes them.

    Examples
    --------
    >>> annotation_columns(["Chr", "Start", "End", "Strand", "Length", "s1"], "Geneid")
    5
    >>> annotation_columns(["s1", "s2"], "Geneid")
    0
    """
    head = (corner, *columns[: len(FEATURE_COUNTS) - 1])
    return len(FEATURE_COUNTS) - 1 if head == FEATURE_COUNTS else 0


def annotation_note() -> Note:
    """Say that columns of featureCounts were left out."""
    names = FEATURE_COUNTS[1:]
    return Note(
        "annotation_columns",
        f"The columns {listed(names)} of the matrix tell where a gene lies, as featureCounts "
        "writes them; they are no specimens and were left out.",
        names,
    )


def refuse_nameless(kind: str, columns: Iterable[str], where: str) -> DataError:
    """Make the error for columns that hold something and have no name."""
    what = "sheet columns without a name" if kind == "sheet" else "column without an id"
    return DataError(
        f"{what}: number {listed(columns)}; write names above them, or empty their cells", where
    )
