"""Clients that keep a server waiting, each in its own way, and come back when they are dropped."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from dataclasses import dataclass, field

_HEAD = "POST /diagnose/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n"
_KINDS = ("silent", "headers", "body of a stranger", "body with the key", "reader")


@dataclass
class SlowClients:
    """So many slow clients of a server on this machine, in a thread of their own.

    Attributes
    ----------
    port : int
        Where the server listens.
    cookie : str
        The key, for those who have it.
    most : int
        How many there are at a time.
    """

    port: int
    cookie: str
    most: int = 300
    open: int = 0
    most_open: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> SlowClients:
        """Let them come."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send them away."""
        self._over.set()
        self._thread.join()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(_KINDS[i % len(_KINDS)]) for i in range(self.most)))

    async def _one(self, kind: str) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
                self.open += 1
                self.most_open = max(self.open, self.most_open)
                try:
                    await self._dawdle(kind, reader, writer)
                finally:
                    self.open -= 1
                    self.ended[kind] += 1
                    writer.close()
            await asyncio.sleep(0.5)

    async def _dawdle(
        self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        origin = f"Origin: http://127.0.0.1\r\nCookie: {self.cookie}\r\n"
        form = "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        part = 'Content-Disposition: form-data; name="matrix"; filename="m.csv"\r\n\r\n'
        start = {
            "silent": "",
            "headers": "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-",
            "body of a stranger": _HEAD + form + part,
            "body with the key": _HEAD + origin + form + part,
            "reader": f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{origin}\r\n" * 200,
        }[kind]
        writer.write(start.encode())
        while not self._over.is_set() and not reader.at_eof() and not writer.is_closing():
            await asyncio.sleep(1)
            if kind not in ("silent", "reader"):
                writer.write(b"a")
                await writer.drain()
            if kind != "reader":
                with contextlib.suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(1024), 0.01):
                        return
