"""``batchsense web``: the commands as pages in a browser on this machine."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from typing import Annotated, Any

import typer

from batchsense.cli.console import say, verbosity, write_answer
from batchsense.errors import MissingExtraError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
#: Open calculations get so many seconds when the server is told to end.
_GRACE_S = 1


def web(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 8000,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; any but your own machine's is open to others."),
    ] = "127.0.0.1",
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Show the page in the default browser.")
    ] = False,
    limit: Annotated[
        str, typer.Option(metavar="BYTES", help="Largest upload, for example 200MB or 1GB.")
    ] = "200MB",
) -> None:
    """Serve every question as a page, for a browser on this machine.

    Prints the address and runs until Ctrl-C. Files that are sent stay on this machine and are
    deleted afterwards. The pages work without JavaScript and load nothing from the network.

    \b
    Examples:
      batchsense web
      batchsense web --port 0 --open
      batchsense web --limit 1GB
    """
    most = _bytes(limit)
    try:
        import python_multipart  # noqa: F401
        import uvicorn
        from starlette.applications import Starlette  # noqa: F401
    except ImportError:
        raise MissingExtraError("Web pages", "web") from None
    from batchsense.web import create_app
    from batchsense.web.guard import LOCAL_HOSTS

    listening = _listen(host, port)
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}/"
    if not _address(listening.getsockname()).is_loopback:
        say(f"{host} can be reached by others: they need no password to use these pages.")
    app = create_app(limit=most, hosts=(*LOCAL_HOSTS, host, name))
    settings = uvicorn.Config(
        app,
        log_level="info" if verbosity.level > 0 else "error",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    write_answer(address)
    say("Ctrl-C ends it.")
    if open_page:
        import webbrowser

        webbrowser.open(address)  # the socket listens already: an early request waits in line
    try:
        uvicorn.Server(settings).run(sockets=[listening])
    except KeyboardInterrupt:
        say("batchsense web has ended; uploaded files are deleted.")
    finally:
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    """Take the address; say plainly why it cannot be had."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a name"
        raise typer.BadParameter(f"--host: no address {host!r}: {reason}") from None
    # What the address is tells, not how it is spelt: "0", "0x0" and "::0" are every address too.
    if not host or _address(where).is_unspecified:
        raise typer.BadParameter("--host: name one address; every address at once is not offered")
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except OSError as error:
        listening.close()
        hint = (
            "; choose another --port, or --port 0 for any free one"
            if error.errno == errno.EADDRINUSE
            else ""
        )
        raise typer.BadParameter(
            f"cannot listen on {host} port {port}: {error.strerror}{hint}"
        ) from None
    return listening


def _address(where: tuple[Any, ...]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a socket; one of version 4 that is written in version 6 is unwrapped."""
    address = ipaddress.ip_address(str(where[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _bytes(text: str) -> int:
    """Read an amount of bytes in powers of 1000.

    Examples
    --------
    >>> _bytes("200MB"), _bytes("1.5 GB")
    (200000000, 1500000000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or float(match[1]) * unit < 1:
        raise typer.BadParameter(f"--limit: {text!r} is no amount; write for example 200MB or 1GB")
    return int(float(match[1]) * unit)
