"""Shared settings: reproducible properties, a single-threaded stack, a clock of our own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("reproducible")


class WorkClock:
    """A clock that goes on by the work a job says it did, and by a microsecond a reading.

    Where the outcome hangs on time (what fits into a budget, which batch size is fastest), it is
    then the same on every machine, however busy.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1e-6
        return self.seconds

    def spend(self, seconds: float) -> None:
        """Let so much time pass."""
        self.seconds += seconds


@contextmanager
def _replaced() -> Iterator[WorkClock]:
    clock = WorkClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchsense.clock.now", clock)
        yield clock


@pytest.fixture
def work_clock() -> Iterator[WorkClock]:
    """Replace the clock of steps and budgets for one test."""
    with _replaced() as clock:
        yield clock


@pytest.fixture(scope="module")
def module_clock() -> Iterator[WorkClock]:
    """Replace it for all tests of a file, and for what they share."""
    with _replaced() as clock:
        yield clock
