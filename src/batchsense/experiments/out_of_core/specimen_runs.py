"""Runs of specimens: what is done, what is left, and how many fit in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

#: Specimens from the first number up to, not including, the second.
Span: TypeAlias = tuple[int, int]


def united(spans: Iterable[Span]) -> list[Span]:
    """Join spans that touch or overlap.

    Examples
    --------
    >>> united([(4, 6), (0, 2), (2, 4), (8, 9)])
    [(0, 6), (8, 9)]
    """
    joined: list[Span] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def missing(done: Iterable[Span], total: int) -> list[Span]:
    """Give what is left of ``total`` specimens.

    Examples
    --------
    >>> missing([(2, 4)], 6)
    [(0, 2), (4, 6)]
    """
    left, place = [], 0
    for low, high in [*united(done), (total, total)]:
        if low > place:
            left.append((place, low))
        place = max(place, high)
    return left


def cut(spans: Iterable[Span], rows: int) -> Iterator[Span]:
    """Cut spans at the multiples of ``rows``.

    Examples
    --------
    >>> list(cut([(0, 5), (7, 9)], 4))
    [(0, 4), (4, 5), (7, 8), (8, 9)]
    """
    for low, high in spans:
        while low < high:
            stop = min(high, (low // rows + 1) * rows)
            yield low, stop
            low = stop


def length(spans: Iterable[Span]) -> int:
    """Count the specimens."""
    return sum(high - low for low, high in spans)
