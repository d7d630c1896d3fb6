"""Ctrl-C and SIGTERM during a run: finish the step, then stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked the run to stop, and by which signal."""

    name: str | None = None

    @property
    def asked(self) -> bool:
        """Whether to stop after this step."""
        return self.name is not None


@contextlib.contextmanager
def stop_on_signal(*, twice_ends: bool) -> Iterator[StopRequest]:
    """Note Ctrl-C and SIGTERM inside the block instead of ending at once.

    With ``twice_ends`` a second Ctrl-C ends at once. Of several processes each gets a signal of
    its own and another from torchrun, so there a second one means nothing. Outside the main thread
    nothing is changed: signals do not come there.

    >>> import os
    >>> with stop_on_signal(twice_ends=False) as stop:
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     stop.asked, stop.name
    (True, 'SIGTERM')
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request.asked and twice_ends and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.name = signal.Signals(number).name

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
