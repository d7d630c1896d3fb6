"""What is predicted of a training step: its configuration, its seconds, and which is slower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batchsense.errors import DataError
from batchsense.variation.interval import Interval

#: Level of every interval of a step time: with few measured rows, ends of 95 % intervals would
#: rest on tails that nothing was measured of.
LEVEL = 0.8
Verdict = Literal["slower", "faster", "undecided"]


@dataclass(frozen=True, slots=True)
class StepConfiguration:
    """How one optimizer step is spread over machines.

    Attributes
    ----------
    nodes : int
        Machines.
    workers : int
        Processes in all, one model copy each.
    micro_batch : int
        Examples of one worker in one forward and backward pass.
    accumulation : int
        Passes of a worker before gradients are exchanged.
    uneven : bool
        Whether nodes may hold unlike numbers of workers; without it workers must divide by nodes.

    Raises
    ------
    DataError
        A number below 1, fewer workers than nodes, or workers that do not divide by the nodes.

    Examples
    --------
    >>> configuration = StepConfiguration(nodes=2, workers=8, micro_batch=32)
    >>> configuration.batch_size, configuration.per_node
    (256, 4.0)
    >>> StepConfiguration(nodes=2, workers=3, micro_batch=32)
    Traceback (most recent call last):
    batchsense.errors.DataError: 3 workers cannot be spread evenly over 2 nodes; ...
    """

    nodes: int
    workers: int
    micro_batch: int
    accumulation: int = 1
    uneven: bool = False

    def __post_init__(self) -> None:
        for name in ("nodes", "workers", "micro_batch", "accumulation"):
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value) or value < 1:
                raise DataError(f"{name} must be a whole number of at least 1, not {value}")
        if self.workers < self.nodes:
            raise DataError(
                f"{self.workers} workers leave some of {self.nodes} nodes empty; workers are "
                "counted over all nodes"
            )
        if self.workers % self.nodes and not self.uneven:
            raise DataError(
                f"{self.workers} workers cannot be spread evenly over {self.nodes} nodes; give a "
                f"multiple of {self.nodes}"
            )

    @property
    def batch_size(self) -> int:
        """Examples of one optimizer step."""
        return self.workers * self.micro_batch * self.accumulation

    @property
    def per_node(self) -> float:
        """Workers on a node, on average."""
        return self.workers / self.nodes


@dataclass(frozen=True, slots=True)
class StepPrediction:
    """How long one optimizer step takes.

    Attributes
    ----------
    configuration : StepConfiguration
        Of which step.
    seconds : Interval
        Wall time of one optimizer step, with its 80 % interval.
    flags : tuple of str
        Codes of what makes the number doubtful; empty where it is inside what was measured.

    Examples
    --------
    >>> step = StepConfiguration(nodes=1, workers=2, micro_batch=100)
    >>> StepPrediction(step, Interval(0.5, 0.4, 0.6, LEVEL)).examples_per_second
    400.0
    """

    configuration: StepConfiguration
    seconds: Interval
    flags: tuple[str, ...] = ()

    @property
    def examples_per_second(self) -> float:
        """Throughput at the central estimate."""
        return self.configuration.batch_size / self.seconds.estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether the second of two configurations takes longer for the same number of examples.

    Seconds per example are compared: at one batch size these are the steps themselves, at one
    micro-batch it is the throughput.

    Attributes
    ----------
    first, second : StepConfiguration
        The two.
    verdict : {"slower", "faster", "undecided"}
        Of the second against the first.

    Examples
    --------
    >>> one, two = (StepConfiguration(1, workers, 64 // workers) for workers in (1, 2))
    >>> Comparison(one, two, "slower").verdict
    'slower'
    """

    first: StepConfiguration
    second: StepConfiguration
    verdict: Verdict


def verdict_of(ratio: Interval) -> Verdict:
    """What the interval of a ratio of times decides.

    >>> verdict_of(Interval(1.4, 1.1, 1.8)), verdict_of(Interval(1.1, 0.9, 1.3))
    ('slower', 'undecided')
    """
    return "slower" if ratio.low > 1 else "faster" if ratio.high < 1 else "undecided"
