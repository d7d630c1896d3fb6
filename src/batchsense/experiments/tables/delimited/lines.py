"""The records of a text file, and what stands above them: encodings, comments, titles, separators.

What a file declares itself (a byte-order mark, a line ``sep=;``, a mark of a comment) is followed,
with a note. What would have to be guessed is refused with the line concerned.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from batchsense.errors import DataError
from batchsense.experiments.tables.heading import comment_note, is_title, title_note
from batchsense.experiments.tables.matrix import DELIMITERS, shortened, suffix_of
from batchsense.notes import Note

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}
#: Marks of lines that are no data: ``#`` of featureCounts and many others, ``!`` of GEO.
_COMMENTS = ("#", "!")
#: Excel's own first line, which says how the cells are separated.
_SEP = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE)
#: A header as R's write.table leaves it: quoted names with a space between them.
_QUOTED = re.compile(r'"(?:[^"]|"")*"(?: "(?:[^"]|"")*")*\s*')
#: The longest line, in signs: room for three million numbers. Without an end to a line, a small
#: packed file could fill the memory before anything is known of it.
_LONGEST_LINE = 1 << 26
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(slots=True)
class Records:
    """The header of a table, and its records as they are asked for, each with its line.

    Attributes
    ----------
    header : list of str
        The cells of the header.
    kind : str
        ``"matrix"`` or ``"sheet"``, for notes.
    delimiter : str
        What separates the cells.
    plain : iterator of str
        The lines below the header as they stand; none where some were looked at already.
    """

    header: list[str]
    kind: str
    delimiter: str
    plain: Iterator[str]
    _lines: Lines
    _cells: Iterator[list[str]]
    _heading: list[Note]
    _comments: list[int] = field(default_factory=list)
    _first_comment: str = ""

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """The records that hold anything; comments among them are passed over."""
        for cells in self._cells:
            if len(cells) == 1 < len(self.header) and cells[0].startswith(_COMMENTS):
                self._comments.append(self._lines.number)
                self._first_comment = self._first_comment or cells[0]
            elif any(map(str.strip, cells)):
                yield self._lines.number, cells

    def notes(self) -> tuple[Note, ...]:
        """What was passed over, and which reading was taken; after all records were read."""
        later = (
            [comment_note(self._comments, self._first_comment, self.kind)] if self._comments else []
        )
        return (*self._heading, *later)


@contextlib.contextmanager
def records(path: str | Path, kind: str) -> Iterator[Records]:
    """Open a text file and take its header off.

    Raises
    ------
    DataError
        The file is missing, empty, damaged or not text, or its cells are separated otherwise than
        its name says.
    """
    target, where = Path(path), str(path)
    try:
        with open_text(target) as stream:
            lines = Lines(stream)
            yield _headed(lines, suffix_of(path), kind, where)
    except UnicodeDecodeError as error:
        raise _undecoded(target, error, where) from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"the compressed file is damaged: {error}", where) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where) from None
    except csv.Error as error:
        raise DataError(
            f"line {lines.number} is no delimited text ({error}); a quotation mark within a name "
            "must be doubled, and each must be closed",
            where,
        ) from None
    except LongLineError as error:
        raise DataError(str(error), where) from None


def open_text(target: Path, errors: str = "strict") -> TextIO:
    """Open text that may be packed; a byte-order mark tells the encoding, else it is UTF-8."""
    opened = gzip.open if target.suffix.lower() == ".gz" else open
    with opened(target, "rb") as probe:
        begin = probe.read(4)
    encoding = next((name for mark, name in _MARKS if begin.startswith(mark)), "utf-8")
    return opened(target, "rt", encoding=encoding, errors=errors, newline="")


class LongLineError(Exception):
    """A line has no end in sight."""


class Lines(Iterator[str]):
    """The lines of a stream, with the number of the last one given; lines can be put back."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._ahead: deque[tuple[int, str]] = deque()
        self._read = 0
        self.number = 0

    def __next__(self) -> str:
        if self._ahead:
            self.number, line = self._ahead.popleft()
            return line
        line = self._stream.readline(_LONGEST_LINE)
        if not line:
            raise StopIteration
        if len(line) == _LONGEST_LINE:
            raise LongLineError(
                f"line {self._read + 1} is longer than {_LONGEST_LINE:,} signs; a matrix with so "
                "many columns can be read as .parquet or .h5ad"
            )
        self._read += 1
        self.number = self._read
        return line

    def put_back(self, lines: Sequence[tuple[int, str]]) -> None:
        """Give lines again, with their numbers."""
        self._ahead.extendleft(reversed(lines))

    def filled(self) -> tuple[int, str] | None:
        """The next line that is not blank."""
        for line in self:
            if line.strip():
                return self.number, line
        return None


