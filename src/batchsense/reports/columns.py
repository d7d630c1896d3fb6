"""Plain text laid out for people: aligned columns, wrapped sentences, nothing cut off."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: Letters of a line, chosen by eye: our widest tables fit, and so does a terminal of 100.
WIDTH = 96
#: Letters of a line of prose without tables; shorter lines are easier to read on from.
PROSE_WIDTH = 88
#: Letters of a line of the terminal that is written to; None where there is none.
_TERMINAL: ContextVar[int | None] = ContextVar("terminal", default=None)


@contextmanager
def for_terminal(width: int | None) -> Iterator[None]:
    """Lay out what is written in this block for lines of so many letters."""
    token = _TERMINAL.set(width)
    try:
        yield
    finally:
        _TERMINAL.reset(token)


def one_line(text: str, source: str = "") -> str:
    """The answer of a text: its verdict, else its first paragraph without the source's line."""
    paragraphs = text.strip().split("\n\n")
    chosen = next((one for one in paragraphs if one.startswith("Verdict: ")), paragraphs[0])
    lines = chosen.splitlines()
    if source and len(lines) > 1 and lines[0].startswith(f"{source}: "):
        lines = lines[1:]
    return " ".join(line.strip() for line in lines)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], rule: bool = False) -> str:
    """Align columns with two spaces between them; a long entry widens its column.

    On a terminal that is too narrow entries are wrapped in their column; nothing is cut off. Where
    there is room, ``rule`` sets the header off by a line.
    """
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    room = _TERMINAL.get()
    if room is not None and sum(widths) + 2 * (len(widths) - 1) > room:
        return _wrapped(header, rows, room)
    if rule:
        rows = [["─" * width for width in widths], *rows]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    )
    return "\n".join(lines)


def _wrapped(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for name in header:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    page = io.StringIO()
    Console(file=page, width=width, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _line(most: int) -> int:
    return min(most, _TERMINAL.get() or most)


def paragraph(text: str, hanging: str = "") -> str:
    """Wrap a sentence between words; later lines are indented as far as ``hanging`` is long.

    A number and its per cent sign stay together.

    Examples
    --------
    >>> print(paragraph("- a note", hanging="- "))
    - a note
    """
    filled = textwrap.fill(
        text.replace(" %", "\N{NO-BREAK SPACE}%"),
        _line(WIDTH),
        subsequent_indent=" " * len(hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\N{NO-BREAK SPACE}%", " %")


def prose(text: str, mark: str = "", **how: Any) -> str:
    """Wrap prose to a width that reads well; ``mark`` begins it, as ``"- "`` an item of a list."""
    after = " " * len(mark)
    return textwrap.fill(
        text, _line(PROSE_WIDTH), initial_indent=mark, subsequent_indent=after, **how
    )


def headings(header: Sequence[str]) -> list[tuple[str, str]]:
    """The columns of a table whose first column holds words, the others numbers."""
    return [(name, "n" if place else "") for place, name in enumerate(header)]
