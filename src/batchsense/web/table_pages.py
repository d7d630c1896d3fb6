"""The two steps that diagnose and correct share: files first, then the columns of the sheet."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from batchsense.errors import BatchsenseError
from batchsense.web.answers import answer_routes, begin, last_choice
from batchsense.web.jobs import Work
from batchsense.web.pages import error_page, page, typed_error_page
from batchsense.web.sheet_columns import sheet_columns
from batchsense.web.table_choice import DEFAULT_PERMUTATIONS, TableChoice
from batchsense.web.uploads import Upload, receive_upload
from batchsense.web.visitors import Visitors

_DIGITS = "digits"
_MOST_FIELDS = 5000


def table_routes(command: str, work_on: Callable[[TableChoice, str], Work]) -> list[Route]:
    """Make the routes of a command that reads a matrix and a sheet.

    Parameters
    ----------
    command : str
        The command.
    work_on : callable
        Takes the choice and the visitor's folder, gives the calculation.

    Returns
    -------
    list of Route
        The form of the files, that of the columns, and the answer.
    """

    async def files(request: Request) -> Response:
        visitor = request.app.state.visitors.find(request)
        upload = None if visitor is None else visitor.upload
        return page("files.html.j2", command, upload=upload, limit=request.app.state.limit)

    async def send(request: Request) -> Response:
        visitors: Visitors = request.app.state.visitors
        visitor = visitors.welcome(request)
        limit = request.app.state.limit
        try:
            upload = await receive_upload(request, visitor.folder, limit)
        except BatchsenseError as error:
            answer: Response = typed_error_page(error, command, f"/{command}")
            return visitors.remember(visitor, answer)
        visitor.take(upload)
        visitors.trim(visitor)
        return visitors.remember(visitor, RedirectResponse(f"/{command}/columns", 303))

    async def columns(request: Request) -> Response:
        builtin = request.query_params.get("data") == _DIGITS
        upload = None if builtin else _upload(request)
        if upload is None and not builtin:
            return _no_files(command)
        try:
            found = await run_in_threadpool(sheet_columns, upload)
        except BatchsenseError as error:
            return typed_error_page(error, command, f"/{command}")
        last = last_choice(request, command)
        if last is None or last.upload != upload:
            last = _first_choice(builtin)
        return page(
            "columns.html.j2",
            command,
            upload=upload,
            columns=found,
            chosen=last,
            permutations=DEFAULT_PERMUTATIONS,
        )

    async def run(request: Request) -> Response:
        visitors: Visitors = request.app.state.visitors
        async with request.form(max_files=0, max_fields=_MOST_FIELDS) as form:
            builtin = form.get("data") == _DIGITS
            upload = None if builtin else _upload(request)
            if upload is None and not builtin:
                return _no_files(command)
            back = f"/{command}/columns" + (f"?data={_DIGITS}" if builtin else "")
            try:
                choice = TableChoice.of(form, upload)
            except BatchsenseError as error:
                return typed_error_page(error, command, back)
        visitor = visitors.welcome(request)
        work = work_on(choice, str(visitor.folder))
        return await begin(request, visitor, command, work, choice)

    return [
        Route(f"/{command}", files),
        Route(f"/{command}/files", send, methods=["POST"]),
        Route(f"/{command}/columns", columns),
        Route(f"/{command}/run", run, methods=["POST"]),
        *answer_routes(command, f"/{command}/again"),
        Route(f"/{command}/again", _again(command)),
    ]


def _again(command: str) -> Callable[[Request], object]:
    """Lead back to the columns of what was calculated last."""

    async def again(request: Request) -> Response:
        last = last_choice(request, command)
        builtin = last is not None and last.upload is None
        return RedirectResponse(f"/{command}/columns" + (f"?data={_DIGITS}" if builtin else ""))

    return again


def _upload(request: Request) -> Upload | None:
    """Give the visitor's files."""
    visitor = request.app.state.visitors.find(request)
    return None if visitor is None else visitor.upload


def _first_choice(builtin: bool) -> TableChoice:
    """Give what the form shows at first: nothing chosen, or the columns of the digits."""
    if not builtin:
        return TableChoice(None, "")
    from batchsense.experiments.builtin import BATCH_COLUMN, KEPT_COLUMN

    return TableChoice(None, BATCH_COLUMN, (KEPT_COLUMN,))


def _no_files(command: str) -> Response:
    """Say that the files are not here."""
    return error_page(
        404,
        "There are no files here",
        "Either none were sent yet, or they were deleted: that happens an hour after your last "
        "visit, and when batchsense web ends. Send them again.",
        command,
        f"/{command}",
    )
