"""The parts of an .xlsx file: which worksheets it has, its shared texts, and its dates.

A workbook is a zip archive of XML (ECMA-376). Its parts are read as streams, and what is hostile in
them is refused before it takes memory: parts that unfold to a hundred times their size, document
types (which declare entities), and marks without an end.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.parsers import expat

from batchsense.errors import DataError

#: Parts below this may unfold as they like; Apache POI asks from 100 kB on, which is too little for
#: a worksheet of zeros.
_SMALL = 10_000_000
#: How many times its packed size a part may unfold to: the limit of Apache POI's ZipSecureFile.
#: Worksheets of real workbooks unfold to 5 to 20 times.
_RATIO = 100
#: Bytes given to the parser at a time, and how many of them one mark (a tag, a reference) may take.
_CHUNK = 1 << 16
_LONGEST_MARK = 1 << 20
#: Excel holds at most so many signs in a cell; four times that leaves room for other programs.
LONGEST_TEXT = 4 * 32_767
#: Formats of numbers that are dates or times without being declared so (ECMA-376, 18.8.30).
_DATES = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}
_NO_DATE_PARTS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]')

Attributes = dict[str, str]


@dataclass(frozen=True, slots=True)
class Worksheet:
    """A worksheet: its name, where its cells are in the archive, and whether it is shown."""

    title: str
    part: str
    visible: bool


@dataclass(frozen=True, slots=True)
class Book:
    """What all worksheets of a workbook share.

    Attributes
    ----------
    worksheets : tuple of Worksheet
        In their order.
    texts : tuple of str
        Texts that cells refer to by number.
    dates : frozenset of int
        Styles under which a number is a date or time.
    durations : frozenset of int
        Those of them under which it is a duration.
    from_1904 : bool
        Whether days are counted from 1904, as old Macs did.
    """

    worksheets: tuple[Worksheet, ...]
    texts: tuple[str, ...] = ()
    dates: frozenset[int] = frozenset()
    durations: frozenset[int] = frozenset()
    from_1904: bool = False


@contextmanager
def opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive; whatever is wrong with it or its parts is a DataError."""
    where = str(file)
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except FileNotFoundError:
        raise DataError("cannot be read: no such file", where) from None
    except (expat.ExpatError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _no_workbook(error, where) from None
    # A method of packing or an encryption that zipfile does not know, and numbers that are none.
    except (RuntimeError, LookupError, ValueError) as error:
        raise _no_workbook(error, where) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where) from None


def _no_workbook(error: Exception, where: str) -> DataError:
    return DataError(
        f"not an .xlsx workbook, or protected by a password ({error}); save it as .csv", where
    )


def read_book(archive: zipfile.ZipFile, names_only: bool = False) -> Book:
    """Read which worksheets there are and, unless ``names_only``, what their cells refer to."""
    main = _target(archive, "_rels/.rels", "officeDocument") or "xl/workbook.xml"
    outline = _Outline()
    walk(archive, main, outline.start)
    relations = _relations(archive, main)
    worksheets = tuple(
        Worksheet(title, part, visible)
        for title, key, visible in outline.found
        if (kind_part := relations.get(key)) and kind_part[0] == "worksheet"
        for part in [kind_part[1]]
    )
    if names_only:
        return Book(worksheets)
    parts = dict(relations.values())
    texts, formats = _Texts(), _Formats()
    if (part := parts.get("sharedStrings")) and part in archive.NameToInfo:
        walk(archive, part, texts.start, texts.end, texts.text)
    if (part := parts.get("styles")) and part in archive.NameToInfo:
        walk(archive, part, formats.start, formats.end)
    dates, durations = formats.found()
    return Book(worksheets, tuple(texts.found), dates, durations, outline.from_1904)


