"""The engine of the reports: one self-contained page from a template, figures and the numbers.

A page needs no network, no script and no other file. The numbers it shows are those of the
``--json`` document, which it carries whole, so that a program can read the report as well.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsense.reports import wording
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.style import figure_of
from batchsense.reports.saving import Save, saves
from batchsense.reports.svg import inline_svg

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.axes import Axes

#: The largest page that is written, in bytes.
LARGEST_PAGE = 1_500_000
#: The element of the page that holds the ``--json`` document.
NUMBERS_ID = "batchsense-numbers"

_NAMED_VERSIONS = ("numpy", "scipy", "pandas", "scikit-learn", "torch", "anndata", "matplotlib")


@dataclass(frozen=True, slots=True)
class DataTable:
    """The numbers of a figure."""

    caption: str  #: What the numbers are
    #: Heading, and "n" for a column of numbers or "" for one of words.
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]  #: The cells; the first of each row is its name
    folded: bool = False  #: Whether it is shown only when the reader opens it


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of a page: the drawing, what it shows and what it says."""

    name: str  #: Unique within the page; prefix of the ids inside the drawing
    title: str  #: What is shown, in a few words
    finding: str  #: What the figure says, in one or two sentences; also its text alternative
    svg: str  #: The drawing as an ``<svg>`` element
    #: Its numbers, shown below it; left out where the page has them in its own words.
    table: DataTable | None = None
    saves: tuple[Save, ...] = ()  #: Links that save the drawing and its numbers

    @classmethod
    def of(
        cls, ax: Axes, name: str, title: str, finding: str, table: DataTable | None = None
    ) -> Picture:
        """Write the figure that holds the axes."""
        svg = inline_svg(figure_of(ax), name, title, finding)
        return cls(name, title, finding, svg, table, saves(ax, name, svg))


def render(
    room: str,
    envelope: Envelope[Any],
    command_line: str | None = None,
    template: str = "report.html.j2",
    **context: Any,
) -> str:
    """Render one self-contained page of a template in the folder of the module ``room``."""
    text = (
        _environment(Path(room).parent)
        .get_template(template)
        .render(
            envelope=envelope,
            result=envelope.result,
            numbers_id=NUMBERS_ID,
            numbers=embeddable(envelope.to_json()),
            versions=versions(),
            command_line=command_line or f"batchsense {envelope.command}",
            **context,
        )
    )
    for kind in ("csv", "png", "svg"):
        if len(text.encode()) <= LARGEST_PAGE:
            break
        # Names as long as a page: the figure stays, what would save it goes.
        text = re.sub(rf'<a download="[^"]*\.{kind}"[^>]*>[^<]*</a>', f"({kind}: too large)", text)
    if (length := len(text.encode())) > LARGEST_PAGE:
        raise ValueError(f"the page has {length:,} bytes; at most {LARGEST_PAGE:,} are allowed")
    return text


def plain_page(envelope: Envelope[Any], text: str, command_line: str) -> str:
    """The page of an answer that has none of its own: what the command prints, and the numbers."""
    return render(__file__, envelope, command_line, "plain.html.j2", text=text)


def embeddable(document: str) -> str:
    r"""Write JSON so that it can stand inside a script element and still mean the same."""
    return document.replace("<", "\\u003c")


def versions(names: Sequence[str] = _NAMED_VERSIONS) -> dict[str, str]:
    """The versions of Python and of the packages that computed, without importing them."""
    import platform

    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


_UNIT = re.compile(r"(?<=\d) (?=(?:%|µs|ms|s|min|h|B|kB|MB|GB)(?![\w]))")
_CODE = re.compile(r"`([^`]+)`")


def _unbroken(value: object) -> object:
    """Keep a number and its unit on one line; leave finished markup alone."""
    from markupsafe import Markup

    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNIT.sub("\N{NO-BREAK SPACE}", value)
    return value


def _with_code(text: str) -> str:
    """Set what stands between backticks as code, everything else as text."""
    from markupsafe import Markup, escape

    unbroken = _UNIT.sub("\N{NO-BREAK SPACE}", text)
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(unbroken))))


@functools.cache
def _environment(room: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([room, Path(__file__).with_name("templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_unbroken,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=wording.number,
        percent=wording.percent,
        ratio=wording.ratio,
        seconds=wording.seconds,
        size=wording.size,
        with_interval=wording.with_interval,
        estimate=wording.estimate,
        with_code=_with_code,
    )
    environment.globals["span"] = wording.span
    return environment
