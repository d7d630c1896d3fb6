"""Who asked for what: each visitor's files and answers, apart from all others', and for a while.

Nobody loses anything because others come: only who is away makes room, and else newcomers wait.
"""

from __future__ import annotations

import concurrent.futures
import os
import secrets
import shutil
import tempfile
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from batchsense.web.jobs import Job
from batchsense.web.leftovers import new_root

if TYPE_CHECKING:
    from batchsense.web.files.uploads import Upload

#: The cookie that names a visitor.
COOKIE = "batchsense_visitor"
#: Who was seen within so many seconds keeps everything, whoever else comes.
_PRESENT_S = 600.0


class FullError(Exception):
    """There is no room for more files or visitors, and nobody is away."""


class Visitor:
    """The state of one browser; its folder goes with it."""

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
            old.delete()
        self.uploads[kind] = upload.moved(self.folder)

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
    """All visitors: who is away longest goes first, everybody after ``lifetime`` seconds.

    ``capacity`` is in bytes, files and answers together.
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
            self._make_room(lambda staying: len(staying) < self.most)
            visitor = Visitor(Path(tempfile.mkdtemp(dir=self.root)), self._clock())
            self._known[visitor.token] = visitor
        return visitor

    def take(self, request: Request, kind: str, upload: Upload) -> Visitor:
        """Give files that were found good to their visitor, a new one if need be."""
        present = self.find(request)
        old = None if present is None else present.uploads.get(kind)
        more = upload.size - (0 if old is None else old.size)

        def enough(staying: list[Visitor]) -> bool:
            room = present is not None or len(staying) < self.most
            return room and _size(staying) + more <= self.capacity

        try:
            self._make_room(enough, present)
        except FullError:
            upload.delete()
            raise
        visitor = self.welcome(request)
        visitor.take(kind, upload)
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

    def keep(self, present: Visitor) -> None:
        """Make room for an answer that is there."""
        self._make_room(lambda staying: _size(staying) <= self.capacity, present)

    def _make_room(
        self, enough: Callable[[list[Visitor]], bool], present: Visitor | None = None
    ) -> None:
        """Forget who was away longest, as many as it takes, or nobody if that would not do."""
        staying, going = list(self._known.values()), []
        for one in self._known.values():
            if enough(staying) or self._clock() - one.used < _PRESENT_S:
                break
            if one is not present:
                staying.remove(one)
                going.append(one)
        if not enough(staying):
            raise FullError
        for one in going:
            self.forget(one)

    @property
    def size(self) -> int:
        """Bytes held for all."""
        return _size(self._known.values())

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


def _size(visitors: Iterable[Visitor]) -> int:
    return sum(visitor.size for visitor in visitors)


def _delete(root: Path, lock: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    os.close(lock)
