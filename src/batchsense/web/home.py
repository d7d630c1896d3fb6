"""The first page: what there is, where to begin, and what is kept of a visitor."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from batchsense.web.entrance.hosts import address_of
from batchsense.web.pages import page
from batchsense.web.visitors import COOKIE


async def show(request: Request) -> Response:
    """Show the page."""
    visitor = request.app.state.visitors.find(request)
    files = () if visitor is None else visitor.names
    machine = request.url.hostname or ""
    # Which address was reached tells, not how it was spelt.
    reached = address_of(request.scope["server"][0])
    local = reached is not None and reached.is_loopback
    known = visitor is not None
    return page("home.html.j2", "home", known=known, files=files, machine=machine, local=local)


async def forget(request: Request) -> Response:
    """Delete what is kept of the visitor."""
    visitor = request.app.state.visitors.find(request)
    if visitor is not None:
        request.app.state.visitors.forget(visitor)
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


ROUTES = [Route("/", show), Route("/forget", forget, methods=["POST"])]
