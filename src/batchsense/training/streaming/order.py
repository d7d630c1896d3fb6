"""Which rows are in which minibatch: a function of seed, epoch and position, and of nothing else.

An epoch is a sequence of pools, each some blocks of the table in random order, each row of a pool
in random order again. Processes that read side by side take whole pools in turn; the last few,
which do not go round, are cut into equal parts, so that no process gets more than one row more
than another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Integers
from batchsense.storage.rows.source import Span
from batchsense.training.streaming.permutation import Permutation

#: What tells the order of blocks from the order of rows in the keys of permutations.
_BLOCKS, _ROWS = 1, 2


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a pool, in their random order."""

    pool: int  #: Which pool of the epoch.
    #: From which place in its random order to which, the second not included.
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """The order of a table's rows in all epochs.

    >>> order = StreamOrder(10, block=2, pool=2, batch_size=3, shares=1, seed=0)
    >>> [order.rows_of(0, part).tolist() for part in order.parts(0)]
    [[4, 1, 0, 5], [3, 2, 6, 7], [9, 8]]
    """

    rows: int  #: Rows of the table.
    block: int  #: Rows that are read together.
    pool: int  #: Blocks that are in memory together.
    batch_size: int  #: Rows of a minibatch.
    shares: int  #: Processes that read side by side.
    seed: int  #: What chooses the order.
    #: Whether rows are left out of an epoch so that all minibatches are full, and every share has
    #: as many.
    drop_last: bool = False

    @property
    def _blocks(self) -> int:
        """Whole blocks; the rest of the table belongs to the last pool."""
        return self.rows // self.block

    @property
    def _full_pools(self) -> int:
        return self._blocks // self.pool

    @property
    def pools(self) -> int:
        """Pools of an epoch, the last perhaps a smaller one."""
        return self._full_pools + (self._full_pools * self.pool * self.block < self.rows)

    def pool_rows(self, pool: int) -> int:
        """How many rows a pool has."""
        full = self.pool * self.block
        return full if pool < self._full_pools else self.rows - self._full_pools * full

    def parts(self, share: int) -> Iterator[Part]:
        """What one process reads in an epoch, in order."""
        rounds, full = self._full_pools // self.shares, self.pool * self.block
        for turn in range(rounds):
            yield Part(turn * self.shares + share, 0, full)
        low, high = self._cut(share)
        for pool in range(rounds * self.shares, self.pools):
            rows = self.pool_rows(pool)
            if low < rows and high > 0:
                yield Part(pool, max(low, 0), min(high, rows))
            low, high = low - rows, high - rows

    def _cut(self, share: int) -> tuple[int, int]:
        """Its rows of the pools that do not go round, as if these were one."""
        rounds = self._full_pools // self.shares
        each, more = divmod(self.rows - rounds * self.shares * self.pool * self.block, self.shares)
        low = share * each + min(share, more)
        return low, low + each + (share < more)

    def minibatches(self, share: int) -> int:
        """How many minibatches one process makes in an epoch."""
        if self.drop_last:
            return self._rows_of_share(self.shares - 1) // self.batch_size
        return -(-self._rows_of_share(share) // self.batch_size)

    def _rows_of_share(self, share: int) -> int:
        """Rows that a process reads: as many as the next one does, or one more."""
        low, high = self._cut(share)
        return self._full_pools // self.shares * self.pool * self.block + high - low

    def parts_from(self, share: int, minibatch: int) -> Iterator[Part]:
        """What a process reads from a minibatch on, without what belongs to earlier ones."""
        rounds, full = self._full_pools // self.shares, self.pool * self.block
        skipped = minibatch * self.batch_size
        begun = min(skipped // full, rounds)
        skipped -= begun * full
        for part in itertools.islice(self.parts(share), begun, None):
            length = part.high - part.low
            if skipped < length:
                yield Part(part.pool, part.low + skipped, part.high)
            skipped = max(0, skipped - length)

    def spans(self, epoch: int, pool: int) -> list[Span]:
        """The rows of a pool as they lie on the disk, in rising order."""
        last = pool >= self._full_pools
        high = self._blocks if last else (pool + 1) * self.pool
        places = np.arange(pool * self.pool, high)
        blocks = np.sort(Permutation(self._blocks, (self.seed, epoch, _BLOCKS)).at(places))
        found = [(int(one) * self.block, (int(one) + 1) * self.block) for one in blocks]
        if last and self._blocks * self.block < self.rows:
            found.append((self._blocks * self.block, self.rows))
        return joined(found)

    def places(self, epoch: int, part: Part) -> Integers:
        """Where the rows of a part are among those of :meth:`spans`."""
        order = Permutation(self.pool_rows(part.pool), (self.seed, epoch, _ROWS, part.pool))
        return order.at(np.arange(part.low, part.high))

    def rows_of(self, epoch: int, part: Part) -> Integers:
        """The rows of a part, by their number in the table."""
        spans = self.spans(epoch, part.pool)
        return np.concatenate([np.arange(*span) for span in spans])[self.places(epoch, part)]


def joined(spans: list[Span]) -> list[Span]:
    """Spans that touch become one: one read instead of two.

    >>> joined([(0, 2), (2, 4), (6, 8)])
    [(0, 4), (6, 8)]
    """
    found: list[Span] = []
    for low, high in spans:
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found
