"""Batch sizes written down beforehand: a table of sizes by examples consumed."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchsense.errors import DataError
from batchsense.training.running import Ranks

_PART = re.compile(r"(\d[\d_]*)(?:\s+at\s+(\d[\d_]*))?")


@dataclass(frozen=True, slots=True)
class WrittenSchedule:
    """Batch sizes as a function of the examples consumed.

    Attributes
    ----------
    sizes : tuple of int
        Examples per step, over all processes.
    starts : tuple of int
        Examples consumed from which each holds; 0 first, then ascending.

    Raises
    ------
    DataError
        A size is not positive, or the starts do not ascend from 0.

    Examples
    --------
    >>> schedule = WrittenSchedule((64, 256), (0, 20_000))
    >>> schedule.size_at(19_999), schedule.size_at(20_000), str(schedule)
    (64, 256, '64, 256 at 20000')
    """

    sizes: tuple[int, ...]
    starts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sizes or len(self.sizes) != len(self.starts) or self.starts[0] != 0:
            raise DataError("a schedule begins with a size from 0 examples on")
        if min(self.sizes) < 1:
            raise DataError(f"a batch size is one example or more, not {min(self.sizes)}")
        for before, after in zip(self.starts, self.starts[1:], strict=False):
            if after <= before:
                raise DataError(f"the sizes of a schedule ascend in examples: {after} is not "
                                f"after {before}")  # fmt: skip

    def size_at(self, examples: int) -> int:
        """Give the size of a step that begins after so many examples."""
        return self.sizes[bisect_right(self.starts, examples) - 1]

    def __str__(self) -> str:
        """Write the schedule as :func:`parse_schedule` reads it."""
        later = zip(self.sizes[1:], self.starts[1:], strict=True)
        return ", ".join([str(self.sizes[0]), *(f"{size} at {start}" for size, start in later)])

    # What it has in common with rules that measure; see `SizeRule`.
    @property
    def first(self) -> int:
        """The size of the first step."""
        return self.sizes[0]

    def next_size(self, steps: int, examples: int, ranks: Ranks) -> tuple[int, str]:
        """The size of a step, and why."""
        return self.size_at(examples), "written"

    def after_step(self) -> None:
        """Nothing is measured."""

    def state_dict(self) -> dict[str, Any]:
        """What must be the same in a run that goes on."""
        return {"written": str(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of another schedule.

        Raises
        ------
        DataError
            It is of another schedule.
        """
        if state.get("written") != str(self):
            raise DataError(f"the state is of the schedule {state.get('written')!r}, not {self}")


def constant(size: int) -> WrittenSchedule:
    """The same size always.

    Examples
    --------
    >>> constant(64).size_at(10**9)
    64
    """
    return WrittenSchedule((size,), (0,))


def doubling(size: int, milestones: Sequence[int], factor: int = 2) -> WrittenSchedule:
    """Multiply the size by a factor, 2 by default, at each of these numbers of examples.

    Examples
    --------
    >>> str(doubling(32, [1000, 5000]))
    '32, 64 at 1000, 128 at 5000'
    """
    sizes = tuple(size * factor**k for k in range(len(milestones) + 1))
    return WrittenSchedule(sizes, (0, *milestones))


def linear(start: int, end: int, examples: int, multiple_of: int | None = None) -> WrittenSchedule:
    """Grow (or shrink) by equal amounts within so many examples.

    Parameters
    ----------
    start, end : int
        First and last size.
    examples : int
        Over which it grows; ``end`` holds from there on.
    multiple_of : int, optional
        Sizes are multiples of it; ``start`` by default, so that micro-batches stay whole.

    Examples
    --------
    >>> str(linear(32, 128, 30_000))
    '32, 64 at 10000, 96 at 20000, 128 at 30000'
    """
    step = multiple_of or min(start, end)
    count = abs(end - start) // step
    sizes = [start + int(math.copysign(k * step, end - start)) for k in range(count + 1)]
    sizes[-1] = end
    return _spread(sizes, examples)


def exponential(start: int, end: int, examples: int, factor: int = 2) -> WrittenSchedule:
    """Grow by a factor, 2 by default, at equal distances within so many examples.

    Examples
    --------
    >>> str(exponential(32, 256, 30_000))
    '32, 64 at 10000, 128 at 20000, 256 at 30000'
    """
    if factor < 2 or end < start:
        raise DataError(f"growth from {start} to {end} by {factor}: the factor is 2 or more, and "
                        "the last size no smaller than the first")  # fmt: skip
    sizes = [start]
    while sizes[-1] * factor <= end:
        sizes.append(sizes[-1] * factor)
    if sizes[-1] < end:
        sizes.append(end)
    return _spread(sizes, examples)


def seesaw(size: int, examples: int, doublings: int = 6) -> WrittenSchedule:
    r"""Double where a cosine schedule would have halved the learning rate; with couple="seesaw".

    The k-th doubling is where :math:`\tfrac12(1 + \cos πx)` passes :math:`2^{1/2-k}`, half-way (in
    logarithms) between its halvings, x the share of the run; the learning rate stays at its peak
    but for a factor 1/√2 each, in place of the cosine.

    Parameters
    ----------
    size : int
        The size of the cosine run.
    examples : int
        Its whole length.
    doublings : int
        How many.

    References
    ----------
    Meterez et al. (2025), "Seesaw: accelerating training by balancing learning rate and batch size
    scheduling", arXiv:2510.14717.

    Examples
    --------
    >>> str(seesaw(16, 100_000, doublings=3))
    '16, 32 at 36406, 64 at 59462, 128 at 72375'
    """
    levels = 2.0 ** (0.5 - np.arange(1, doublings + 1))
    places = np.arccos(2 * levels - 1) / np.pi * examples
    return doubling(size, [round(place) for place in places])


def parse_schedule(text: str) -> WrittenSchedule:
    """Read ``"64, 256 at 20000, 1024 at 60000"``: sizes, each from so many examples on.

    Raises
    ------
    DataError
        It cannot be read; says which part.

    Examples
    --------
    >>> parse_schedule("64, 256 at 20_000").sizes
    (64, 256)
    >>> parse_schedule("64, 256 from 20000")
    Traceback (most recent call last):
    batchsense.errors.DataError: '256 from 20000' in a schedule: write SIZE at EXAMPLES, such as \
"64, 256 at 20000"
    """
    sizes, starts = [], []
    for place, part in enumerate(text.split(",")):
        found = _PART.fullmatch(part.strip())
        if found is None or (found[2] is None) != (place == 0):
            raise DataError(
                f'{part.strip()!r} in a schedule: write SIZE at EXAMPLES, such as "64, 256 at '
                '20000"'
            )
        sizes.append(int(found[1]))
        starts.append(int(found[2] or 0))
    return WrittenSchedule(tuple(sizes), tuple(starts))


def _spread(sizes: Sequence[int], examples: int) -> WrittenSchedule:
    if len(sizes) == 1:
        return constant(sizes[0])
    if examples < len(sizes) - 1:
        raise DataError(f"{len(sizes) - 1} changes do not fit {examples} examples")
    starts = [round(k * examples / (len(sizes) - 1)) for k in range(len(sizes))]
    return WrittenSchedule(tuple(sizes), tuple(starts))
