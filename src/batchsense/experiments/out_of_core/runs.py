"""Runs of specimens (or of features): joined, cut, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

#: Specimens from the first number up to, not including, the second.
SpecimenRun: TypeAlias = tuple[int, int]


def united(runs: Iterable[SpecimenRun]) -> list[SpecimenRun]:
    """Join runs that touch or overlap.

    Examples
    --------
    >>> united([(4, 6), (0, 2), (2, 4), (8, 9)])
    [(0, 6), (8, 9)]
    """
    joined: list[SpecimenRun] = []
    for low, high in sorted(runs):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def missing(done: Iterable[SpecimenRun], total: int) -> list[SpecimenRun]:
    """What is left of ``total`` specimens.

    Examples
    --------
    >>> missing([(2, 4)], 6)
    [(0, 2), (4, 6)]
    """
    left, reached = [], 0
    for low, high in [*united(done), (total, total)]:
        if low > reached:
            left.append((reached, low))
        reached = max(reached, high)
    return left


def cut(runs: Iterable[SpecimenRun], rows: int) -> Iterator[SpecimenRun]:
    """Cut runs at the multiples of ``rows``.

    Examples
    --------
    >>> list(cut([(0, 5), (7, 9)], 4))
    [(0, 4), (4, 5), (7, 8), (8, 9)]
    """
    for low, high in runs:
        while low < high:
            stop = min(high, (low // rows + 1) * rows)
            yield low, stop
            low = stop


def length(runs: Iterable[SpecimenRun]) -> int:
    """Count the specimens."""
    return sum(high - low for low, high in runs)
