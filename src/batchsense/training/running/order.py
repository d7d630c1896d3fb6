"""The order in which a training sees its examples: endless, seeded, and readable from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchsense.arrays import Integers


class EndlessOrder:
    """Pass after pass over all examples, each in a random order of its own.

    What stands at a position depends on the seed and the position alone: not on batch sizes, on
    the number of processes, or on where a run was stopped. Pass e is the e-th permutation of one
    generator, so reading far ahead costs the passes between.

    >>> order = EndlessOrder(4, seed=0)
    >>> order.at(0, 6).tolist(), order.at(3, 3).tolist()
    ([2, 0, 1, 3, 3, 2], [3, 3, 2])
    """

    def __init__(self, count: int, seed: int | Sequence[int]) -> None:
        self._count, self._seed = count, seed
        self._restart()

    def at(self, start: int, size: int) -> Integers:
        """Read the examples at positions ``start`` to ``start + size``, across passes."""
        parts, end = [], start + size
        while start < end:
            turn, place = divmod(start, self._count)
            part = self._pass(turn)[place : place + end - start]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _restart(self) -> None:
        self._rng = np.random.default_rng(self._seed)
        self._turn, self._permutation = -1, np.zeros(0, dtype=np.int64)

    def _pass(self, turn: int) -> Integers:
        if turn < self._turn:
            self._restart()
        while self._turn < turn:
            self._permutation = self._rng.permutation(self._count)
            self._turn += 1
        return self._permutation
