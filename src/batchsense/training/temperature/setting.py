"""How a run of stochastic gradient descent draws its minibatches and takes its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from batchsense.errors import DataError

#: How the examples of a minibatch are drawn: each independently; without replacement within a
#: step; or every example once an epoch, as a loader with ``shuffle=True`` does.
Sampling = Literal["replacement", "per_step", "epoch"]
SAMPLINGS: tuple[Sampling, ...] = ("replacement", "per_step", "epoch")


@dataclass(frozen=True, slots=True)
class SgdSetting:
    r"""Learning rate, batch size, momentum and sampling: :math:`v ← mv + g,\; w ← w - ηv`.

    Attributes
    ----------
    learning_rate : float
        η, in weight² per loss.
    batch_size : int
        B, examples a step.
    momentum : float
        m, from 0 to below 1.
    examples : int or None
        N, the examples there are; None counts as without end, and is not for ``epoch``.
    sampling : str
        ``replacement``, ``per_step`` or ``epoch``.

    Raises
    ------
    DataError
        A value is out of its range, or the minibatch is larger than the data set.

    Examples
    --------
    >>> SgdSetting(0.1, 32, momentum=0.9, examples=1000, sampling="epoch").steps_per_epoch
    31
    """

    learning_rate: float
    batch_size: int
    momentum: float = 0.0
    examples: int | None = None
    sampling: Sampling = "replacement"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise DataError(f"the learning rate must be positive, not {self.learning_rate}")
        if self.batch_size < 1:
            raise DataError(f"the batch size must be one example or more, not {self.batch_size}")
        if not 0 <= self.momentum < 1:
            raise DataError(f"momentum lies from 0 to below 1, not at {self.momentum}")
        if self.sampling not in SAMPLINGS:
            raise DataError(f"sampling is one of {', '.join(SAMPLINGS)}, not {self.sampling!r}")
        if self.examples is None:
            if self.sampling == "epoch":
                raise DataError("an epoch has an end: say how many examples there are")
        elif self.batch_size > self.examples:
            raise DataError(
                f"a minibatch of {self.batch_size} from {self.examples} examples; "
                f"at most {self.examples}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """M, the full minibatches of an epoch."""
        assert self.examples is not None
        return self.examples // self.batch_size

    @property
    def drawn_without_replacement(self) -> float:
        """F = (N − B)/(N − 1): what drawing without replacement leaves of the noise of one step."""
        if self.sampling == "replacement" or self.examples is None:
            return 1.0
        if self.examples == 1:
            return 0.0
        return (self.examples - self.batch_size) / (self.examples - 1)

    @property
    def largest_stable_curvature(self) -> float:
        """2(1 + m)/η: modes of this curvature or more run away even without noise."""
        return 2 * (1 + self.momentum) / self.learning_rate
