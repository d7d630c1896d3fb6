"""Bodies of requests: how many come in at a time, and how fast each must.

Each takes some megabytes of memory and up to the limit on the disk. Who hardly sends takes no
place: the beginning is read before. Where too many come in, the slowest gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starlette.types import Message, Receive

_MOST = 8
#: So much of a body is read before it needs a place; as much waits in every connection anyhow.
_AHEAD = 65_536
#: Younger ones had no time to show how fast they are.
_YOUNG_S = 1.0


class TooSlowError(Exception):
    """The body of a request does not come in, or hardly."""


class TooManyError(Exception):
    """Too many bodies come in, and all at a good pace."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the body of a request must come in."""

    idle_s: float = 20.0  #: Seconds without a byte
    grace_s: float = 20.0  #: Seconds before the rate counts
    bytes_per_s: float = 50_000.0  #: The slowest rate after that, on average
    clock: Callable[[], float] = time.monotonic  #: Gives the time in seconds


class Bodies:
    """The bodies that come in: how fast each must, and how many there may be at a time."""

    def __init__(self, pace: Pace, most: int = _MOST) -> None:
        self.pace = pace
        self._places = asyncio.Semaphore(most)
        self._coming: set[_Body] = set()

    @contextlib.asynccontextmanager
    async def place(self, receive: Receive) -> AsyncIterator[Receive]:
        """Hold a place for a request, and read its body at the pace."""
        body = _Body(receive, self.pace)
        await body.read_ahead()
        await self._wait_for_place()
        self._coming.add(body)
        try:
            yield body.receive
        finally:
            self._coming.discard(body)
            self._places.release()

    async def _wait_for_place(self) -> None:
        waited = 0.0
        while waited < self.pace.idle_s:
            if self._places.locked():
                self._drop_slowest()
            step = min(_YOUNG_S, self.pace.idle_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._places.acquire(), step)
                return
            waited += step
        raise TooManyError

    def _drop_slowest(self) -> None:
        slow = [
            one for one in self._coming if one.age > _YOUNG_S and one.rate < one.pace.bytes_per_s
        ]
        if slow:
            min(slow, key=lambda one: one.rate).drop()


class _Body:
    """One body that comes in."""

    def __init__(self, receive: Receive, pace: Pace) -> None:
        self.pace = pace
        self._receive = receive
        self._began, self._seen, self._more = pace.clock(), 0, True
        self._pending: asyncio.Future[Message] | None = None
        self._dropped = False
        self._ahead: deque[Message] = deque()

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return self.pace.clock() - self._began

    @property
    def rate(self) -> float:
        """Bytes in a second, on average; without bound for a body that is there."""
        return self._seen / max(self.age, 1e-9) if self._more else float("inf")

    def drop(self) -> None:
        """Give its place away."""
        self._dropped = True
        if self._pending is not None:
            self._pending.cancel()

    async def read_ahead(self) -> None:
        """Read the beginning."""
        while self._more and self._seen < _AHEAD:
            self._ahead.append(await self._next())

    async def receive(self) -> Message:
        """Give what came in, in its order."""
        return self._ahead.popleft() if self._ahead else await self._next()

    async def _next(self) -> Message:
        """Wait for what comes in, but only so long."""
        if not self._more:
            return await self._receive()  # until the sender goes
        self._pending = asyncio.ensure_future(self._receive())
        try:
            message = await asyncio.wait_for(self._pending, self.pace.idle_s)
        except TimeoutError:
            raise TooSlowError from None
        except asyncio.CancelledError:
            if self._dropped:
                raise TooSlowError from None
            raise
        self._seen += len(message.get("body", b""))
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        late = self.age - self.pace.grace_s
        if self._more and (self._dropped or late > self._seen / self.pace.bytes_per_s):
            raise TooSlowError
        return message
