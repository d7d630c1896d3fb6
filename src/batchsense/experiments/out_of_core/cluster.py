"""The same two passes on the workers of a dask cluster.

Every worker opens the matrix itself and writes its part of the result itself, so the paths must
mean the same files everywhere. Sums travel (a few megabytes), observations do not.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from batchsense.errors import BatchsenseError, DataError, MissingExtraError
from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.out_of_core.budget import Blocks
from batchsense.experiments.out_of_core.engine import (
    Assignment,
    Keep,
    Sizes,
    ThisProcess,
    aligned_rows,
)
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.out_of_core.pass_protocol import Pass, State
from batchsense.experiments.out_of_core.passes import Done, StateT
from batchsense.experiments.out_of_core.result_array import ResultArray
from batchsense.experiments.out_of_core.runs import SpecimenRun, cut

#: Bytes of the matrix that one task reads: seconds of work, so that what dask adds to each task
#: (milliseconds) does not count, and a lost one is done again quickly.
_TASK_BYTES = 256_000_000
#: Tasks for each thread of a worker between two times that the sums are kept. At the end of a round
#: threads wait for the slowest task: of eight, that is a small part.
_ROUND = 8
#: Seconds that a scheduler has for its answer; one that is there answers in less than one, and who
#: mistyped an address should not wait for dask's own 30.
_TIMEOUT_S = 10.0
#: Part of a worker's limit that may be used: dask writes data to disk from 0.7 of it on and pauses
#: a worker at 0.8, as its process is measured; the sums are small, so the first does no harm.
_USED = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """The passes on the workers of a dask cluster; opened by :func:`connected`.

    Attributes
    ----------
    client : distributed.Client
        The connection.
    memory : int
        Bytes that one worker may occupy.
    shares : int
        Threads of a worker.
    threads : int
        Threads of all workers.
    """

    client: Any
    memory: int
    shares: int
    threads: int

    def sizes(self, inputs: PassInputs) -> Sizes:
        """Decide how both passes take the specimens: as the worker with the least room can.

        Raises
        ------
        DataError
            The memory of a worker does not suffice.
        """
        piece = _seen_from_anywhere(inputs).piece((0, 0))
        found: dict[str, Sizes] = self.client.run(self._engine.sizes, piece)
        return min(found.values(), key=lambda sizes: sizes.correct.rows * sizes.correct.number)

    def blocks(self, inputs: Pass) -> Blocks:
        """Decide how a pass that only adds up takes its runs: as the narrowest worker can."""
        piece = _seen_from_anywhere(inputs).piece((0, 0))
        found: dict[str, Blocks] = self.client.run(self._engine.blocks, piece)
        return min(found.values(), key=lambda blocks: blocks.rows * blocks.number)

    def sums(self, given: Assignment, into: StateT, keep: Keep) -> StateT:
        """Add the assigned runs: a task per piece, merged as a tree."""
        added: list[SpecimenRun] = []
        submit = partial(self.client.submit, pure=False)
        for own, parts, last in self._rounds(given, given.inputs.aligned, _sum_piece):
            while len(parts) > 1:
                pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
                parts = [submit(_both, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
            into = into.merge(_result(parts[0]))
            added += own
            if not last:
                keep(into, added)
        return into

    def correct(self, given: Assignment, result: ResultArray, affine: Affine) -> None:
        """Correct the assigned specimens: a task per piece, each writes what it corrected."""
        result = replace(result, path=str(Path(result.path).resolve()))
        model = self.client.scatter(affine, broadcast=True)
        for _ in self._rounds(given, aligned_rows(given.inputs), _correct_piece, result, model):
            pass

    def _rounds(
        self, given: Assignment, aligned: int, work: Callable[..., Any], *more: Any
    ) -> Iterator[tuple[list[SpecimenRun], list[Any], bool]]:
        """Do all pieces in rounds; after each, the pieces, their results, whether it was the last.

        Pieces begin at borders of stored chunks.
        """
        inputs = _seen_from_anywhere(given.inputs)
        width = max(1, inputs.width)
        pieces = list(cut(given.runs, max(1, _TASK_BYTES // width // aligned) * aligned))
        size = max(1, self.threads * _ROUND)
        for start in range(0, len(pieces), size):
            own = pieces[start : start + size]
            parts = [
                self.client.submit(
                    work, inputs.piece(run), given.sizes, run, self._engine, *more, pure=False
                )
                for run in own
            ]
            self._follow(parts, dict(zip(parts, own, strict=True)), given.done)
            yield own, parts, start + size >= len(pieces)

    @property
    def _engine(self) -> ThisProcess:
        return ThisProcess(self.memory, threads=1, shares=self.shares)

    def _follow(self, parts: Sequence[Any], runs: dict[Any, SpecimenRun], done: Done) -> None:
        from distributed import as_completed

        try:
            for part in as_completed(parts):  # type: ignore[no-untyped-call]
                if part.status != "finished":
                    _result(part)
                done(runs[part])
        except BaseException:
            self.client.cancel(list(parts))
            raise


@contextlib.contextmanager
def connected(address: str, memory: int, paths: Sequence[Path] = ()) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine.

    Parameters
    ----------
    address : str
        ``tcp://host:port`` of a scheduler, the path of a scheduler file, or ``local:N`` for N
        processes on this machine.
    memory : int
        Bytes that one worker may occupy; less where its own limit is lower.
    paths : sequence of path
        Must exist on every worker.

    Yields
    ------
    Cluster
        The connection.

    Raises
    ------
    DataError
        No scheduler answers, it has no workers, or a worker does not see the files.
    MissingExtraError
        dask is not installed.
    """
    with _client(address, memory) as client:
        information = client.scheduler_info(n_workers=-1)["workers"]
        if not information:
            raise DataError("the cluster has no workers; start some", where=address)
        limits = [int(one["memory_limit"] * _USED) for one in information.values()]
        limits = [limit for limit in limits if limit]  # 0: no limit
        counts = [int(one["nthreads"]) for one in information.values()]
        _check_paths(client, paths, address)
        yield Cluster(client, min([memory, *limits]), max(counts), sum(counts))


