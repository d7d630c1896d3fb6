"""``batchsense web``: the commands as pages in a browser on this machine."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchsense.cli.console import say, verbosity, write_answer
from batchsense.errors import DataError, MissingExtraError
from batchsense.machine_memory import parse_bytes

if TYPE_CHECKING:
    from batchsense.web.entrance.hosts import Address

#: Open calculations get so many seconds when the server is told to end.
_GRACE_S = 1
#: An address in any of its spellings, such as 127.1 and 0x7f000001.
_FIGURES = re.compile(r"(0[xX][0-9a-fA-F]*|\d+)(\.(0[xX][0-9a-fA-F]*|\d+)){0,3}")


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
    memory: Annotated[
        str,
        typer.Option(
            metavar="BYTES",
            help="Memory for a calculation, beyond ten times what was sent; for example 4GB.",
        ),
    ] = "400MB",
) -> None:
    """Serve every question as a page, for a browser on this machine.

    Prints an address that lets one browser in, and runs until Ctrl-C. Files that are sent stay on
    this machine and are deleted afterwards. The pages work without JavaScript and load nothing from
    the network.

    \b
    Examples:
      batchsense web
      batchsense web --port 0 --open
      batchsense web --limit 1GB
    """
    most, room = _amount("--limit", limit), _amount("--memory", memory)
    try:
        import python_multipart  # noqa: F401
        import uvicorn
        from starlette.applications import Starlette  # noqa: F401
    except ImportError:
        raise MissingExtraError("Web pages", "web") from None
    from batchsense.web import Door, Readers, create_app
    from batchsense.web.entrance.connections import Patience, bounded
    from batchsense.web.entrance.hosts import in_address

    listening = _listen(host, port)
    reached = _address(listening.getsockname())
    name = in_address(reached) if ":" in host or _FIGURES.fullmatch(host) else host
    base = f"http://{name}:{listening.getsockname()[1]}"
    if not reached.is_loopback:
        say(
            f"{host} can be reached by others: whoever has the address below may use these pages, "
            "and what is sent is not encrypted."
        )
    door = Door(lambda path: say(f"Opened by one browser. For another one: {base}{path}"))
    app = create_app(door, most, (host, str(reached)), readers=Readers(most, room))
    settings = uvicorn.Config(
        app,
        http=bounded(Patience()),
        ws="none",
        log_level="info" if verbosity.level > 0 else "error",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    write_answer(base + door.path)
    say("Ctrl-C ends it.")
    try:
        with _shown(base + door.path) if open_page else contextlib.nullcontext():
            uvicorn.Server(settings).run(sockets=[listening])
    except KeyboardInterrupt:
        say("batchsense web has ended; uploaded files are deleted.")
    finally:
        listening.close()


@contextlib.contextmanager
def _shown(address: str) -> Iterator[None]:
    """Show the page in a browser; other accounts could read an address among its arguments."""
    import tempfile
    import webbrowser

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "open.html")
        page.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">'
            f'<a href="{address}">batchsense</a>'
        )
        webbrowser.open(page.as_uri())  # the socket listens already: an early request waits
        yield


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


def _address(where: tuple[Any, ...]) -> Address:
    """The address of a socket."""
    from batchsense.web.entrance.hosts import address_of

    address = address_of(where[0])
    assert address is not None
    return address


def _amount(option: str, text: str) -> int:
    """Read an amount of bytes."""
    try:
        amount = parse_bytes(text)
    except DataError as error:
        raise typer.BadParameter(f"{option}: {error.message}") from None
    if amount < 1:
        raise typer.BadParameter(f"{option}: {text!r} is less than a byte")
    return amount
