"""Who runs a pass: numpy or the compiled code, piece by piece, on as many threads as there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import Any

#: Below so many values numpy is as fast as the compiled code, and an eighth of loading it.
COMPILED_FROM = 2_000_000
#: Where a process corrects once and ends, and pays for loading: numpy takes .025 CPU seconds per
#: million values, loading .3, and compiling for the first time 3.
COMPILED_ONCE_FROM = 20_000_000
_corrects_once = ContextVar("corrects_once", default=False)


def available_threads(threads: int | None = None) -> int:
    """The number of threads to use: as asked, or one per processor of this process."""
    if threads is not None:
        return max(1, threads)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compiled_for(size: int, module: str = "kernels") -> Any | None:
    """The compiled passes for a matrix of this size; None where numpy serves better."""
    least = COMPILED_ONCE_FROM if _corrects_once.get() else COMPILED_FROM
    if size < least or find_spec("numba") is None:
        return None
    return import_module(f"batchsense.experiments.correction.two_passes.{module}")


@contextmanager
def correcting_once() -> Iterator[None]:
    """Within it the compiled code is loaded only where one correction alone makes that worth it."""
    token = _corrects_once.set(True)
    try:
        yield
    finally:
        _corrects_once.reset(token)


def run_pieces(
    work: Callable[[int, int], None], total: int, step: int, threads: int | None
) -> None:
    """Run ``work(low, high)`` over all of ``total`` in steps, on threads where that helps."""
    pieces = [(low, min(low + step, total)) for low in range(0, total, step)]
    workers = min(available_threads(threads), len(pieces))
    if workers < 2:
        for piece in pieces:
            work(*piece)
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, *piece) for piece in pieces]:
            done.result()
