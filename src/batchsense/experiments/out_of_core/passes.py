"""The two passes over a matrix on disk: sums of every block, then its correction.

While one block is computed the next is read and the last is written. Reading, unpacking and the
compiled passes release the interpreter's lock, so three threads share two processors well.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from batchsense.arrays import Matrix
from batchsense.errors import DataError, listed
from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.out_of_core.budget import BLOCKS
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.out_of_core.pass_protocol import BySpecimen, Pass, State
from batchsense.experiments.out_of_core.result_array import ResultArray, filling
from batchsense.experiments.out_of_core.runs import SpecimenRun
from batchsense.storage.matrices.chunks import Reader, opened
from batchsense.storage.matrices.folded import Folded
from batchsense.storage.matrices.location import MatrixLocation

StateT = TypeVar("StateT", bound=State)
#: Told of every run when it is done.
Done = Callable[[SpecimenRun], None]

#: Seconds between two requests that the disk take what was written. A killed run loses that much;
#: a request for every block would make a spinning disk seek all the time.
_SYNC_EVERY_S = 1.0


def sum_blocks(
    inputs: Pass,
    runs: Sequence[SpecimenRun],
    into: StateT,
    done: Done,
    *,
    number: int = BLOCKS,
    threads: int | None = None,
) -> StateT:
    """Add specimens, or features, to what a pass adds up, block by block.

    ``into`` is changed and returned; ``done`` is told of each block after it was added. With fewer
    blocks in memory at a time (``number``) less is done side by side.

    Raises
    ------
    DataError
        A block cannot be read, or a value is infinite.
    """
    with inputs.opened() as read, ThreadPoolExecutor(1) as ahead:
        reading = _Reading(ahead, read, runs, _buffers(inputs.room, runs, min(number, 2)))
        for low, high in runs:
            block, buffer = reading.take()
            reading.ask()
            try:
                inputs.add(into, block, (low, high), threads)
            except DataError as error:
                if isinstance(inputs, PassInputs):
                    block = block.rows() if isinstance(block, Folded) else block
                    _refuse_infinite(inputs.location, block, low)
                    raise DataError(error.message, where=inputs.location.path) from None
                raise
            reading.free(buffer)
            done((low, high))
    return into


def correct_blocks(
    inputs: PassInputs,
    result: ResultArray,
    runs: Sequence[SpecimenRun],
    model: Affine,
    done: Done,
    *,
    number: int = BLOCKS,
    threads: int | None = None,
) -> None:
    """Correct specimens, block by block, and put them into the result.

    The blocks begin at multiples of ``result.rows``; ``done`` is told of each after it has reached
    the disk itself. With fewer blocks in memory at a time (``number``) less is done side by side.

    Raises
    ------
    DataError
        A block cannot be read.
    OSError
        The result cannot be written.
    """
    with (
        opened(inputs.location) as read,
        filling(result) as (write, sync),
        ThreadPoolExecutor(1) as ahead,
        ThreadPoolExecutor(1) as behind,
        ThreadPoolExecutor(1) as safe,
    ):
        room = partial(BySpecimen.room, inputs)  # what is corrected is not sparse any more
        reading = _Reading(ahead, read, runs, _buffers(room, runs, number))
        syncing = _Syncing(safe, sync, done)
        writing: deque[tuple[Future[None], SpecimenRun, Matrix]] = deque()

        def finish_oldest() -> None:
            future, run, buffer = writing.popleft()
            future.result()
            syncing.written(run)
            reading.free(buffer)

        for low, high in runs:
            block, buffer = reading.take()
            if not reading.can_ask and writing:
                finish_oldest()
            reading.ask()
            model.apply(block, *inputs.design((low, high)), out=block, threads=threads)
            writing.append((behind.submit(write, low, block), (low, high), buffer))
            if number == 1:
                finish_oldest()
        while writing:
            finish_oldest()
        syncing.finish()


class _Reading:
    """Reads the next block into a free buffer while another one is in use."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        read: Reader,
        runs: Sequence[SpecimenRun],
        buffers: list[Matrix],
    ) -> None:
        self._pool, self._read, self._free = pool, read, buffers
        self._left = deque(runs)
        self._coming: deque[tuple[Future[None], Matrix, Matrix]] = deque()
        self.ask()

    @property
    def can_ask(self) -> bool:
        """Whether a buffer is free."""
        return bool(self._free)

    def ask(self) -> None:
        """Start reading the next block, if there is one and room for it."""
        if self._left and self._free and not self._coming:
            low, high = self._left.popleft()
            buffer = self._free.pop()
            block = buffer[: high - low]
            future = self._pool.submit(self._read, low, high, block)
            self._coming.append((future, block, buffer))

    def take(self) -> tuple[Matrix, Matrix]:
        """Wait for the next block; give it, and the buffer that it lies in."""
        self.ask()
        future, block, buffer = self._coming.popleft()
        future.result()
        return block, buffer

    def free(self, buffer: Matrix) -> None:
        """Take a buffer back."""
        self._free.append(buffer)


class _Syncing:
    """Asks the disk to take what was written, beside the work, and reports what it has taken."""

    def __init__(
        self, pool: ThreadPoolExecutor, sync: Callable[[int, int], None], done: Done
    ) -> None:
        self._pool, self._sync, self._done = pool, sync, done
        self._waiting: list[SpecimenRun] = []
        self._running: Future[None] | None = None
        self._asked = time.monotonic()

    def written(self, run: SpecimenRun) -> None:
        """Take note of a block that was handed to the system."""
        self._waiting.append(run)
        if self._running is not None and self._running.done():
            self._running.result()
            self._running = None
        if self._running is None and time.monotonic() - self._asked >= _SYNC_EVERY_S:
            self._ask()

    def finish(self) -> None:
        """Wait for everything."""
        if self._running is not None:
            self._running.result()
        self._ask()
        assert self._running is not None
        self._running.result()

    def _ask(self) -> None:
        runs, self._waiting = self._waiting, []
        self._asked = time.monotonic()

        def work() -> None:
            for low, high in runs:
                self._sync(low, high)
            for run in runs:
                self._done(run)

        self._running = self._pool.submit(work)


def _buffers(
    room: Callable[[int], Matrix], runs: Sequence[SpecimenRun], number: int
) -> list[Matrix]:
    """Make room for blocks; used in turn, since fresh memory is slow at first touch."""
    longest = max((high - low for low, high in runs), default=0)
    return [room(longest) for _ in range(number)]


def _refuse_infinite(location: MatrixLocation, block: Matrix, low: int) -> None:
    infinite = np.argwhere(np.isinf(block))
    if len(infinite):
        cells = (f"{low + i + 1} / {j + 1}" for i, j in infinite)
        raise DataError(
            f"infinite values (number of specimen / feature): {listed(cells)}; replace them, or "
            "store NaN where a value is missing",
            where=location.path,
        )
