"""Connections, bounded in number and in what they may leave open.

uvicorn waits without end for headers and for readers, and writes a line for every connection above
its bound. Here a connection that keeps us waiting goes, without a word; where there are too many,
it is the one that has waited longest for a request to be complete.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True)
class Patience:
    """How many connections there may be, and how long each may keep us waiting."""

    #: Connections at a time; never more than half of the files that the process may open.
    most: int = 256
    headers_s: float = 10.0  #: Seconds for the next request to arrive with all its headers
    answer_s: float = 60.0  #: Seconds in which an answer must move on


def bounded(patience: Patience) -> type[H11Protocol]:
    """Make the protocol of one server, whose connections know of each other."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = patience.most if files == resource.RLIM_INFINITY else min(patience.most, files // 2)
    waiting: dict[H11Protocol, None] = {}  # longest first

    class Bounded(H11Protocol):
        _late: asyncio.TimerHandle | None = None
        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > most:
                next(iter(waiting)).transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self.resume_writing()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._stop_waiting()

        def on_response_complete(self) -> None:
            self._wait()
            super().on_response_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(patience.answer_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stalled is not None:
                self._stalled.cancel()

        def _wait(self) -> None:
            self._stop_waiting()
            waiting[self] = None
            self._late = self.loop.call_later(patience.headers_s, self.transport.abort)

        def _stop_waiting(self) -> None:
            waiting.pop(self, None)
            if self._late is not None:
                self._late.cancel()

    return Bounded
