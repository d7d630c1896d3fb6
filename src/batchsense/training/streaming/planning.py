"""How to stream a table: as large blocks as the wanted randomness and the memory allow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchsense.errors import DataError
from batchsense.machine_memory import format_bytes
from batchsense.progress import Progress, silent
from batchsense.storage.rows import RowSource, open_rows
from batchsense.training.streaming.block_sampling import design_effect, least_pool
from batchsense.training.streaming.pilot import Clustering, Pilot, read_pilot
from batchsense.variation.interval import Interval

#: The largest design effect that is let through: five per cent more examples for the same noise.
MAX_DESIGN_EFFECT = 1.05
#: Share of the memory for pools. The rest is for minibatches, what readers unpack, and what the
#: allocator keeps (benchmarks/results/stream_throughput.json).
_POOL_SHARE = 0.5
#: Bytes of a block at least: a disk reads no less than a page, so smaller blocks would read the
#: table several times an epoch. Pools without room for so many of these have smaller ones.
_LEAST_READ, _LEAST_BLOCKS = 4096, 64
#: Minibatches in memory for each loader process: two that wait, as torch's loaders fetch ahead, and
#: the one that is made; and in the process that trains, which holds one and takes the next.
_WAITING, _IN_USE = 3, 2


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """How a table is streamed, and what that costs.

    Attributes
    ----------
    rows : int
        Rows of the table.
    batch_size : int
        Rows of a minibatch.
    block : int
        Rows that are read together.
    pool : int
        Blocks that are in memory together, in each process that reads.
    icc : Interval or None
        Intraclass correlation of rows in a block of ``icc_block``; None where the table is too
        small to tell, and fits.
    icc_block : int or None
        ``block``, or the largest size that was looked at where whole pools are smaller or larger.
    icc_column : str
        The column in which rows of a block are most alike.
    design_effect : Interval
        Variance of a minibatch mean over that of as many independent rows; planned with its upper
        end.
    allowed : float
        The largest design effect that was let through.
    memory_bytes, used_bytes, least_bytes : int
        The memory that was allowed, what this plan takes of it, and the least with which the
        design effect would be as allowed.
    row_bytes : int
        Of a row in a pool.
    pilot_blocks : int
        Random blocks that were read.
    left_out : tuple of str
        Columns that miss values, and were not looked at.
    """

    rows: int
    batch_size: int
    block: int
    pool: int
    icc: Interval | None
    icc_block: int | None
    icc_column: str
    design_effect: Interval
    allowed: float
    memory_bytes: int
    used_bytes: int
    least_bytes: int
    row_bytes: int
    pilot_blocks: int
    left_out: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the design effect is at most as allowed, also at its upper end."""
        return self.design_effect.high <= self.allowed

    @property
    def effective_batch_size(self) -> float:
        """How many independent rows a minibatch is worth."""
        effect = self.design_effect.estimate
        return self.batch_size / effect if effect > 0 else float(self.rows)


