"""The same two passes on the workers of a dask cluster.

Every worker opens the matrix itself and writes its part of the result itself, so the paths must
mean the same files everywhere. Sums travel (a few megabytes), observations do not.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchsense.errors import BatchsenseError, DataError, MissingExtraError
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.out_of_core.affine import Affine
from batchsense.experiments.out_of_core.engine import Keep, Sizes, ThisProcess, aligned_rows
from batchsense.experiments.out_of_core.pass_inputs import Work
from batchsense.experiments.out_of_core.passes import Done
from batchsense.experiments.out_of_core.result_array import Slot
from batchsense.experiments.out_of_core.specimen_runs import Span, cut

#: Bytes of the matrix that one task reads.
_TASK_BYTES = 256_000_000
#: Tasks for each worker between two times that the sums are kept.
_ROUND = 8
#: Seconds that a scheduler has for its answer.
_TIMEOUT_S = 10.0
#: Part of a worker's limit that may be used: dask pauses a worker that comes near to it.
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

    def sizes(self, work: Work) -> Sizes:
        """Decide how both passes take the specimens: as the worker with the least room can.

        Raises
        ------
        DataError
            The memory of a worker does not suffice.
        """
        piece = _seen_from_anywhere(work).piece((0, 0))
        found: dict[str, Sizes] = self.client.run(_sizes, piece, self._engine)
        return min(found.values(), key=lambda sizes: sizes.correct.rows * sizes.correct.number)

    def sums(
        self,
        work: Work,
        sizes: Sizes,
        spans: Sequence[Span],
        into: BatchStatistics,
        keep: Keep,
        done: Done,
    ) -> BatchStatistics:
        """Add the specimens of ``spans`` to the statistics: a task per piece, merged as a tree."""
        work = _seen_from_anywhere(work)
        pieces = _pieces(work, spans, work.place.rows)
        size = max(1, self.threads * _ROUND)
        added: list[Span] = []
        for start in range(0, len(pieces), size):
            own = pieces[start : start + size]
            parts = [
                self.client.submit(
                    _sum_piece, work.piece(piece), sizes, piece, self._engine, pure=False
                )
                for piece in own
            ]
            self._follow(parts, dict(zip(parts, own, strict=True)), done)
            while len(parts) > 1:
                pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
                parts = [
                    self.client.submit(BatchStatistics.merge, *pair, pure=False)
                    if len(pair) == 2
                    else pair[0]
                    for pair in pairs
                ]
            into = into.merge(_result(parts[0])) if into.specimens.any() else _result(parts[0])
            added += own
            if start + size < len(pieces):
                keep(into, added)
        return into

    def correct(
        self,
        work: Work,
        sizes: Sizes,
        slot: Slot,
        spans: Sequence[Span],
        affine: Affine,
        done: Done,
    ) -> None:
        """Correct the specimens of ``spans``: a task per piece, each writes what it corrected."""
        work, slot = _seen_from_anywhere(work), replace(slot, path=str(Path(slot.path).resolve()))
        pieces = _pieces(work, spans, aligned_rows(work))
        model = self.client.scatter(affine, broadcast=True)
        size = max(1, self.threads * _ROUND)
        for start in range(0, len(pieces), size):
            own = pieces[start : start + size]
            parts = [
                self.client.submit(
                    _correct_piece,
                    work.piece(piece),
                    sizes,
                    slot,
                    piece,
                    model,
                    self._engine,
                    pure=False,
                )
                for piece in own
            ]
            self._follow(parts, dict(zip(parts, own, strict=True)), done)

    @property
    def _engine(self) -> ThisProcess:
        """How each task works."""
        return ThisProcess(self.memory, threads=1, shares=self.shares)

    def _follow(self, parts: Sequence[Any], spans: dict[Any, Span], done: Done) -> None:
        """Wait for tasks; report each when it is done, and the first that failed."""
        from distributed import as_completed

        try:
            for part in as_completed(parts):  # type: ignore[no-untyped-call]
                if part.status != "finished":
                    _result(part)
                done(spans[part])
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
    """Open a client."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise MissingExtraError("Clusters", "experiments") from None
    if address.startswith("local:"):
        number = address.removeprefix("local:")
        if not number.isdigit() or int(number) < 1:
            raise DataError(f"{address!r} is no cluster; write for example local:2")
        with (
            LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=int(number),
                threads_per_worker=1,
                processes=True,
                memory_limit=int(memory / _USED),
                dashboard_address=None,
                silence_logs=logging.ERROR,
            ) as cluster,
            Client(cluster) as client,  # type: ignore[no-untyped-call]
        ):
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
    """Refuse a cluster whose workers do not see the files."""
    wanted = [str(path.resolve()) for path in paths]
    for worker, absent in client.run(_absent, wanted).items():
        if absent:
            raise DataError(
                f"worker {worker} does not see {absent[0]}; the workers must have the same files "
                "under the same paths",
                where=address,
            )


def _absent(paths: Sequence[str]) -> list[str]:
    """List paths that do not exist here."""
    return [path for path in paths if not Path(path).exists()]


def _seen_from_anywhere(work: Work) -> Work:
    """Name the matrix by a path that does not depend on where a process was started."""
    return replace(work, place=replace(work.place, path=str(Path(work.place.path).resolve())))


def _pieces(work: Work, spans: Sequence[Span], aligned: int) -> list[Span]:
    """Cut the specimens into tasks, at borders of stored chunks."""
    width = max(1, work.place.shape[1] * work.place.working.itemsize)
    rows = max(1, _TASK_BYTES // width // aligned) * aligned
    return list(cut(spans, rows))


def _sizes(work: Work, engine: ThisProcess) -> Sizes:
    """Decide for a worker, on that worker."""
    return engine.sizes(work)


def _sum_piece(work: Work, sizes: Sizes, span: Span, engine: ThisProcess) -> BatchStatistics:
    """Sum up one piece, on a worker."""
    empty = BatchStatistics.empty(work.size.batches, work.place.shape[1], work.size.terms)
    return engine.sums(work, sizes, [span], empty, _never, _unheard)


def _correct_piece(
    work: Work, sizes: Sizes, slot: Slot, span: Span, affine: Affine, engine: ThisProcess
) -> None:
    """Correct one piece, on a worker."""
    engine.correct(work, sizes, slot, [span], affine, _unheard)


def _never(statistics: BatchStatistics, spans: Sequence[Span]) -> None:
    """Keep nothing: a task is done again when it was interrupted."""


def _unheard(span: Span) -> None:
    """Tell nobody."""


def _result(future: Any) -> Any:
    """Give what a task returned, or say what happened on its worker."""
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