def _headed(lines: Lines, suffix: str, kind: str, where: str) -> Records:
    delimiter, notes = DELIMITERS[suffix], []
    first = lines.filled()
    if first and (declared := _SEP.fullmatch(first[1])):
        delimiter = "\t" if declared[1] == "\\t" else declared[1]
        notes.append(_separator_note(first, delimiter, kind))
        first = lines.filled()
    else:
        declared = None
    comments: list[tuple[int, str]] = []
    while first and first[1].startswith(_COMMENTS):
        comments.append(first)
        first = lines.filled()
    second = lines.filled() if first else None
    if first and not declared and suffix == ".txt" and _by_spaces(first[1], second):
        delimiter = " "
        notes.append(_spaces_note(kind))
    if first:
        _refuse_other_separator(first[1], second and second[1], delimiter, (kind, where))
    if comments and _heads(comments[-1][1], first, delimiter):
        lines.put_back([one for one in (comments.pop(), first, second) if one])
    else:
        lines.put_back([one for one in (first, second) if one])
    if comments:
        shown = comments[0][1].strip()
        notes.append(comment_note([number for number, _ in comments], shown, kind))
    return _titled(lines, delimiter, notes, kind, where)


def _titled(lines: Lines, delimiter: str, notes: list[Note], kind: str, where: str) -> Records:
    """Read the header; titles above it are passed over."""
    cells = csv.reader(lines, delimiter=delimiter, strict=True)
    header = next((record for record in cells if any(map(str.strip, record))), None)
    if header is None:
        raise DataError("the file is empty", where=where)
    ahead: list[list[str]] = []
    while sum(bool(cell.strip()) for cell in header) == 1:
        line = lines.number
        below = next((record for record in cells if any(map(str.strip, record))), None)
        ahead = [below] if below else []
        if below is None or not is_title(header, below):
            break
        ahead = []
        notes.append(title_note(line, next(filter(None, map(str.strip, header))), kind))
        header = below
    plain = iter(()) if ahead else lines
    return Records(header, kind, delimiter, plain, lines, _chained(ahead, cells), notes)


def _chained(ahead: list[list[str]], cells: Iterator[list[str]]) -> Iterator[list[str]]:
    yield from ahead
    yield from cells


def _split(line: str, delimiter: str) -> list[str]:
    """The cells of a line, or none where it cannot be read so."""
    try:
        return next(csv.reader([line.strip(" \r\n")], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _heads(comment: str, below: tuple[int, str] | None, delimiter: str) -> bool:
    """Whether a line with the mark of a comment is the header: it has a cell for each column.

    So begin tables of QIIME and BIOM. A comment has another number of cells, or one.
    """
    if below is None or not comment.startswith("#"):
        return below is None
    cells = _split(comment, delimiter)
    return len(cells) > 1 and cells[0] != "#" and len(cells) == len(_split(below[1], delimiter))


def _by_spaces(first: str, second: tuple[int, str] | None) -> bool:
    """Whether cells are separated by spaces, as in R's ``write.table``: names in quotes."""
    if "\t" in first or not _QUOTED.fullmatch(first) or second is None:
        return False
    names, cells = (len(_split(line, " ")) for line in (first, second[1]))
    return cells > 1 and cells in (names, names + 1)


def _refuse_other_separator(
    first: str, second: str | None, delimiter: str, place: tuple[str, str]
) -> None:
    """Notice a file that uses another separator than its name says; ``place`` is kind and file."""
    kind, where = place
    if len(_split(first, delimiter)) > 1:
        return
    alone = second is None or len(_split(second, delimiter)) < 2
    for mark, words in _SEPARATORS.items():
        names = _split(first, mark)
        if mark == delimiter or len(names) < 2:
            continue
        cells = len(names) if second is None else len(_split(second, mark))
        fits = cells in (len(names), len(names) + 1)
        if mark == " ":
            # Words have spaces between them too: of a sheet only what cannot be one column.
            fits = fits and alone and (kind == "matrix" or '"' in first or len(names) > 3)
        if fits or (alone and mark != " "):
            suffix = suffix_of(where)
            raise DataError(
                f"the cells seem to be separated by {words}; a {suffix} file needs "
                f"{_SEPARATORS[DELIMITERS[suffix]]}",
                where=where,
            )


def _separator_note(first: tuple[int, str], delimiter: str, kind: str) -> Note:
    words = _SEPARATORS.get(delimiter, repr(delimiter))
    return Note(
        "separator",
        f"Line {first[0]} of the {kind} ({first[1].strip()}) says that its cells are separated by "
        f"{words}; it was read so.",
        (str(first[0]),),
    )


def _spaces_note(kind: str) -> Note:
    return Note(
        "separator",
        f"The cells of the {kind} are separated by spaces, with names in quotes, as R's "
        "write.table leaves them; it was read so.",
        (),
    )


def _undecoded(target: Path, error: UnicodeDecodeError, where: str) -> DataError:
    """Name the first line that is not text, and what it may be."""
    if not error.encoding.lower().startswith("utf-8"):
        return DataError(
            f"not UTF-8 text: it begins as {error.encoding} and is damaged; save it as UTF-8", where
        )
    with (
        contextlib.suppress(OSError, EOFError, zlib.error),
        open_text(target, "surrogateescape") as stream,
    ):
        for number, line in enumerate(Lines(stream), start=1):
            odd = re.search(r"[^\s,;\t\"]*[\udc80-\udcff][^\s,;\t\"]*", line)
            if odd:
                raw = odd[0].encode("utf-8", "surrogateescape")
                read = raw.decode("cp1252", "replace")
                guess = (
                    f", which reads {shortened(read)} in Windows-1252" if read.isprintable() else ""
                )
                return DataError(f"line {number} is not UTF-8 text{guess}; save it as UTF-8", where)
    return DataError(f"not UTF-8 text (byte {error.start}); save it as UTF-8", where)
