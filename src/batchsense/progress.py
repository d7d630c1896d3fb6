"""How long work tells that it is alive, without knowing who listens.

Functions that may take more than about two seconds accept ``progress``, a callable that is told
what is being done, how much of it is done and how much there is. The command line draws a bar on
stderr; the default does nothing.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A listener: ``progress("measuring step time", 3, 10)``."""

    def __call__(self, task: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` parts of ``task`` are finished."""


def silent(task: str, done: int, total: int) -> None:
    """Ignore progress: the default listener."""
