"""Shared settings: reproducible properties, a single-threaded stack, a clock of our own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).parent))  # what tests of several folders share

settings.register_profile("reproducible", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("reproducible")


@pytest.fixture(scope="session", autouse=True)
def quick_disk() -> Iterator[None]:
    """Wait for no disk: what it holds after a power cut no test can see, and a busy one is slow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            if hasattr(os, name):
                patch.setattr(os, name, os.fstat)  # a descriptor that is none fails as before
        yield


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


@contextmanager
def _timed(clock: WorkClock) -> Iterator[None]:
    from batchsense.training.workload import target

    loss = target._cross_entropy

    def timed(model: Any, minibatch: Any) -> Any:
        clock.spend(1e-3 + 5e-5 * len(minibatch[0]))
        return loss(model, minibatch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "_cross_entropy", timed)
        yield


@pytest.fixture
def timed_digits(work_clock: WorkClock) -> Iterator[None]:
    """Let a step of the digits take 1 ms and 50 µs an example on that clock, so budgets end."""
    with _timed(work_clock):
        yield


@pytest.fixture(scope="module")
def module_timed_digits(module_clock: WorkClock) -> Iterator[None]:
    """Let it take as long for all tests of a file, and for what they share."""
    with _timed(module_clock):
        yield
