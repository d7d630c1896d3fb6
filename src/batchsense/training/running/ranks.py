"""The processes of one training: who they are, and how they meet, agree and part."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from batchsense import clock
from batchsense.arrays import Floats
from batchsense.errors import BatchsenseError, DataError, PeerError, listed
from batchsense.progress import Progress, silent

T = TypeVar("T")

#: Seconds that a process waits for another: longer than reading a large data set differs between
#: machines, shorter than the half hour of torch, after which nobody watches any more.
TIMEOUT_SECONDS = 300.0
#: What torchrun tells each process; without the second there is one process.
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_COUNTS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
#: Seconds that a process which lost its peers leaves to the one that failed first to say why.
_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among those of a training.

    Attributes
    ----------
    rank, world_size : int
        Which process, from 0, and how many there are.
    local_rank : int
        Which of its machine.
    backend : {"gloo", "nccl"} or None
        What carries gradients: nccl where each process has a GPU of its own (tensors of the CPU go
        by gloo all the same); None for one process.
    nodes : int or None
        Machines, as torchrun was told; None where nobody said.
    timeout_seconds : float
        How long a process waits for another.

    Examples
    --------
    >>> Ranks().is_first, Ranks().summed([1.0, 2.0])
    (True, array([1., 2.]))
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    backend: str | None = None
    nodes: int | None = 1
    timeout_seconds: float = TIMEOUT_SECONDS
    _store: Any = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world_size == 1

    def on_first(self, progress: Progress) -> Progress:
        """The listener on the first process, silence on the others."""
        return progress if self.is_first else silent

    def summed(self, values: npt.ArrayLike) -> Floats:
        """Sum numbers over all processes, in float64; every process must call.

        Raises
        ------
        RuntimeError
            A process is gone; :func:`joined_ranks` makes a PeerError of it.
        """
        own = np.array(values, dtype=np.float64)
        if not self.alone:
            distributed.all_reduce(torch.from_numpy(own))
        return own

    def gathered(self, thing: T) -> list[T]:
        """What each process gives, by rank; every process must call."""
        if self.alone:
            return [thing]
        found: list[Any] = [None] * self.world_size
        distributed.all_gather_object(found, thing)
        return found

    def agreed(self, work: Callable[[], T]) -> T:
        """Do work on every process; if it fails on one, its error is raised on all.

        Without that a process that cannot go on leaves the others waiting.

        Raises
        ------
        BatchsenseError
            That of the lowest rank that has one.
        """
        done, problem = None, None
        try:
            done = work()
        except BatchsenseError as error:
            problem = error
        for told in self.gathered(problem):
            if told is not None:
                raise told
        return done  # type: ignore[return-value]

    def from_first(self, work: Callable[[], T]) -> T:
        """Do work on the first process only and give its result, or its error, to all."""
        done = self.agreed(lambda: work() if self.is_first else None)
        return self.gathered(done)[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until every process is here."""
        self.gathered(None)


#: A run of one process.
ALONE = Ranks()


def present_ranks() -> Ranks:
    """The processes of torch's process group, if there is one already; else this one alone."""
    if distributed.is_available() and distributed.is_initialized():
        return _existing(TIMEOUT_SECONDS)
    return ALONE


@contextlib.contextmanager
def joined_ranks(
    *, timeout_seconds: float = TIMEOUT_SECONDS, environment: Mapping[str, str] = os.environ
) -> Iterator[Ranks]:
    """Meet the other processes that torchrun started, and part from them at the end.

    Without torchrun, or with one process, nothing is set up. A process group that exists already
    is used and left as it is. With nccl the process's GPU becomes the current one, so that a model
    on ``"cuda"`` is on it.

    One process speaks for all: the first on which an error is raised that is not only about lost
    peers. Errors on the others are marked as ``told``.

    Parameters
    ----------
    timeout_seconds : float
        How long to wait for a process, here and in every exchange later.
    environment : mapping, optional
        That of the process by default.

    Yields
    ------
    Ranks
        This process and the others.

    Raises
    ------
    PeerError
        A process cannot be reached, is gone or does not answer in time.
    DataError
        The environment is only half set.

    Examples
    --------
    >>> with joined_ranks(environment={}) as ranks:
    ...     ranks.world_size, ranks.backend
    (1, None)
    """
    if distributed.is_available() and distributed.is_initialized():
        yield _existing(timeout_seconds)
        return
    if environment.get("WORLD_SIZE", "1") == "1":
        yield Ranks(timeout_seconds=timeout_seconds)
        return
    ranks = _met(environment, timeout_seconds)
    try:
        yield ranks
    except Exception as error:
        spoken = _spoken(ranks, error)
        if spoken is error:
            raise
        raise spoken from error
    finally:
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()


