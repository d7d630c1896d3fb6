"""Who asked for what: each visitor's files and answers, apart from all others', and for a while."""

from __future__ import annotations

import concurrent.futures
import os
import secrets
import shutil
import tempfile
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from batchsense.web.jobs import Job
from batchsense.web.leftovers import new_root

if TYPE_CHECKING:
    from batchsense.web.uploads import Upload

#: The cookie that names a visitor.
COOKIE = "batchsense_visitor"


class Visitor:
    """The state of one browser.

    Parameters
    ----------
    folder : Path
        A folder of the visitor's own, which goes with them.
    now : float
        The time.
    """

    def __init__(self, folder: Path, now: float) -> None:
        self.token = secrets.token_urlsafe(32)
        self.folder = folder
        self.used = now
        self.uploads: dict[str, Upload] = {}
        self.jobs: dict[str, Job] = {}

    def take(self, kind: str, upload: Upload) -> None:
        """Keep new files; those before, and what runs on them, go."""
        self._stop_all()
        old = self.uploads.pop(kind, None)
        if old is not None:
            shutil.rmtree(old.folder, ignore_errors=True)
        self.uploads[kind] = upload

    def run(self, command: str, job: Job, worker: concurrent.futures.Executor) -> None:
        """Start a calculation; an unfinished one of the same visitor gives way."""
        self._stop_all()
        old = self.jobs.pop(command, None)
        if old is not None:
            old.discard()
        self.jobs[command] = job
        job.start(worker, Path(tempfile.mkdtemp(dir=self.folder)))

    def _stop_all(self) -> None:
        for job in self.jobs.values():
            if not job.over:
                job.discard()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all files that the visitor sent."""
        return tuple(name for upload in self.uploads.values() for name in upload.names)

    @property
    def size(self) -> int:
        """Bytes held for this visitor."""
        files = sum(upload.size for upload in self.uploads.values())
        return files + sum(job.size for job in self.jobs.values())

    def leave(self) -> None:
        """Stop the work and delete the files, also those that the work still writes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for job in self.jobs.values():
            job.stop()
            job.afterwards(lambda: shutil.rmtree(self.folder, ignore_errors=True))


class Visitors:
    """All visitors: the least recently seen go first, everybody goes after a while.

    Parameters
    ----------
    capacity : int
        Bytes held at most, files and answers together.
    most : int
        Visitors held at most.
    lifetime : float
        Seconds without a request after which a visitor is forgotten.
    clock : callable
        Gives the time in seconds.
    """

    def __init__(
        self,
        capacity: int = 1_000_000_000,
        most: int = 20,
        lifetime: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capacity, self.most, self.lifetime = capacity, most, lifetime
        self._clock = clock
        self._known: OrderedDict[str, Visitor] = OrderedDict()
        self.root, lock = new_root()
        # Also when the process ends without a proper shutdown.
        self._cleaning = weakref.finalize(self, _delete, self.root, lock)
        self.worker = concurrent.futures.ThreadPoolExecutor(1, "batchsense-web")

    def find(self, request: Request) -> Visitor | None:
        """Give the visitor that the request's cookie names; an unknown name is nobody."""
        self.expire()
        visitor = self._known.get(request.cookies.get(COOKIE, ""))
        if visitor is not None:
            visitor.used = self._clock()
            self._known.move_to_end(visitor.token)
        return visitor

    def welcome(self, request: Request) -> Visitor:
        """Give the visitor of a request that leaves something here, a new one if need be.

        A name is always drawn here: one that a cookie brings along is never adopted.
        """
        visitor = self.find(request)
        if visitor is None:
            visitor = Visitor(Path(tempfile.mkdtemp(dir=self.root)), self._clock())
            self._known[visitor.token] = visitor
            self.trim(visitor)
        return visitor

    def remember(self, visitor: Visitor, response: Response) -> Response:
        """Give the visitor the cookie that names them."""
        response.set_cookie(COOKIE, visitor.token, path="/", httponly=True, samesite="strict")
        return response

    def forget(self, visitor: Visitor) -> None:
        """Delete everything that belongs to a visitor."""
        self._known.pop(visitor.token, None)
        visitor.leave()

    def expire(self) -> None:
        """Forget who was not seen for a lifetime."""
        now = self._clock()
        for visitor in list(self._known.values()):
            if now - visitor.used > self.lifetime:
                self.forget(visitor)

    def trim(self, present: Visitor) -> None:
        """Forget the least recently seen until the limits hold; never the one who is present."""
        while len(self._known) > 1 and (len(self._known) > self.most or self.size > self.capacity):
            oldest = next(visitor for visitor in self._known.values() if visitor is not present)
            self.forget(oldest)

    @property
    def size(self) -> int:
        """Bytes held for all."""
        return sum(visitor.size for visitor in self._known.values())

    def __contains__(self, visitor: Visitor) -> bool:
        return self._known.get(visitor.token) is visitor

    def __len__(self) -> int:
        return len(self._known)

    def close(self) -> None:
        """End everything and delete all files."""
        for visitor in list(self._known.values()):
            self.forget(visitor)
        # What still writes ends first: it could leave a file behind in a folder that is going.
        self.worker.shutdown(wait=True, cancel_futures=True)
        self._cleaning()


def _delete(root: Path, lock: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    os.close(lock)
