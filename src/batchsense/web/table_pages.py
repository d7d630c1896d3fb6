"""The two steps of every page that takes files: first the files, then the columns of the sheet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from batchsense.errors import BatchsenseError
from batchsense.web.answers import answer_routes, begin, last_choice
from batchsense.web.jobs import Work
from batchsense.web.pages import error_page, page, typed_error_page
from batchsense.web.sheet_columns import sheet_outline
from batchsense.web.table_choice import FileChoice
from batchsense.web.uploads import (
    MATRIX_KINDS,
    SHEET_KINDS,
    Upload,
    chosen_files,
    keep_files,
)
from batchsense.web.visitors import Visitors

_DIGITS = "digits"
_MOST_FIELDS = 5000


class Choice(Protocol):
    """What a form asks for."""

    @property
    def files(self) -> FileChoice:
        """The files that it is about."""


ChoiceT = TypeVar("ChoiceT", bound=Choice)


@dataclass(frozen=True, slots=True)
class TablePage(Generic[ChoiceT]):
    """What a command's pages differ in.

    Attributes
    ----------
    command : str
        The command; its second form is the template ``COMMAND_columns.html.j2``.
    read : callable
        Takes a form and the files, gives the choice; refuses by a typed error.
    first : callable
        Gives what the form shows at first, for the built-in digits (True) or files (False).
    work_on : callable
        Gives the calculation of a choice.
    takes : str
        ``"table"``: a matrix, perhaps with a sheet, or the built-in digits; ``"sheet"``: a sheet
        alone.
    """

    command: str
    read: Callable[[FormData, Upload | None], ChoiceT]
    first: Callable[[bool], ChoiceT]
    work_on: Callable[[ChoiceT], Work]
    takes: str = "table"


def table_routes(own: TablePage[ChoiceT]) -> list[Route]:
    """Make the routes of a command that reads a matrix or a sheet.

    Parameters
    ----------
    own : TablePage
        The command.

    Returns
    -------
    list of Route
        The form of the files, that of the columns, and the answer.
    """
    command = own.command

    async def files(request: Request) -> Response:
        return page(
            "files.html.j2",
            command,
            takes=own.takes,
            upload=_upload(request, own.takes),
            limit=request.app.state.limit,
            matrix_kinds=MATRIX_KINDS,
            sheet_kinds=SHEET_KINDS,
        )

    async def send(request: Request) -> Response:
        visitors: Visitors = request.app.state.visitors
        limit = request.app.state.limit
        async with request.form(max_files=2, max_fields=4) as form:
            visitor = visitors.welcome(request)
            try:
                matrix, sheet = chosen_files(form, own.takes == "table")
                upload = await run_in_threadpool(keep_files, visitor.folder, matrix, sheet, limit)
            except BatchsenseError as error:
                answer: Response = typed_error_page(error, command, f"/{command}")
                return visitors.remember(visitor, answer)
        if visitor not in visitors:  # forgotten while the files came in
            shutil.rmtree(visitor.folder, ignore_errors=True)
            return _no_files(command)
        visitor.take(own.takes, upload)
        visitors.trim(visitor)
        return visitors.remember(visitor, RedirectResponse(f"/{command}/columns", 303))

    async def columns(request: Request) -> Response:
        builtin = own.takes == "table" and request.query_params.get("data") == _DIGITS
        upload = None if builtin else _upload(request, own.takes)
        if upload is None and not builtin:
            return _no_files(command)
        last = last_choice(request, command)
        if last is None or last.files.upload != upload:
            last = own.first(builtin)
        worksheet = request.query_params.get("worksheet") or last.files.worksheet
        try:
            found = await run_in_threadpool(sheet_outline, upload, worksheet)
        except BatchsenseError as error:
            return typed_error_page(error, command, f"/{command}")
        return page(f"{command}_columns.html.j2", command, upload=upload, found=found, chosen=last)

    async def run(request: Request) -> Response:
        visitors: Visitors = request.app.state.visitors
        async with request.form(max_files=0, max_fields=_MOST_FIELDS) as form:
            builtin = own.takes == "table" and form.get("data") == _DIGITS
            upload = None if builtin else _upload(request, own.takes)
            if upload is None and not builtin:
                return _no_files(command)
            back = f"/{command}/columns" + (f"?data={_DIGITS}" if builtin else "")
            try:
                choice = own.read(form, upload)
            except BatchsenseError as error:
                return typed_error_page(error, command, back)
        visitor = visitors.welcome(request)
        return await begin(request, visitor, command, own.work_on(choice), choice)

    async def again(request: Request) -> Response:
        last = last_choice(request, command)
        builtin = last is not None and last.files.upload is None
        return RedirectResponse(f"/{command}/columns" + (f"?data={_DIGITS}" if builtin else ""))

    return [
        Route(f"/{command}", files),
        Route(f"/{command}/files", send, methods=["POST"]),
        Route(f"/{command}/columns", columns),
        Route(f"/{command}/run", run, methods=["POST"]),
        *answer_routes(command, f"/{command}/again"),
        Route(f"/{command}/again", again),
    ]


def _upload(request: Request, kind: str) -> Upload | None:
    """Give the visitor's files."""
    visitor = request.app.state.visitors.find(request)
    return None if visitor is None else visitor.uploads.get(kind)


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
