"""Shared settings: reproducible properties and a quiet, single-threaded numerical stack."""

import importlib
import os
import pkgutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("reproducible")


class WorkClock:
    """A clock that only work moves: a minibatch takes a fixed time and one per example.

    What is measured, planned and left of a budget is then the same on every machine, however busy.
    """

    #: Seconds of a minibatch and of an example in it: such a step is even at 50 examples.
    FIXED, EACH = 2e-3, 4e-5

    def __init__(self) -> None:
        self.now = self.ahead = 0.0
        self.minibatches = 0

    def read(self) -> float:
        """Give the time; asking takes a microsecond, so that no span is empty."""
        self.now += 1e-6
        read, self.now, self.ahead = self.now, self.now + self.ahead, 0.0
        return read

    def work(self, examples: int) -> None:
        """Let a tenth of a step pass, which fetches its examples; the rest passes when read."""
        self.minibatches += 1
        # Up to 4 % more by turns, as on a quiet machine.
        step = (self.FIXED + self.EACH * examples) * (1 + 0.01 * (self.minibatches * 7 % 5))
        self.now += 0.1 * step
        self.ahead += 0.9 * step


@pytest.fixture(scope="module")
def work_clock() -> Iterator[WorkClock]:
    """Time in ``batchsense.training`` is counted in work, not in seconds of this machine."""
    training = pytest.importorskip("batchsense.training", reason="the training extra is missing")
    for found in pkgutil.walk_packages(training.__path__, "batchsense.training."):
        importlib.import_module(found.name)
    from batchsense.training import Workload

    clock, minibatch = WorkClock(), Workload.minibatch

    def counted(workload: Any, indices: Any) -> Any:
        clock.work(len(indices))
        return minibatch(workload, indices)

    reads = SimpleNamespace(monotonic=clock.read, perf_counter=clock.read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workload, "minibatch", counted)
        for name, module in list(sys.modules.items()):
            if name.startswith("batchsense.training") and getattr(module, "time", None) is time:
                patch.setattr(module, "time", reads)
        yield clock


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line what was skipped, and why."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        each = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"skipped {reasons.total()}: {each}")
