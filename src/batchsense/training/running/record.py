"""What a run has seen so far: steps, examples, time and losses, at a bounded size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Steps over whose minibatches the present loss is averaged, so that a lucky one decides nothing.
SMOOTHED_STEPS = 20
#: Points of the curve at most: neighbours are joined beyond, and half of it still fills a figure.
_MOST_POINTS = 256


@dataclass(slots=True)
class RunRecord:
    """Steps and losses of a run, over all processes.

    Attributes
    ----------
    steps, examples : int
        Made, and seen by all processes together.
    seconds : float
        In the loop, also before a checkpoint.
    recent : list of float
        Losses of the last steps.
    curve : list of (int, float)
        Last step of each stretch of equal length, and the mean loss over it.

    Examples
    --------
    >>> record = RunRecord()
    >>> record.add([3.0, 1.0, 2.0], [8, 8, 8])
    >>> record.steps, record.examples, record.loss, round(record.loss_error, 3)
    (3, 24, 2.0, 0.577)
    """

    steps: int = 0
    examples: int = 0
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)
    _stretch: int = 1
    _open: list[float] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean loss of the last 20 minibatches, or of all if there are fewer; NaN before any."""
        return float(np.mean(self.recent)) if self.recent else math.nan

    @property
    def loss_error(self) -> float:
        """Its standard error, from the spread of the minibatches; NaN of a single one."""
        if len(self.recent) < 2:
            return math.nan
        return float(np.std(self.recent, ddof=1) / math.sqrt(len(self.recent)))

    def add(self, losses: Sequence[float], batch_sizes: Sequence[int]) -> None:
        """Note the losses of consecutive steps."""
        self.examples += sum(batch_sizes)
        for loss in losses:
            self.steps += 1
            self._open.append(float(loss))
            if len(self._open) == self._stretch:
                self.curve.append((self.steps, float(np.mean(self._open))))
                self._open.clear()
            if len(self.curve) == _MOST_POINTS:
                pairs = zip(self.curve[::2], self.curve[1::2], strict=True)
                self.curve = [(step, (a + b) / 2) for (_, a), (step, b) in pairs]
                self._stretch *= 2
        self.recent = [*self.recent, *map(float, losses)][-SMOOTHED_STEPS:]

    def reached(self, loss: float) -> bool:
        """Whether the mean of the last 20 minibatches is at a loss; never before 20."""
        return len(self.recent) == SMOOTHED_STEPS and self.loss <= loss

    def state_dict(self) -> dict[str, Any]:
        """Everything, in plain values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> RunRecord:
        """Go on from a :meth:`state_dict`."""
        record = cls()
        for name in cls.__slots__:
            setattr(record, name, state[name])
        return record
