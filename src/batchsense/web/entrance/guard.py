"""What every request must pass, whatever page it asks for.

A server on this machine is reachable by every page that the user's browser opens. So: a request
that changes anything must come from our own pages, nothing larger than the limit is taken in, and
every answer forbids the browser to load, frame or send anything elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchsense.web.entrance.bodies import Bodies, Pace, TooManyError, TooSlowError
from batchsense.web.pages import error_page, too_large_page

# Referrer-Policy must not be "no-referrer": browsers would then send "Origin: null" with our forms.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CHANGING_NOTHING = ("GET", "HEAD")
#: A refused upload is read and thrown away up to so many times the limit: a browser whose sending
#: is cut off shows "connection reset" instead of the page that explains.
_DISCARDED = 20
_DISCARDED_S = 60.0
#: A form without files: a thousand columns with three fields each take a tenth.
_LARGEST_FORM = 1_000_000


class TooLargeError(Exception):
    """A body exceeds the limit; or a file (``unfolded``) would, unfolded, ten times it."""

    def __init__(self, unfolded: str | None = None) -> None:
        self.unfolded = unfolded
        super().__init__(unfolded)


class SafeHeaders:
    """Put the protective headers on every answer, those of errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the answer."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, complete if scope["type"] == "http" else send)


class Guard:
    """Refuse requests from other sites, and bodies too large (in bytes) or too slow."""

    def __init__(self, app: ASGIApp, limit: int, pace: Pace | None = None) -> None:
        self.app, self.limit = app, limit
        self._bodies = Bodies(Pace() if pace is None else pace)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here with 403, 408, 413 or 503."""
        if scope["type"] != "http" or scope["method"] in _CHANGING_NOTHING:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not from_own_page(headers, scope["scheme"]):
            page = error_page(
                403,
                "This request came from another site",
                "batchsense takes forms from its own pages only. Open the page anew and send the "
                "form from there; programs use the command line instead.",
            )
            await page(scope, receive, send)
            return
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.limit:
            if "expect" not in headers:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(discard(receive, _DISCARDED * self.limit), _DISCARDED_S)
            await too_large_page(self.limit, scope["path"])(scope, receive, send)
            return
        try:
            async with self._bodies.place(receive) as paced:
                await self.app(scope, self._bounded(headers, paced), send)
        except TooManyError:
            await _busy_page()(scope, receive, send)
        except TooSlowError:
            await too_slow_page()(scope, receive, send)

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        if headers.get("content-type", "").lower().startswith("multipart/"):
            return _counted(receive, self.limit, TooLargeError())
        told = f"Without files it may have {_LARGEST_FORM:,} bytes; this one has more."
        return _counted(receive, _LARGEST_FORM, HTTPException(413, told))


def too_slow_page() -> HTMLResponse:
    """Say that nothing, or hardly anything, came in."""
    page = error_page(
        408,
        "This upload is too slow",
        "It came to a halt, or takes longer than its size explains. Send it again, over another "
        "connection if need be.",
    )
    page.headers["Connection"] = "close"
    return page


def _busy_page() -> HTMLResponse:
    return error_page(
        503, "Too much comes in at once", "Others are sending files. Try again in a minute."
    )


def from_own_page(headers: Headers, scheme: str = "http") -> bool:
    """Whether a request that changes something was sent by a page of this very server.

    Examples
    --------
    >>> from_own_page(Headers({"Host": "localhost:8000", "Origin": "http://localhost:8000"}))
    True
    >>> from_own_page(Headers({"Host": "localhost:8000", "Origin": "http://localhost:8001"}))
    False
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        return False
    if site not in (None, "same-origin"):
        return False
    return origin is None or origin == f"{scheme}://{headers.get('host')}"


def _counted(receive: Receive, limit: int, error: Exception) -> Receive:
    """Count what comes in and stop at the limit: a body may have no declared length."""
    seen = 0

    async def counting() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise error
        return message

    return counting


async def discard(receive: Receive, most: int) -> None:
    """Read the rest of a request and throw it away, so many bytes at most."""
    seen, more = 0, True
    while more and seen <= most:
        message = await receive()
        seen += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
