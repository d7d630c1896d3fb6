"""Work in a process of its own, bounded in memory, time and disk.

What a visitor sends may make a reader take any amount of memory, run for hours, or crash in a
library. Here that ends a process that holds nothing else, and the page says in words what happened.
New processes are copies of one that has loaded the libraries, so that each takes milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import multiprocessing
import os
import pickle
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from batchsense.errors import BatchsenseError
from batchsense.progress import Progress, silent
from batchsense.web.entrance.guard import TooLargeError

T = TypeVar("T")
#: What is loaded once, before any file: the rest takes each process less than it takes memory.
_LOADED = (
    "pandas",
    "scipy.stats",
    "matplotlib.figure",
    "batchsense.experiments",
    "batchsense.reports.page",
    "batchsense.web.files.look",
)
#: The stages in which files are read; all others calculate, and may take as long as they take.
_READING = ("preparing", "reading the files")
# Often enough that a stopped calculation ends at once for a person.
_EVERY_S = 0.05
#: A report has 1.5 MB, the document of a test of 50,000 features about 20.
_LARGEST_MESSAGE = 50_000_000
#: The stack of a thread is counted as a whole, though hardly any of it is ever touched.
_THREAD_STACK = 10_000_000
_DISK = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


@dataclass(frozen=True, slots=True)
class Bounds:
    """What work may take."""

    memory: int  #: Bytes beyond what the libraries take
    file: int  #: Bytes of the largest file that it may write
    reading_s: float  #: Seconds in which it must have read its files


#: Runs work within bounds and tells a listener how far it is: :func:`apart`.
Runner = Callable[[Callable[[Progress], Any], Bounds, Progress], Any]


class ExceededError(Exception):
    """Work took more ``what`` (memory, time, disk) than it may, or its process just ended (end)."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class BrokenError(Exception):
    """A bug of ours in the other process, of type ``kind``; ``told`` is its traceback."""

    def __init__(self, kind: str, told: str) -> None:
        self.kind = kind
        super().__init__(told)


def apart(work: Callable[[Progress], T], bounds: Bounds, listen: Progress = silent) -> T:
    """Do work in a process of its own, and give what it gives.

    Work takes a progress listener; it must be picklable, and so must what it gives. ``listen`` is
    also called while nothing is reported; what it raises ends the process.
    """
    mine, theirs = _MAKER.Pipe(duplex=False)
    child = _MAKER.Process(target=_serve, args=(theirs, work, bounds), daemon=True)
    try:
        with _starting:
            child.start()
        theirs.close()
        found: T = _outcome(mine, bounds, listen)
        return found
    finally:
        mine.close()
        _end(child)


def warm_up() -> None:
    """Begin to load the libraries, for whoever asks first."""
    with _starting:
        forkserver.ensure_running()


_MAKER = multiprocessing.get_context("forkserver")
_MAKER.set_forkserver_preload(list(_LOADED))
_starting = threading.Lock()


def _end(child: BaseProcess) -> None:
    with contextlib.suppress(ValueError, AttributeError):  # it never started
        child.kill()
        child.join()


def _outcome(pipe: Connection, bounds: Bounds, listen: Progress) -> Any:
    latest, began = (_READING[0], 0, 1), time.monotonic()
    while True:
        if latest[0] in _READING and time.monotonic() - began > bounds.reading_s:
            raise ExceededError("time")
        if not pipe.poll(_EVERY_S):
            listen(*latest)
            continue
        try:
            kind, content = pickle.loads(pipe.recv_bytes(_LARGEST_MESSAGE))
        except EOFError:
            raise ExceededError("end") from None
        except OSError:  # longer than the longest
            raise ExceededError("memory") from None
        if kind == "progress":
            latest = content
            listen(*latest)
        elif kind == "answer":
            return content
        elif kind == "error":
            raise content
        elif kind == "exceeded":
            raise ExceededError(content)
        else:
            raise BrokenError(*content)


def _serve(pipe: Connection, work: Callable[[Progress], Any], bounds: Bounds) -> None:
    """What the other process does."""

    def listen(task: str, done: int, total: int) -> None:
        pipe.send(("progress", (task, done, total)))

    try:
        _confine(bounds)
        message = pickle.dumps(("answer", work(listen)))
    except MemoryError:
        message = pickle.dumps(("exceeded", "memory"))
    except (BatchsenseError, TooLargeError) as error:
        message = pickle.dumps(("error", error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (*_DISK, errno.ENOMEM):
            what = "disk" if error.errno in _DISK else "memory"
            message = pickle.dumps(("exceeded", what))
        else:
            told = traceback.format_exc()
            message = pickle.dumps(("broken", (type(error).__name__, told)))
    pipe.send_bytes(message)


def _confine(bounds: Bounds) -> None:
    """Take away what the work may not have; it can only go with the server, and prints nothing."""
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    _lower(resource.RLIMIT_FSIZE, bounds.file)
    _lower(resource.RLIMIT_CORE, 0)
    # Not the address space: allocators reserve gigabytes of it that they never touch.
    threads = _THREAD_STACK * (os.cpu_count() or 1)
    _lower(resource.RLIMIT_DATA, _data_bytes() + threads + bounds.memory)


def _lower(what: int, amount: int) -> None:
    import resource

    _, most = resource.getrlimit(what)
    lower = amount if most == resource.RLIM_INFINITY else min(amount, most)
    resource.setrlimit(what, (lower, lower))


def _data_bytes() -> int:
    """What the system counts as data of this process by now."""
    try:
        found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
