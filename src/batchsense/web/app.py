"""The application: routes, error pages, and the guards around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from batchsense.errors import BatchsenseError
from batchsense.web.guard import LOCAL_HOSTS, Guard, SafeHeaders, TooLargeError
from batchsense.web.home import ROUTES as HOME
from batchsense.web.pages import FAVICON, error_page, too_large_page, typed_error_page
from batchsense.web.question_pages import question_routes
from batchsense.web.visitors import Visitors

#: The largest upload that is accepted unless another limit is given, in bytes.
LIMIT = 200_000_000
# Files live for an hour; a minute more or less does not matter.
_SWEEP_EVERY_S = 60.0
_PHRASES = {
    404: ("There is no such page", "The address is misspelt or out of date."),
    405: ("This address takes no such request", "Start from one of the pages above."),
}


def create_app(
    limit: int = LIMIT, hosts: Sequence[str] = LOCAL_HOSTS, visitors: Visitors | None = None
) -> ASGIApp:
    """Make the web application.

    Examples
    --------
    >>> from starlette.testclient import TestClient
    >>> with TestClient(create_app(), base_url="http://127.0.0.1") as browser:
    ...     browser.get("/").status_code, browser.get("/", headers={"Host": "a.org"}).status_code
    (200, 400)
    """
    known = Visitors(capacity=5 * limit) if visitors is None else visitors

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(known))
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
            ClientDisconnect: _broken_off,
            BatchsenseError: _typed_error,
            Exception: _bug,
        },
    )
    inner.state.visitors = known
    inner.state.limit = limit
    guarded = Guard(inner, limit)
    return SafeHeaders(TrustedHostMiddleware(guarded, list(hosts), www_redirect=False))


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


async def _broken_off(_: Request, __: Exception) -> Response:
    """End an upload whose sender has gone; nobody reads the answer."""
    return error_page(400, "The upload was broken off", "Send the form again.")


async def _typed_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, BatchsenseError)
    return typed_error_page(error)


async def _bug(_: Request, error: Exception) -> Response:
    return error_page(
        500,
        "Something went wrong inside batchsense",
        f"{type(error).__name__}. This is a bug of batchsense, not of your data; the terminal that "
        "runs batchsense web says more. Please report it.",
    )
