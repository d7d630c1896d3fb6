"""Heavy work beside the server: one calculation at a time, and the newest of a visitor wins.

One at a time over all visitors, because what :mod:`batchsense.training` measures are times, and a
neighbour would disturb them.
"""

from __future__ import annotations

import concurrent.futures
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsense.progress import Progress
from batchsense.reports.envelope import Refusal


class SupersededError(Exception):
    """A newer calculation, or the end of the server, stopped this one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a calculation gave."""

    document: str
    report: str | None = None
    refusal: Refusal | None = None
    file: Path | None = None

    @property
    def size(self) -> int:
        """Bytes that the answer takes, on disk or in memory."""
        file = self.file.stat().st_size if self.file and self.file.exists() else 0
        return file + len(self.document) + len(self.report or "")


#: Takes a progress listener and a folder for files, gives an answer.
Work = Callable[[Progress, Path], Answer]
#: Does work that needs a listener, here or in another process.
Place = Callable[[Callable[[Progress], Answer], Progress], Answer]


def here(work: Callable[[Progress], Answer], listen: Progress) -> Answer:
    """Do work in this very process."""
    return work(listen)


@dataclass(frozen=True, slots=True)
class _Inside:
    """Work on files in a folder; another process can be given it."""

    work: Work
    folder: Path

    def __call__(self, listen: Progress) -> Answer:
        return self.work(listen, self.folder)


class Job:
    """A calculation that waits, runs or has ended.

    Work takes a progress listener and a folder of its own, and is done by ``place``; ``choice`` is
    what was asked for, so that the form can show it again.
    """

    def __init__(
        self,
        work: Work,
        choice: Any,
        place: Place = here,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.choice = choice
        self.stage: tuple[str, int, int] | None = None
        self._work, self._place = work, place
        self._folder = Path()
        self._stopped = threading.Event()
        self._clock = clock
        self._began: float | None = None
        self._future: concurrent.futures.Future[Answer] | None = None

    def start(self, worker: concurrent.futures.Executor, folder: Path) -> None:
        """Stand in line; files that the work makes go into the folder."""
        self._folder = folder
        self._future = worker.submit(self._run)

    def _run(self) -> Answer:
        self._began = self._clock()
        self._listen("preparing", 0, 1)
        return self._place(_Inside(self._work, self._folder), self._listen)

    @property
    def elapsed(self) -> float:
        """Seconds since the work began; 0 while it waits."""
        return 0.0 if self._began is None else self._clock() - self._began

    def stop(self) -> None:
        """End the work: at once if it waits or is apart, else at its next report of progress."""
        self._stopped.set()
        if self._future is not None:
            self._future.cancel()

    def discard(self) -> None:
        """End the work and delete its files, also those that it still writes before it ends."""
        self.stop()
        if self._future is not None:
            folder = self._folder
            self.afterwards(lambda: shutil.rmtree(folder, ignore_errors=True))

    def afterwards(self, action: Callable[[], None]) -> None:
        """Do something as soon as the work no longer runs: at once if it does not."""
        if self._future is not None:
            self._future.add_done_callback(lambda _: action())

    @property
    def over(self) -> bool:
        """Whether there is an answer, an error, or nothing more to come."""
        return self._stopped.is_set() or (self._future is not None and self._future.done())

    def wait(self, seconds: float) -> None:
        """Wait so long at most for the end."""
        if self._future is not None:
            concurrent.futures.wait([self._future], seconds)

    def answer(self) -> Answer:
        """Give the answer of a calculation that is over, or raise what it raised."""
        if self._future is None or self._stopped.is_set():
            raise SupersededError
        return self._future.result(0)

    @property
    def size(self) -> int:
        """Bytes that the answer takes, if there is one."""
        if not self.over or self._stopped.is_set() or self._future is None:
            return 0
        return 0 if self._future.exception() else self._future.result().size

    def _listen(self, task: str, done: int, total: int) -> None:
        """Take note of progress; this is where a stopped calculation ends."""
        if self._stopped.is_set():
            raise SupersededError
        self.stage = (task, done, total)
