"""Plain text laid out for people: aligned columns, wrapped sentences, nothing cut off."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

#: Letters of a line, chosen by eye: our widest tables fit, and so does a terminal of 100.
WIDTH = 96
#: Letters of a line of prose without tables; shorter lines are easier to read on from.
PROSE_WIDTH = 88


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns with two spaces between them; a long entry widens its column.

    Examples
    --------
    >>> print(columns(["term", "share"], [["form", "3.6 %"], ["digit", "42 %"]]))
    term   share
    form   3.6 %
    digit  42 %
    """
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    )
    return "\n".join(lines)


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
        WIDTH,
        subsequent_indent=" " * len(hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\N{NO-BREAK SPACE}%", " %")


def prose(text: str, mark: str = "", **how: Any) -> str:
    """Wrap prose to a width that reads well; ``mark`` begins it, as ``"- "`` an item of a list.

    Examples
    --------
    >>> prose("a note", "- ")
    '- a note'
    """
    after = " " * len(mark)
    return textwrap.fill(text, PROSE_WIDTH, initial_indent=mark, subsequent_indent=after, **how)


def headings(header: Sequence[str]) -> list[tuple[str, str]]:
    """The columns of a table whose first column holds words, the others numbers.

    Examples
    --------
    >>> headings(["batch", "mean"])
    [('batch', ''), ('mean', 'n')]
    """
    return [(name, "n" if place else "") for place, name in enumerate(header)]
