"""What a step costs without other workers: forward, backward and optimizer, by micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.training.step_time import nonnegative_lines
from batchsense.training.workers.probing.link import Count, Times


@dataclass(frozen=True, slots=True)
class ComputeReading:
    """Repeated local steps at one micro-batch size, all workers at once, by the slowest."""

    workers: Count  #: How many computed at the same time.
    micro_batch: Count  #: Examples of one worker.
    #: Fetching, collating and loss; backward pass; optimizer. Each repeat.
    forward_seconds: Times
    backward_seconds: Times
    optimizer_seconds: Times


@dataclass(frozen=True, slots=True, eq=False)
class Compute:
    """Seconds of the parts of a local step; the first draw is the estimate."""

    #: Fixed seconds and seconds per example; shape (draws,).
    forward: tuple[Floats, Floats]
    backward: tuple[Floats, Floats]
    optimizer: Floats  #: Seconds, whatever the micro-batch; shape (draws,).
    #: The micro-batches that were measured.
    smallest: int
    largest: int

    def forward_seconds(self, micro_batch: float) -> Floats:
        """Time until the backward pass begins."""
        return self.forward[0] + self.forward[1] * micro_batch

    def backward_seconds(self, micro_batch: float) -> Floats:
        """Time of the backward pass."""
        return self.backward[0] + self.backward[1] * micro_batch

    def step_seconds(self, micro_batch: float) -> Floats:
        """Time of a step of one worker alone: c0 + c1·b.

        >>> given_compute(fixed=0.01, per_example=3e-4).step_seconds(1000)
        array([0.31])
        """
        passes = self.forward_seconds(micro_batch) + self.backward_seconds(micro_batch)
        return passes + self.optimizer

    @property
    def seconds_per_example(self) -> Floats:
        """What one more example costs: c1."""
        return self.forward[1] + self.backward[1]


def given_compute(*, fixed: npt.ArrayLike, per_example: npt.ArrayLike) -> Compute:
    """Compute of which only c0 + c1·b is known, in draws: a third is forward, the usual share.

    A backward pass multiplies twice where a forward pass multiplies once.
    """
    c0, c1 = np.atleast_1d(fixed), np.atleast_1d(per_example)
    return Compute((c0 / 3, c1 / 3), (2 * c0 / 3, 2 * c1 / 3), np.zeros(1), 1, 1)


def fit_compute(
    readings: Sequence[ComputeReading], *, draws: int = 200, seed: int = 0
) -> dict[int, Compute]:
    """Fit lines to medians over repeats, for each number of workers that computed at once.

    Workers on one machine share its cores and memory, so that all at once may be slower than one.

    Raises UnresolvedError: only one micro-batch was measured.

    >>> readings = [ComputeReading(1, b, (b / 3e3,), (b / 1.5e3,), (0.01,)) for b in (30, 300)]
    >>> round(float(fit_compute(readings, draws=0)[1].step_seconds(3000)[0]), 6)
    3.01
    """
    rng = np.random.default_rng(seed)
    found = {}
    for workers in sorted({reading.workers for reading in readings}):
        rows = sorted(
            (reading for reading in readings if reading.workers == workers),
            key=lambda reading: reading.micro_batch,
        )
        if len({row.micro_batch for row in rows}) < 2:
            raise UnresolvedError(
                f"one micro-batch of {workers} workers does not tell the fixed part of a step from "
                "the examples",
                "a probe at two micro-batch sizes",
            )
        found[workers] = _fitted(rows, draws, rng)
    return found


def _fitted(rows: Sequence[ComputeReading], draws: int, rng: np.random.Generator) -> Compute:
    sizes = np.array([row.micro_batch for row in rows], dtype=np.float64)
    forward, backward, optimizer = (np.empty((1 + draws, len(rows))) for _ in range(3))
    for column, row in enumerate(rows):
        repeats = len(row.forward_seconds)
        # One resample for all parts: what disturbs a repeat disturbs all of it.
        chosen = rng.integers(repeats, size=(1 + draws, repeats))
        chosen[0] = np.arange(repeats)
        for part, seconds in (
            (forward, row.forward_seconds),
            (backward, row.backward_seconds),
            (optimizer, row.optimizer_seconds),
        ):
            part[:, column] = np.median(np.array(seconds)[chosen], axis=1)
    return Compute(
        nonnegative_lines(sizes, forward),
        nonnegative_lines(sizes, backward),
        np.median(optimizer, axis=1),
        int(sizes[0]),
        int(sizes[-1]),
    )