def walk(
    archive: zipfile.ZipFile,
    part: str,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Call functions for the marks of a part of the archive, by their names without prefix."""
    for _ in walking(archive, part, start, end, text):
        pass


def walking(
    archive: zipfile.ZipFile,
    part: str,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """As :func:`walk`, giving way after each piece so that what was found can be used up."""
    _refuse_bomb(archive, part)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = lambda name, given: start(name.rpartition(":")[2], given)
    if end is not None:
        parser.EndElementHandler = lambda name: end(name.rpartition(":")[2])
    if text is not None:
        parser.CharacterDataHandler = text
    with archive.open(part) as stream:
        yield from _fed(parser, stream)


def _fed(parser: expat.XMLParserType, stream: IO[bytes]) -> Iterator[None]:
    fed = 0
    while chunk := stream.read(_CHUNK):
        parser.Parse(chunk, False)
        fed += len(chunk)
        if fed - max(parser.CurrentByteIndex, 0) > _LONGEST_MARK:
            raise ValueError("a mark without an end")
        yield
    parser.Parse(b"", True)
    yield


def _refuse_bomb(archive: zipfile.ZipFile, part: str) -> None:
    found = archive.getinfo(part)
    if found.file_size > max(_SMALL, _RATIO * found.compress_size):
        raise DataError(
            f"{part} in the workbook unfolds to {found.file_size / 1e6:,.0f} MB, more than "
            f"{_RATIO} times its size; save the worksheet as .csv",
            where=str(archive.filename),
        )


def _refuse_doctype(*_: object) -> None:
    raise ValueError("it declares a document type")


def _target(archive: zipfile.ZipFile, relations: str, kind: str) -> str | None:
    if relations not in archive.NameToInfo:
        return None
    found: list[str] = []

    def start(name: str, given: Attributes) -> None:
        if name == "Relationship" and given.get("Type", "").endswith(f"/{kind}"):
            found.append(given.get("Target", ""))

    walk(archive, relations, start)
    return found[0].lstrip("/") if found else None


def _relations(archive: zipfile.ZipFile, main: str) -> dict[str, tuple[str, str]]:
    """Kind and place of the parts that a part refers to, by key."""
    folder, name = posixpath.split(main)
    found: dict[str, tuple[str, str]] = {}

    def start(mark: str, given: Attributes) -> None:
        if mark == "Relationship" and given.get("TargetMode") != "External":
            kind = given.get("Type", "").rpartition("/")[2]
            # A target with a slash in front counts from the top of the archive.
            place = posixpath.normpath(posixpath.join("/", folder, given.get("Target", "")))
            found[given.get("Id", "")] = kind, place.lstrip("/")

    walk(archive, posixpath.join(folder, "_rels", f"{name}.rels"), start)
    return found


@dataclass(slots=True)
class _Outline:
    """The worksheets as workbook.xml names them: title, key of the part, whether visible."""

    found: list[tuple[str, str, bool]] = field(default_factory=list)
    from_1904: bool = False

    def start(self, name: str, given: Attributes) -> None:
        if name == "workbookPr":
            self.from_1904 = given.get("date1904") in ("1", "true")
        elif name == "sheet":
            key = next((value for mark, value in given.items() if mark.endswith(":id")), "")
            self.found.append((given["name"], key, given.get("state", "visible") == "visible"))


@dataclass(slots=True)
class _Texts:
    """The shared texts: runs are joined, and how a word is pronounced is left out."""

    found: list[str] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _reading: bool = False
    _spoken: bool = False

    def start(self, name: str, _: Attributes) -> None:
        if name == "si":
            self._parts = []
        elif name == "rPh":
            self._spoken = True
        self._reading = name == "t" and not self._spoken

    def end(self, name: str) -> None:
        self._reading = False
        if name == "rPh":
            self._spoken = False
        elif name == "si":
            self.found.append(unescaped("".join(self._parts)))

    def text(self, text: str) -> None:
        if self._reading:
            keep(self._parts, text)


def keep(parts: list[str], text: str) -> None:
    """Add a piece to the text of a cell, which has an end."""
    parts.append(text)
    if len(parts) * len(text) > LONGEST_TEXT and sum(map(len, parts)) > LONGEST_TEXT:
        raise ValueError(f"a cell holds more than {LONGEST_TEXT:,} signs")


def unescaped(text: str) -> str:
    """Signs that XML cannot hold, as Excel writes them.

    Examples
    --------
    >>> unescaped("a_x000D_b")
    'a\\rb'
    """
    if "_x" not in text:
        return text
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)


@dataclass(slots=True)
class _Formats:
    """How numbers are shown, by style."""

    _codes: dict[int, str] = field(default_factory=dict)
    _styles: list[int] = field(default_factory=list)
    _inside: bool = False

    def start(self, name: str, given: Attributes) -> None:
        if name == "numFmt":
            self._codes[int(given["numFmtId"])] = given.get("formatCode", "")
        elif name == "cellXfs":
            self._inside = True
        elif name == "xf" and self._inside:
            self._styles.append(int(given.get("numFmtId", 0)))

    def end(self, name: str) -> None:
        if name == "cellXfs":
            self._inside = False

    def found(self) -> tuple[frozenset[int], frozenset[int]]:
        """The styles of dates, and those of durations."""
        plain = {
            key: _NO_DATE_PARTS.sub("", code.lower()).split(";")[0]
            for key, code in self._codes.items()
        }
        days = {key for key, code in plain.items() if re.search("[dmyhs]", code)}
        days |= _DATES - set(plain)
        spans = {key for key in days if "[" in plain.get(key, "")} | ({46} - set(plain))
        numbered = list(enumerate(self._styles))
        return (
            frozenset(style for style, key in numbered if key in days),
            frozenset(style for style, key in numbered if key in spans),
        )