def plan_stream(
    source: str | Path | RowSource,
    batch_size: int,
    memory_bytes: int,
    seed: int = 0,
    *,
    by: str | None = None,
    loaders: int = 0,
    allowed: float = MAX_DESIGN_EFFECT,
    progress: Progress = silent,
) -> StreamPlan:
    """Choose blocks and pool for a table on disk, from random blocks of it.

    Of the sizes of blocks, powers of two of what is stored together, the largest is taken with
    which the upper end of the design effect is as allowed; if there is none, the best one.

    Parameters
    ----------
    source : path or RowSource
        The table; :func:`batchsense.storage.rows.open_rows` chooses columns of it.
    batch_size : int
        Rows of a minibatch.
    memory_bytes : int
        What the stream may take in memory beside the program, in all its processes together.
    seed : int
        Which blocks are looked at.
    by : str, optional
        The column whose order on the disk matters, such as a label; by default all are looked at
        and the one counts that is most alike within blocks.
    loaders : int
        Loader processes that share the memory; 0 for none.
    allowed : float
        The largest design effect.
    progress : Progress
        Told what is read.

    Raises
    ------
    DataError
        The table cannot be read, has fewer rows than a minibatch, what it stores together does not
        fit, or not even one minibatch does.
    UnresolvedError
        Nothing varies.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "sorted.npy")
    ...     np.save(file, np.repeat(np.arange(8.0), 8192)[:, None] * np.ones(64))
    ...     plan = plan_stream(file, 32, 8_000_000)
    >>> plan.block, plan.pool, round(plan.design_effect.high, 2), plan.fits
    (8, 911, 1.03, True)
    """
    table = source if isinstance(source, RowSource) else open_rows(source)
    if batch_size < 1 or memory_bytes < 1 or loaders < 0:
        raise DataError("batch size and memory must be positive, loaders at least 0")
    if table.rows < batch_size:
        raise DataError(
            f"it has {table.rows:,} rows, fewer than a minibatch of {batch_size:,}", table.path
        )
    room = _Room(table, batch_size, memory_bytes, max(loaders, 1))
    room.check_unit()
    pilot = read_pilot(table, room.usable, by=by, seed=seed, progress=progress)
    if table.rows * table.row_bytes <= room.usable:
        return room.plan(pilot, _Choice(table.rows, 1, _largest(pilot)), allowed)
    choices = [
        _Choice(block, pool, clustering)
        for block, clustering in _candidates(table, pilot, room.usable)
        for pool in room.pools(block)
        if block * pool >= batch_size
    ]
    if not choices:
        needed = room.bytes_for(table.unit, -(-batch_size // table.unit))
        raise DataError(
            f"not even one minibatch of {batch_size:,} rows fits into {format_bytes(memory_bytes)};"
            f" {format_bytes(needed)} are needed",
            where=table.path,
        )
    plans = [room.plan(pilot, choice, allowed) for choice in choices]
    fitting = [plan for plan in plans if plan.fits]
    return fitting[0] if fitting else min(plans, key=lambda plan: plan.design_effect.high)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A size of blocks, how many make a pool, and how alike their rows are."""

    block: int
    pool: int
    clustering: Clustering | None


@dataclass(frozen=True, slots=True)
class _Room:
    """The memory of one process that reads, and what has to fit into it."""

    table: RowSource
    batch_size: int
    memory: int
    processes: int

    @property
    def beside(self) -> int:
        """What is taken beside the pool."""
        minibatch = self.batch_size * self.table.minibatch_row_bytes
        return self.table.unit_bytes + (_WAITING + _IN_USE) * minibatch

    @property
    def usable(self) -> int:
        """Bytes of a pool."""
        share = self.memory // self.processes
        return max(0, min(int(_POOL_SHARE * share), share - self.beside))

    def check_unit(self) -> None:
        """Refuse a table of which a part that has to be unpacked whole does not fit."""
        share = self.memory // self.processes
        if self.table.unit_bytes > _POOL_SHARE * share:
            raise DataError(
                f"it is unpacked whole and then takes {format_bytes(self.table.unit_bytes)}, more "
                f"than half of the {format_bytes(share)} of a process that reads; give at least "
                f"{format_bytes(self.processes * self.table.unit_bytes / _POOL_SHARE)}, or store "
                "the table in smaller parts",
                where=self._unit(),
            )

    def _unit(self) -> str:
        place, path = self.table.unit_place, self.table.path
        return place if place.startswith(path) else f"{path}, {place}"

    def pools(self, block: int) -> list[int]:
        """Blocks of a pool: such that all are about alike, and as many as fit."""
        most = min(self.usable // (block * self.table.row_bytes), self.table.rows // block)
        if most < 1:
            return []
        blocks = self.table.rows // block
        return list(dict.fromkeys([-(-blocks // -(-blocks // most)), most]))

    def bytes_for(self, block: int, pool: int) -> int:
        """The memory that a pool takes, with all that has to lie beside it."""
        held = block * pool * self.table.row_bytes
        return self.processes * max(int(held / _POOL_SHARE), held + self.beside)

    def effect(self, choice: _Choice, icc: float) -> float:
        """The design effect of a choice, if rows of a block are so much alike."""
        return design_effect(
            min(max(icc, 0.0), 1.0), self.batch_size, self.table.rows, choice.block, choice.pool
        )

    def least(self, pilot: Pilot, allowed: float) -> int:
        """The least memory with which the design effect is as allowed."""
        whole = self.bytes_for(1, self.table.rows)
        found = [
            self.bytes_for(
                block,
                least_pool(
                    min(max(_high(clustering), 0.0), 1.0),
                    self.batch_size,
                    self.table.rows,
                    block,
                    max(allowed, 1.0),
                ),
            )
            for block, clustering in _candidates(self.table, pilot, self.memory)
        ]
        return min([whole, *found])

    def plan(self, pilot: Pilot, choice: _Choice, allowed: float) -> StreamPlan:
        """What a choice costs."""
        clustering = choice.clustering
        icc = clustering.icc if clustering else Interval(0.0, 0.0, 1.0)
        effects = [self.effect(choice, one) for one in (icc.estimate, icc.low, icc.high)]
        return StreamPlan(
            rows=self.table.rows,
            batch_size=self.batch_size,
            block=choice.block,
            pool=choice.pool,
            icc=None if clustering is None else icc,
            icc_block=None if clustering is None else clustering.block,
            icc_column="" if clustering is None else clustering.column,
            design_effect=Interval(effects[0], effects[1], effects[2], icc.level),
            allowed=allowed,
            memory_bytes=self.memory,
            used_bytes=self.bytes_for(choice.block, choice.pool),
            least_bytes=self.least(pilot, allowed),
            row_bytes=self.table.row_bytes,
            pilot_blocks=pilot.blocks,
            left_out=pilot.left_out,
        )


def _candidates(table: RowSource, pilot: Pilot, usable: int) -> list[tuple[int, Clustering | None]]:
    """Sizes of blocks, the largest first; single rows too, which are alike to nobody."""
    found: list[tuple[int, Clustering | None]] = [(one.block, one) for one in pilot.clusterings]
    if table.unit == 1:
        # Of blocks of one row the correlation does not matter; that of two stands in the report.
        found.append((1, pilot.clusterings[-1] if pilot.clusterings else None))
    elif not found:
        found.append((min(table.unit, table.rows), None))
    least = min(_LEAST_READ, usable // _LEAST_BLOCKS)
    return [one for one in found if one[0] * table.row_bytes >= least] or found[:1]


def _largest(pilot: Pilot) -> Clustering | None:
    return pilot.clusterings[0] if pilot.clusterings else None


def _high(clustering: Clustering | None) -> float:
    return 1.0 if clustering is None else clustering.icc.high
