"""The names under which the server answers, and what its address says of who can reach it.

A foreign name that resolves to this machine would let the page of that name read our pages (DNS
rebinding). So names must be known. An address in figures is nobody's name; it is compared by its
value, in whatever way it is written.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(text: object) -> Address | None:
    """Read an address in figures; one of version 4 written in version 6 is unwrapped.

    Examples
    --------
    >>> address_of("::ffff:127.0.0.1"), address_of("fe80::1%eth0"), address_of("localhost")
    (IPv4Address('127.0.0.1'), IPv6Address('fe80::1'), None)
    """
    try:
        address = ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def in_address(address: Address) -> str:
    """Write an address as it stands in the address line of a browser.

    Examples
    --------
    >>> in_address(ipaddress.ip_address("::1"))
    '[::1]'
    """
    return f"[{address}]" if address.version == 6 else str(address)


def host_of(header: str) -> str | None:
    """The host that a Host header names, without port, final dot and case; None if it is none.

    Examples
    --------
    >>> host_of("LOCALHOST.:8000"), host_of("[::1]:80"), host_of("user@localhost"), host_of("")
    ('localhost', '::1', None, None)
    """
    if header.startswith("["):
        host, bracket, rest = header[1:].partition("]")
        if not bracket or address_of(host) is None:
            return None
    else:
        host, colon, port = header.partition(":")
        rest = colon + port
    if rest and not (rest[0] == ":" and (rest[1:].isdecimal() or rest == ":") and rest.isascii()):
        return None
    host = host.lower().removesuffix(".")
    plain = host.isascii() and all(sign.isalnum() or sign in "-._:%" for sign in host)
    return host if host and plain else None


class OwnNames:
    """Refuse requests to names that are neither this machine's nor among ``hosts``."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self.app = app
        known = [(host.strip("[]").lower(), address_of(host.strip("[]"))) for host in hosts]
        self.names = {"localhost", *(name for name, address in known if address is None)}
        self.addresses = {address for _, address in known if address is not None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 400."""
        if scope["type"] == "http" and not self.known(Headers(scope=scope)):
            answer = PlainTextResponse("Invalid host header", 400, {"Connection": "close"})
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def known(self, headers: Headers) -> bool:
        """Whether the one name that a request gives is ours.

        Examples
        --------
        >>> own = OwnNames(app=None, hosts=["lab.example.org"])
        >>> [own.known(Headers({"Host": host})) for host in ("127.8.9.1:80", "evil.example.org")]
        [True, False]
        """
        given = headers.getlist("host")
        host = host_of(given[0]) if len(given) == 1 else None
        if host is None:
            return False
        address = address_of(host)
        if address is None:
            return host in self.names
        return address.is_loopback or address in self.addresses
