"""Templates and the pages that every part needs: errors, refusals, the bar above a report."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse

from batchsense import __version__
from batchsense.errors import BatchsenseError, DataError, RequestError
from batchsense.questions.registry import QUESTIONS

if TYPE_CHECKING:
    from jinja2 import Environment

    from batchsense.web.apart import ExceededError

FAVICON = Path(__file__).with_name("favicon.svg")
#: The commands, in the order of the navigation, with what their buttons say.
OFFERED = {command: question for command, question in QUESTIONS.items() if question.in_browser}
COMMANDS = {command: command.capitalize() for command in OFFERED}


def page(template: str, here: str = "", status: int = 200, **context: Any) -> HTMLResponse:
    """Render a page of the application."""
    text = _environment().get_template(template).render(here=here, version=__version__, **context)
    return HTMLResponse(text, status_code=status)


def error_page(
    status: int, title: str, message: str, here: str = "", back: str | None = None
) -> HTMLResponse:
    """Say what went wrong and what to do, in words."""
    return page(
        "error.html.j2", here, status, title=title, message=message, back=back, number=status
    )


def typed_error_page(
    error: BatchsenseError, here: str = "", back: str | None = None
) -> HTMLResponse:
    """Show a typed error: 422 where the data cannot be used, 501 where an extra is missing."""
    if isinstance(error, DataError):
        # A place, such as the name of a file, stays as it is written.
        text = str(error) if error.where else error.message[:1].upper() + error.message[1:]
        return error_page(422, "The data cannot be used as they are", text, here, back)
    if isinstance(error, RequestError):
        return error_page(422, "This choice cannot be answered", error.message, here, back)
    return error_page(501, "This needs a part that is not installed", str(error), here, back)


def too_large_page(limit: int, path: str, unfolded: str | None = None) -> HTMLResponse:
    """Say that an upload is too large, what the limit is, and what works instead."""
    first = path.strip("/").split("/")[0]
    here = first if first in COMMANDS else ""
    what = f"The limit is {readable_bytes(limit)} for all files together."
    if unfolded is not None:
        what += f" {unfolded} is smaller, but unfolds to more than ten times as much."
    files = "SHEET" if here == "layout" else "MATRIX SHEET"
    return error_page(
        413,
        "This upload is too large",
        f"{what} Start batchsense web with a higher --limit, or use the command line, which reads "
        f"the files where they lie: batchsense {here or 'diagnose'} {files}",
        here,
        f"/{here}" if here else None,
    )


_EXCEEDED = {
    "memory": (
        "This takes too much memory",
        "Reading these files, or calculating with them, takes more memory than files from a "
        "browser may. Take fewer features, start batchsense web with a higher --memory, or use the "
        "command line, where no such bound holds.",
    ),
    "time": (
        "Reading these files takes too long",
        "They were not read in the time that files from a browser have. Take fewer features, "
        "another format such as .parquet, or the command line, where no such bound holds.",
    ),
    "disk": (
        "There is not enough room",
        "The result is larger than files here may be, or than the disk has room for. Take fewer "
        "features, start batchsense web with a higher --limit, or use the command line.",
    ),
    "end": (
        "Reading these files ended early",
        "The process that read them was ended from outside: for lack of memory on this machine, or "
        "because a library broke on a damaged file. Save the files anew, or try the command line.",
    ),
}


def exceeded_page(error: ExceededError, here: str = "", back: str | None = None) -> HTMLResponse:
    """Say that files take more than they may, and what works instead."""
    return error_page(413, *_EXCEEDED[error.what], here, back)


def full_page(here: str = "", back: str | None = None) -> HTMLResponse:
    """Say that others have all the room, and keep it."""
    return error_page(
        503,
        "There is no room at present",
        "Other visitors are here, and what they sent is kept. Come back in some minutes, or start "
        "batchsense web with a higher --limit.",
        here,
        back,
    )


def readable_bytes(amount: int) -> str:
    """Write an amount of bytes in the unit that suits it, powers of 1000.

    Examples
    --------
    >>> readable_bytes(200_000_000), readable_bytes(1500), readable_bytes(12)
    ('200 MB', '1.5 kB', '12 B')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if amount >= size:
            return f"{amount / size:.4g} {unit}"
    return f"{amount} B"


def with_bar(report: str, here: str, file: str | None = None) -> str:
    """Put the navigation and the downloads above a report."""
    bar = _environment().get_template("bar.html.j2").render(here=here, file=file)
    style = _environment().get_template("bar.css.j2").render()
    for place, addition in (("</style>", style), ("<header>", bar)):
        if place not in report:
            raise ValueError(f"the report has no {place}")
        report = report.replace(place, addition + place, 1)
    return report


@functools.cache
def _environment() -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loaders = [
        PackageLoader("batchsense.web", "templates"),
        PackageLoader("batchsense.reports", "templates"),
    ]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = readable_bytes
    environment.globals["commands"] = COMMANDS
    environment.globals["questions"] = OFFERED
    return environment