def _met(environment: Mapping[str, str], seconds: float) -> Ranks:
    wrong = [name for name in _NEEDED if not environment.get(name)]
    wrong += [name for name in _COUNTS if not environment.get(name, "0").isdigit()]
    if wrong:
        raise DataError(
            f"WORLD_SIZE is set but {listed(dict.fromkeys(wrong))} is missing or no number; start "
            "with torchrun, or unset it",
            where="environment",
        )
    if not (distributed.is_available() and distributed.is_gloo_available()):
        raise DataError("this torch has no gloo; install one with torch.distributed")
    rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    local = int(environment.get("LOCAL_RANK", "0"))
    own_gpu = distributed.is_nccl_available() and torch.cuda.device_count() >= int(
        environment.get("LOCAL_WORLD_SIZE", local + 1)
    )
    patience = timedelta(seconds=seconds)
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=patience)))
        store.set_timeout(patience)
        # All must choose the same backend; a machine without GPUs decides for all.
        store.set(f"gpu/{rank}", "1" if own_gpu else "0")
        with_gpu = all(store.get(f"gpu/{other}") == b"1" for other in range(size))
        if with_gpu:
            torch.cuda.set_device(local)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if with_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=patience,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise PeerError(
            f"rank {rank} of {size} did not meet the others at {environment['MASTER_ADDR']}:"
            f"{environment['MASTER_PORT']} within {seconds:g} s ({_first_line(error)}); start "
            f"torchrun on every machine with the same address and {size} processes in all, "
            "and let GLOO_SOCKET_IFNAME name the network interface by which they reach each other"
        ) from error
    nodes = environment.get("GROUP_WORLD_SIZE")
    return Ranks(
        rank,
        size,
        local,
        "nccl" if with_gpu else "gloo",
        None if nodes is None else int(nodes),
        seconds,
        PrefixStore("batchsense", store),
    )


def _existing(seconds: float) -> Ranks:
    return Ranks(
        distributed.get_rank(),
        distributed.get_world_size(),
        int(os.environ.get("LOCAL_RANK", "0")),
        "nccl" if "nccl" in distributed.get_backend() else "gloo",
        None,
        seconds,
    )


def _spoken(ranks: Ranks, error: Exception) -> Exception:
    """What to raise for an error on one process: itself, or that another has said why."""
    lost = _is_loss_of_peers(error)
    speaker = _claim(ranks, _GRACE_SECONDS if lost else 0.0)
    if lost:
        error = PeerError(
            f"rank {ranks.rank} of {ranks.world_size} lost another process, or waited for it more "
            f"than {ranks.timeout_seconds:g} s ({_first_line(error)}); see what that one said "
            "last, then start all of them again"
        )
    if isinstance(error, BatchsenseError):
        error.told = speaker != ranks.rank
    return error


def _claim(ranks: Ranks, grace_seconds: float) -> int:
    """Which process speaks: the first that asks. A store that is gone cannot be asked."""
    try:
        ends = clock.now() + grace_seconds
        while clock.now() < ends and not ranks._store.check(["speaker"]):
            time.sleep(0.02)
        return int(ranks._store.compare_set("speaker", "", str(ranks.rank)))
    except (RuntimeError, ValueError):
        return ranks.rank


def _is_loss_of_peers(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, distributed.DistError):
            return True
        if isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error)):
            return True
        error = error.__cause__
    return False


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Without the line of gloo's source before, and its advice after.
    return lines[0].rpartition("] ")[2].split(". ")[0][:200]
