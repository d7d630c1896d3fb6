"""The application: routes, error pages, and the guards around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from batchsense.errors import BatchsenseError
from batchsense.web.apart import BrokenError, warm_up
from batchsense.web.entrance.bodies import TooSlowError
from batchsense.web.entrance.door import Door, Locked
from batchsense.web.entrance.guard import Guard, SafeHeaders, TooLargeError, too_slow_page
from batchsense.web.entrance.hosts import OwnNames
from batchsense.web.files.uploads import UNFOLDED
from batchsense.web.home import ROUTES as HOME
from batchsense.web.pages import FAVICON, error_page, too_large_page, typed_error_page
from batchsense.web.question_pages import question_routes
from batchsense.web.readers import Readers
from batchsense.web.visitors import Visitors

#: The largest upload that is accepted unless another limit is given, in bytes.
LIMIT = 200_000_000
#: What is kept of all visitors, in limits: the largest thing that unfolds, and some more.
_KEPT = UNFOLDED + 5
# Files live for an hour; a minute more or less does not matter.
_SWEEP_EVERY_S = 60.0
_PHRASES = {
    404: ("There is no such page", "The address is misspelt or out of date."),
    405: ("This address takes no such request", "Start from one of the pages above."),
}


def create_app(
    door: Door,
    limit: int = LIMIT,
    hosts: Sequence[str] = (),
    visitors: Visitors | None = None,
    readers: Readers | None = None,
) -> ASGIApp:
    """Make the web application behind a door.

    ``limit`` is the largest upload in bytes; ``hosts`` are names under which it answers, beside
    those of the machine itself. What is kept of visitors is by default up to fifteen times the
    limit.
    """
    known = Visitors(capacity=_KEPT * limit) if visitors is None else visitors

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(known))
        warm_up()
        try:
            yield
        finally:
            sweeping.cancel()
            known.close()

    routes = [
        *HOME,
        *question_routes(),
        Route("/favicon.svg", _favicon),
        Route("/favicon.ico", _favicon),
    ]
    inner = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _http_error,
            TooLargeError: _too_large,
            TooSlowError: _too_slow,
            ClientDisconnect: _broken_off,
            BatchsenseError: _typed_error,
            Exception: _bug,
        },
    )
    inner.state.visitors = known
    inner.state.limit = limit
    inner.state.readers = Readers(limit) if readers is None else readers
    return SafeHeaders(OwnNames(Locked(Guard(inner, limit), door), hosts))


async def _sweep(visitors: Visitors) -> None:
    while True:
        await asyncio.sleep(_SWEEP_EVERY_S)
        visitors.expire()


async def _favicon(_: Request) -> Response:
    return FileResponse(FAVICON, media_type="image/svg+xml")


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title, message = _PHRASES.get(error.status_code, ("The form could not be read", error.detail))
    return error_page(error.status_code, title, message)


async def _too_large(request: Request, error: Exception) -> Response:
    """Answer an upload that grew over the limit while it came in, or would when unfolded."""
    assert isinstance(error, TooLargeError)
    return too_large_page(request.app.state.limit, request.url.path, error.unfolded)


async def _too_slow(_: Request, __: Exception) -> Response:
    """Answer an upload that came to a halt."""
    return too_slow_page()


async def _broken_off(_: Request, __: Exception) -> Response:
    """End an upload whose sender has gone; nobody reads the answer."""
    return error_page(400, "The upload was broken off", "Send the form again.")


async def _typed_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, BatchsenseError)
    return typed_error_page(error)


async def _bug(_: Request, error: Exception) -> Response:
    kind = error.kind if isinstance(error, BrokenError) else type(error).__name__
    return error_page(
        500,
        "Something went wrong inside batchsense",
        f"{kind}. This is a bug of batchsense, not of your data; the terminal that runs batchsense "
        "web says more. Please report it.",
    )
