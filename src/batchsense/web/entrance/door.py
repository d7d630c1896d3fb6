"""The key: a server on this machine can be reached by every account of the machine.

The printed address carries a token, which opens the door once and leaves a cookie behind. Every
request without the cookie is refused, whatever it asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from batchsense.web.entrance.guard import discard
from batchsense.web.pages import error_page

_FIELD = "token"
#: What a stranger sends is thrown away up to here, so that the browser shows the answer.
_DISCARDED = 5_000_000
_DISCARDED_S = 5.0


class Door:
    """Who holds the key of this server; ``told`` is given the next path when one was used up."""

    def __init__(self, told: Callable[[str], None] | None = None) -> None:
        self._told = told
        self._key = secrets.token_urlsafe(32)
        self._token = secrets.token_urlsafe(32)

    @property
    def path(self) -> str:
        """The path that opens the door, once."""
        return "/?" + urlencode({_FIELD: self._token})

    def opens(self, token: str) -> bool:
        """Whether a token opens the door; it then never does again."""
        if not _same(token, self._token):
            return False
        self._token = secrets.token_urlsafe(32)
        if self._told is not None:
            self._told(self.path)
        return True

    def knows(self, request: Request) -> bool:
        """Whether a request brings the key."""
        return _same(request.cookies.get(_cookie(request), ""), self._key)

    def let_in(self, request: Request) -> RedirectResponse:
        """Hand over the key, and lead to the same page without the token in its address."""
        answer = RedirectResponse(request.url.path, 303)
        # Lax: a link to this server, from a terminal or a page of notes, is followed with the key.
        # What changes anything must come from our own pages besides.
        answer.set_cookie(_cookie(request), self._key, path="/", httponly=True, samesite="lax")
        return answer


class Locked:
    """Refuse every request without the key."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, hand over the key, or answer with 403."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        token = parse_qs(scope["query_string"].decode("latin-1")).get(_FIELD, [""])[0]
        if scope["method"] == "GET" and token and self._may_pass(request, token):
            await self.door.let_in(request)(scope, receive, send)
        elif self.door.knows(request):
            await self.app(scope, receive, send)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(discard(receive, _DISCARDED), _DISCARDED_S)
            page = error_page(
                403,
                "This server does not know you",
                "Open the address that the terminal shows; each one lets one browser in, and the "
                "next one then stands below it.",
            )
            page.headers["Connection"] = "close"
            await page(scope, receive, send)

    def _may_pass(self, request: Request, token: str) -> bool:
        return self.door.knows(request) or self.door.opens(token)


def _cookie(request: Request) -> str:
    """Cookies are shared by all ports of a machine: each server has one of its own."""
    return f"batchsense_key_{request.scope['server'][1]}"


def _same(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(), wanted.encode())
