"""Small problems on one thread: the threads of a matrix library cost more than they bring."""

from __future__ import annotations

import contextlib

#: Below so many observed values one thread is as fast as any number, and where the cores are
#: shared (a container with a quota, a busy machine) waiting threads make it ten times slower.
SMALL = 5_000_000


def one_thread_if_small(values: int) -> contextlib.AbstractContextManager[object]:
    """Limit the matrix library to one thread inside the block, for a table of few values."""
    return contextlib.nullcontext() if values >= SMALL else one_thread()


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Limit the matrix library to one thread inside the block.

    Right where what it is asked for is small, however large the table is.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits
