"""What every request must pass, whatever page it asks for.

A server on this machine is reachable by every page that the user's browser opens. So: a request
that changes anything must come from our own pages, nothing larger than the limit is taken in, and
every answer forbids the browser to load, frame or send anything elsewhere.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
#: The names by which a browser on this machine reaches the server.
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
_CHANGING_NOTHING = ("GET", "HEAD")
#: A refused upload is read and thrown away up to so many times the limit: a browser whose sending
#: is cut off shows "connection reset" instead of the page that explains.
_DISCARDED = 20


class TooLargeError(Exception):
    """The body of a request exceeds the limit.

    Parameters
    ----------
    unfolded : str, optional
        The file that would exceed ten times the limit when it is unfolded.
    """

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
    """Refuse requests from other sites and bodies over the limit.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    limit : int
        The largest body, in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here with 403 or 413."""
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
                await _discard(receive, _DISCARDED * self.limit)
            await too_large_page(self.limit, scope["path"])(scope, receive, send)
            return
        await self.app(scope, _counted(receive, self.limit), send)


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


def _counted(receive: Receive, limit: int) -> Receive:
    """Count what comes in and stop at the limit: a body may have no declared length."""
    seen = 0

    async def counting() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLargeError
        return message

    return counting


async def _discard(receive: Receive, most: int) -> None:
    seen, more = 0, True
    while more and seen <= most:
        message = await receive()
        seen += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
