"""A table on disk as an endless supply of shuffled minibatches for torch's ``DataLoader``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset, get_worker_info

from batchsense.arrays import Matrix
from batchsense.errors import DataError, UnresolvedError
from batchsense.machine_memory import format_bytes
from batchsense.storage.rows import Rows, RowSource, open_rows
from batchsense.storage.rows.fingerprint import fingerprint
from batchsense.training.streaming.order import Part, StreamOrder
from batchsense.training.streaming.planning import MAX_DESIGN_EFFECT, StreamPlan, plan_stream

#: What a minibatch is: a tensor of a plain array, else tensors (lists of texts) by column.
Minibatch = Tensor | dict[str, "Tensor | list[str]"]


#: What a state has of the order, and in which order processes share it.
_SHARED = ("epoch", "minibatches", "seed", "block", "pool")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where iteration goes on: an epoch, and minibatches of it that are done in this rank."""

    epoch: int
    minibatches: int


class BlockStream(IterableDataset[Minibatch]):
    """Shuffled minibatches of a table that does not fit into memory.

    Random blocks of rows fill a pool, which is shuffled and cut into minibatches. How large blocks
    and pool are follows from how alike the rows of a block are (:func:`plan_stream`). The order is
    a function of (seed, epoch, position). Each iteration is one epoch; the next has another order.

    Give it to a ``DataLoader`` with ``batch_size=None`` and ``num_workers=loaders``. Under
    ``torch.distributed`` or ``torchrun`` ranks take disjoint rows, and differ by one minibatch at
    most, by none with ``drop_last``.

    Parameters
    ----------
    source : path
        The table: ``.npy``, Parquet, Zarr or AnnData; see
        :func:`batchsense.storage.rows.open_rows`.
    batch_size : int
        Rows of a minibatch.
    memory_bytes : int
        What the stream may take in memory in each rank, in all its loader processes together.
    seed : int
        What chooses the order.
    columns : sequence of str, optional
        Which columns are read.
    loaders : int
        ``num_workers`` of the ``DataLoader``.
    drop_last : bool
        Whether smaller minibatches at the end of an epoch are left out.
    allowed : float
        The largest design effect; infinite takes the stream as it is.

    Attributes
    ----------
    plan : StreamPlan
        Blocks, pool and design effect.

    Raises
    ------
    DataError
        The table cannot be read or planned for; see :func:`plan_stream`.
    UnresolvedError
        The shuffle would be worse than allowed; says the least memory that suffices.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name, "rows.npy")
    >>> np.save(file, np.arange(10_000, dtype="float32").reshape(-1, 1))
    >>> stream = BlockStream(file, 64, 1_000_000)
    >>> len(stream), next(iter(stream)).shape
    (157, torch.Size([64, 1]))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        source: str | Path,
        batch_size: int,
        memory_bytes: int,
        seed: int = 0,
        *,
        columns: Sequence[str] | None = None,
        loaders: int = 0,
        drop_last: bool = False,
        allowed: float = MAX_DESIGN_EFFECT,
    ) -> None:
        self.source: RowSource = open_rows(source, columns)
        self.plan: StreamPlan = plan_stream(
            self.source, batch_size, memory_bytes, seed, loaders=loaders, allowed=allowed
        )
        if not self.plan.fits:
            raise refusal(self.plan, self.source.path)
        self._rank, self._ranks = _rank_and_ranks()
        self._processes = max(loaders, 1)
        self._loaders = loaders
        self._batch_size, self._drop_last = batch_size, drop_last
        # In memory that all processes see, because torch copies a data set into its loaders and
        # may keep them for many epochs: what the order hangs on, and how often each process that
        # reads has begun an epoch since it was set.
        self._shared = torch.zeros(len(_SHARED) + self._processes, dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._start((0, 0, seed, self.plan.block, self.plan.pool))
        self._given = 0

    def __len__(self) -> int:
        """Minibatches of an epoch in this rank."""
        return sum(
            self._order.minibatches(self._share(loader)) for loader in range(self._processes)
        )

    def __iter__(self) -> Iterator[Minibatch]:
        """Go through the next epoch, or the rest of one that :meth:`load_state_dict` took up."""
        loader = self._loader()
        turn = int(self._begun[loader])
        self._begun[loader] += 1
        place = self._begin if turn == 0 else _Place(self._begin.epoch + turn, 0)
        self._given = place.minibatches
        # Loaders are asked in turn, always from the first: after a part of an epoch the one that
        # comes first plays the part of the one whose turn it is.
        acting = (loader + place.minibatches) % self._processes
        done = -(-(place.minibatches - acting) // self._processes)
        share = self._share(acting)
        for minibatch in self._minibatches(place.epoch, share, max(done, 0)):
            self._given += 1
            yield self._published(minibatch)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch, from its beginning."""
        if epoch < 0:
            raise DataError(f"epochs count from 0, not {epoch}")
        order = self._order
        self._start((epoch, 0, order.seed, order.block, order.pool))

    def examples(self, number: int) -> TensorDataset:
        """Some random rows in memory, as the examples of a :class:`~batchsense.training.Workload`.

        Those with which the first pool of epoch 0 begins; every field must hold numbers.

        Raises
        ------
        DataError
            More rows are asked for than a pool holds, or a column holds texts.
        """
        held = self._order.pool_rows(0)
        if not 1 <= number <= held:
            raise DataError(f"between 1 and {held:,} examples can be taken, not {number:,}")
        with self.source.opened() as fill:
            rows = fill(self._order.spans(0, 0))
            found = self._published(rows.take(self._order.places(0, Part(0, 0, number))))
        tensors = [found] if isinstance(found, Tensor) else list(found.values())
        numbers = [one for one in tensors if isinstance(one, Tensor)]
        if len(numbers) < len(tensors):
            raise DataError("a column holds texts; choose columns of numbers", self.source.path)
        return TensorDataset(*numbers)

    def state_dict(self, minibatches: int | None = None) -> dict[str, Any]:
        """What a later run needs to go on with the next minibatch.

        Parameters
        ----------
        minibatches : int, optional
            How many of the present epoch the training loop has taken in each rank. Counted here
            without loader processes; with them only the loop knows, because they read ahead.

        Raises
        ------
        DataError
            The number is needed, or is more than an epoch has.
        """
        if minibatches is None:
            if self._loaders:
                raise DataError(
                    "with loader processes only the training loop knows how many minibatches it "
                    "took; give state_dict(minibatches=...)"
                )
            minibatches = self._given
        epoch = self._begin.epoch + max(int(self._begun.max()) - 1, 0)
        if not 0 <= minibatches <= len(self):
            raise DataError(f"an epoch has {len(self):,} minibatches, not {minibatches:,}")
        if minibatches == len(self):
            epoch, minibatches = epoch + 1, 0
        found = dict(zip(_SHARED, map(int, self._shared), strict=False))
        return {
            "version": 1,
            **found,
            "epoch": epoch,
            "minibatches": minibatches,
            **self._must_agree(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, in the same order whatever the memory is now.

        Raises
        ------
        DataError
            The state is of another table, batch size, number of ranks or loaders, which would
            change the order; or its pools do not fit into the memory that is allowed now.
        """
        try:
            wanted = {name: state[name] for name in self._must_agree()}
            place = _Place(int(state["epoch"]), int(state["minibatches"]))
            seed, block, pool = (int(state[name]) for name in ("seed", "block", "pool"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not the state of a stream: {error!r}") from None
        for name, value in self._must_agree().items():
            if wanted[name] != value:
                raise DataError(_disagreement(name, wanted[name], value), where=self.source.path)
        needed = block * pool * self.source.row_bytes * self._processes
        if 2 * needed > self.plan.memory_bytes:
            raise DataError(
                f"the state was taken with pools of {pool:,} blocks of {block:,} rows, which need "
                f"{format_bytes(2 * needed)}; {format_bytes(self.plan.memory_bytes)} are allowed. "
                "Give as much, or begin an epoch anew without the state",
                where=self.source.path,
            )
        self._start((place.epoch, place.minibatches, seed, block, pool))

    def _must_agree(self) -> dict[str, Any]:
        """What a state and a stream must have in common, or the order would be another one."""
        return {
            "fingerprint": fingerprint(self.source.path),
            "rows": self.plan.rows,
            "batch_size": self._batch_size,
            "columns": [one.name for one in self.source.fields],
            "ranks": self._ranks,
            "loaders": self._loaders,
            "drop_last": self._drop_last,
        }

    @property
    def _order(self) -> StreamOrder:
        seed, block, pool = map(int, self._shared[2 : len(_SHARED)])
        return StreamOrder(
            self.plan.rows,
            block,
            pool,
            self._batch_size,
            self._ranks * self._processes,
            seed,
            self._drop_last,
        )

    @property
    def _begin(self) -> _Place:
        return _Place(int(self._shared[0]), int(self._shared[1]))

    @property
    def _begun(self) -> Tensor:
        return self._shared[len(_SHARED) :]

    def _start(self, values: tuple[int, int, int, int, int]) -> None:
        """Let the next iteration begin there."""
        self._shared[: len(_SHARED)] = torch.tensor(values, dtype=torch.int64)
        self._begun.zero_()
        self._given = values[1]

    def _loader(self) -> int:
        """Which of the loader processes this is."""
        info = get_worker_info()
        found = 0 if info is None else info.num_workers
        if found != self._loaders:
            raise DataError(
                f"the stream was planned for {self._loaders} loader processes, which share its "
                f"memory, and is read by {found}; make it with loaders={found}"
            )
        return 0 if info is None else info.id

    def _share(self, loader: int) -> int:
        return loader * self._ranks + self._rank

    def _minibatches(self, epoch: int, share: int, done: int) -> Iterator[dict[str, Matrix]]:
        """Cut what a process reads into minibatches; rows left of a pool go with the next one."""
        order, size = self._order, self._batch_size
        left = order.minibatches(share) - done
        over: list[dict[str, Matrix]] = []
        waiting = 0
        if left < 1:
            return
        with self.source.opened() as fill:
            for part in order.parts_from(share, done):
                rows: Rows | None = None  # before the next pool takes its place
                rows = fill(order.spans(epoch, part.pool))
                low = part.low
                while low < part.high:
                    high = min(low + size - waiting, part.high)
                    places = order.places(epoch, Part(part.pool, low, high))
                    over.append(rows.take(places))
                    waiting += high - low
                    low = high
                    if waiting == size:
                        yield _together(over)
                        left -= 1
                        over, waiting = [], 0
                        if left == 0:
                            return
        if waiting:
            yield _together(over)

    def _published(self, minibatch: dict[str, Matrix]) -> Minibatch:
        found: dict[str, Tensor | list[str]] = {
            name: values.tolist() if values.dtype == object else torch.from_numpy(_native(values))
            for name, values in minibatch.items()
        }
        only = found.get("")
        return only if isinstance(only, Tensor) else found


def refusal(plan: StreamPlan, path: str) -> UnresolvedError:
    """Say that a shuffle is worse than allowed, and what would mend it."""
    return UnresolvedError(
        f"{path}: minibatches of {plan.batch_size:,} from pools of {plan.pool:,} blocks of "
        f"{plan.block:,} rows may vary {plan.design_effect.high:.3g} times as much as independent "
        f"rows, more than {plan.allowed:g}: rows that lie together are alike in "
        f"{plan.icc_column or 'what is not known'}",
        f"{format_bytes(plan.least_bytes)} of memory for the stream, or one shuffle of the file "
        "(shuffle_rows, or batchsense stream FILE --shuffle-to OUT)",
    )


def _together(parts: list[dict[str, Matrix]]) -> dict[str, Matrix]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _native(values: Matrix) -> Matrix:
    """The same numbers in the byte order of this machine, in one piece."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _rank_and_ranks() -> tuple[int, int]:
    """Which of the processes that train together this is; those of ``torchrun`` say so too."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _disagreement(name: str, then: Any, now: Any) -> str:
    if name == "fingerprint":
        return "the file is not the one of the state: it was changed; begin an epoch anew"
    return (
        f"the state was taken with {name} {then}, and this stream has {now}, so the order would "
        "be another one; make the stream with the same, or begin an epoch anew without the state"
    )
