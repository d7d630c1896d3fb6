"""What a plan claims, as far as a sweep can check it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchsense.errors import DataError, UnresolvedError
from batchsense.variation.interval import Interval

#: Sizes of a sweep, and how far it reaches below and above the advice: five sizes leave three
#: degrees of freedom to a law of two parameters; an eighth to eight times spans both of its arms.
SIZES, REACH = 5, 8
#: A law of two parameters cannot be doubted by fewer.
_LEAST_SIZES = 3


@dataclass(frozen=True, slots=True)
class Advice:
    """The claims of a plan.

    Attributes
    ----------
    batch_size : int
        The advised size.
    critical_batch_size : Interval
        B_crit of the plan, in examples.
    used_critical_batch_size : float
        The number that learning rates follow.
    target_loss : float
        The loss that the plan holds down to.
    learning_rate_batch_size : int
        The size that the optimizer's learning rate belongs to.
    steps : int
        Steps of the plan's short run, which reached the target, and its
    run_batch_size : int
        examples per step.
    largest : int
        Most examples that data and memory allow.
    side : str
        ``"smaller"`` or ``"larger"`` where a limit of the user leaves only sizes on that side to
        compare with; ``"both"`` otherwise.
    """

    batch_size: int
    critical_batch_size: Interval
    used_critical_batch_size: float
    target_loss: float
    learning_rate_batch_size: int
    steps: int
    run_batch_size: int
    largest: int
    side: Literal["smaller", "larger", "both"] = "both"

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.largest:
            raise DataError(
                f"the plan advises {self.batch_size:,} examples, but at most {self.largest:,} are "
                "possible; plan again on this machine"
            )

    def predicted_steps(self, batch_size: int) -> float:
        """Return the steps to the target at a size, by the plan's own law."""
        critical = self.used_critical_batch_size
        least = self.steps / (1 + critical / self.run_batch_size)
        return least * (1 + critical / batch_size)

    def allows(self, batch_size: int) -> bool:
        """Whether a size may compete with the advice."""
        if self.side == "smaller":
            return batch_size <= self.batch_size
        return self.side == "both" or batch_size >= self.batch_size


def swept_sizes(advised: int, largest: int, smallest: int = 1) -> tuple[int, ...]:
    """Choose five sizes, evenly on the log scale, from an eighth of the advice to eight times it.

    The advice is always among them; they are fewer where the range is short.

    Raises UnresolvedError: fewer than three sizes are possible.

    >>> swept_sizes(96, 1797)
    (12, 34, 96, 272, 768)
    >>> swept_sizes(96, 100)
    (12, 20, 34, 57, 96)
    """
    low, high = max(smallest, advised / REACH), min(largest, REACH * advised)
    if high < 1.1 * advised:
        high = advised
    if low > advised / 1.1:
        low = advised
    sizes = np.geomspace(low, high, SIZES)
    sizes[np.abs(np.log(sizes / advised)).argmin()] = advised
    found = sorted({round(float(size)) for size in sizes})
    if len(found) < _LEAST_SIZES:
        raise UnresolvedError(
            f"only {len(found)} batch sizes are possible around {advised}, too few for a sweep",
            "more examples, or more memory",
        )
    return tuple(found)