@contextlib.contextmanager
def _client(address: str, memory: int) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise MissingExtraError("Clusters", "experiments") from None
    if address.startswith("local:"):
        number = address.removeprefix("local:")
        if not number.isdigit() or int(number) < 1:
            raise DataError(f"{address!r} is no cluster; write for example local:2")
        try:
            cluster = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=int(number),
                threads_per_worker=1,
                processes=True,
                memory_limit=int(memory / _USED),
                dashboard_address=None,
                silence_logs=logging.ERROR,
            )
        except (RuntimeError, OSError, TimeoutError) as error:
            raise DataError(f"its processes do not start: {error}", where=address) from None
        with cluster, Client(cluster) as client:  # type: ignore[no-untyped-call]
            client.run(_ignore_interrupts)
            yield client
        return
    options = {"scheduler_file": address} if Path(address).exists() else {"address": address}
    try:
        client = Client(timeout=_TIMEOUT_S, **options)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise DataError(f"no scheduler answers: {error}", where=address) from None
    with client:
        yield client


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the one that leads the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check_paths(client: Any, paths: Sequence[Path], address: str) -> None:
    wanted = [str(path.resolve()) for path in paths]
    for worker, absent in client.run(_absent, wanted).items():
        if absent:
            raise DataError(
                f"worker {worker} does not see {absent[0]}; the workers must have the same files "
                "under the same paths",
                where=address,
            )


def _absent(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]


def _seen_from_anywhere(inputs: Any) -> Any:
    """Name the matrix by a path that does not depend on where a process was started."""
    path = str(Path(inputs.location.path).resolve())
    return replace(inputs, location=replace(inputs.location, path=path))


def _sum_piece(inputs: Pass, sizes: Sizes, run: SpecimenRun, engine: ThisProcess) -> Any:
    return engine.sums(Assignment(inputs, sizes, [run], _unheard), inputs.empty(), _never)


def _both(first: Any, second: Any) -> Any:
    return first.merge(second)


def _correct_piece(
    inputs: PassInputs,
    sizes: Sizes,
    run: SpecimenRun,
    engine: ThisProcess,
    result: ResultArray,
    affine: Affine,
) -> None:
    engine.correct(Assignment(inputs, sizes, [run], _unheard), result, affine)


def _never(state: State, runs: Sequence[SpecimenRun]) -> None:
    """Keep nothing: a task is done again when it was interrupted."""


def _unheard(run: SpecimenRun) -> None:
    """Tell nobody."""


def _result(future: Any) -> Any:
    try:
        return future.result()
    except (BatchsenseError, OSError):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "distributed":
            raise
        raise DataError(
            f"the cluster lost a task ({error}); its workers may have too little memory. The same "
            "command goes on with what is left"
        ) from None
