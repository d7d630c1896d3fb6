"""``batchsense correct`` on matrices that do not fit in memory: whether, in what, and by whom."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from batchsense.cli.console import progress_on_stderr, say
from batchsense.cli.correction_request import Request
from batchsense.cli.table_input import chosen_columns
from batchsense.errors import DataError
from batchsense.questions.correct.choice import Method

if TYPE_CHECKING:
    from batchsense.experiments import Note
    from batchsense.experiments.out_of_core import CorrectedStore, Engine
    from batchsense.experiments.out_of_core.recipe import Streamed
    from batchsense.questions.correct.result import CorrectResult
    from batchsense.reports.envelope import Envelope

OutOfCoreOption = Annotated[
    bool | None,
    typer.Option(
        "--out-of-core/--no-out-of-core",
        help="Correct an .h5ad or .zarr a few specimens at a time, or never so; by default where "
        "memory does not suffice.",
        show_default=False,
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory to keep within, such as 500MB or 2GiB; out of core if that takes it.",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Out of core on dask workers: tcp://HOST:8786 of a scheduler, or local:N for N "
        "processes here, each with the memory.",
    ),
]
#: Part of the available memory that a correction in memory may take.
_SENSIBLE = 0.8


@dataclass(frozen=True, slots=True)
class Decision:
    """That a matrix is corrected out of core.

    Attributes
    ----------
    reason : {"asked", "memory", "plain_array"}
        Why.
    notes : tuple of Note
        What the user must know of it.
    """

    reason: Literal["asked", "memory", "plain_array"]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """What the command line asks for.

    Attributes
    ----------
    wanted : bool or None
        Whether to go out of core; None: where memory does not suffice.
    memory : int or None
        Bytes to keep within.
    cluster : str or None
        The address of a cluster.
    """

    wanted: bool | None = None
    memory: int | None = None
    cluster: str | None = None

    @classmethod
    def read(cls, wanted: bool | None, memory: str | None, cluster: str | None) -> Scale:
        """Read the options, and refuse those that contradict each other.

        Raises
        ------
        typer.BadParameter
            Naming them.
        """
        from batchsense.machine_memory import parse_bytes

        for name, given in (("--memory", memory), ("--cluster", cluster)):
            if wanted is False and given is not None:
                raise typer.BadParameter(f"{name} and --no-out-of-core contradict each other")
        if cluster is not None and not (
            re.fullmatch(r"local:[1-9]\d*", cluster) or "://" in cluster or Path(cluster).is_file()
        ):
            raise typer.BadParameter(
                f"--cluster {cluster!r} is no cluster; write tcp://HOST:PORT of a scheduler, the "
                "path of its scheduler file, or for example local:2"
            )
        try:
            size = None if memory is None else parse_bytes(memory)
        except DataError as error:
            raise typer.BadParameter(f"--memory: {error}") from None
        return cls(True if cluster is not None else wanted, size, cluster)

    def check(self, matrix: str | None, output: str, method: Method) -> None:
        """Refuse what cannot be corrected out of core although that was asked for.

        Raises
        ------
        typer.BadParameter
            With what to do.
        """
        name = "--cluster" if self.cluster else "--out-of-core" if self.wanted else "--memory"
        if not self.wanted and self.memory is None:
            return
        if matrix is None:
            raise typer.BadParameter(f"{name} needs a MATRIX; the built-in digits are small")
        if method is Method.combat_seq:
            raise typer.BadParameter(
                f"{name} suits --method linear and combat; combat-seq needs all counts in memory"
            )
        if output == "-":
            raise typer.BadParameter(f"{name} writes a file or store, not to stdout; name one")
        from batchsense.experiments.out_of_core.location import is_store

        if not is_store(matrix):
            raise typer.BadParameter(
                f"{name} needs a MATRIX that can be read in pieces; convert {matrix} to .h5ad or "
                ".zarr, specimens in rows, for example with anndata (AnnData(...).write_h5ad)"
            )

    def decide(self, matrix: str | None, layer: str | None, method: Method) -> Decision | None:
        """Tell whether to go out of core, and why; None: in memory."""
        if self.wanted:
            return Decision("asked")
        if self.wanted is False or matrix is None or method is Method.combat_seq:
            return None
        from batchsense.experiments import Note
        from batchsense.experiments.out_of_core.budget import LIBRARIES, loaded_bytes
        from batchsense.experiments.out_of_core.location import find, inside_of, is_store
        from batchsense.machine_memory import available_memory, format_bytes

        if not is_store(matrix):
            return None
        try:
            place = find(matrix, inside_of(layer))
        except DataError:  # said by the reader, where it matters to it
            return None
        if not place.inside:
            message = "A plain Zarr array is corrected out of core, a few specimens at a time."
            return Decision("plain_array", (Note("out_of_core", message),))
        free, taken = available_memory(), loaded_bytes(place)
        allowed = [] if free is None else [int(_SENSIBLE * free)]
        allowed += [] if self.memory is None else [self.memory - LIBRARIES]
        if taken <= min(allowed, default=taken):
            return None
        here = "" if free is None else f", {format_bytes(free)} are free on this machine"
        asked = "" if self.memory is None else f", {format_bytes(self.memory)} are allowed"
        message = (
            f"In memory this correction would take about {format_bytes(taken)}{here}{asked}, so "
            "it goes out of core, a few specimens at a time. --no-out-of-core forces memory."
        )
        return Decision("memory", (Note("out_of_core", message),))

    @contextlib.contextmanager
    def engine(self, matrix: str, output: str) -> Iterator[Engine]:
        """Give who does the work."""
        from batchsense.experiments.out_of_core import MEMORY, ThisProcess, connected

        if self.cluster is None:
            yield ThisProcess(self.memory)
            return
        paths = [Path(matrix), Path(output).parent]
        with connected(self.cluster, self.memory or MEMORY, paths) as cluster:
            yield cluster

    def words(self, given_memory: str | None) -> dict[str, str | bool | None]:
        """Give the options that repeat the answer, by their long names."""
        return {
            "out-of-core": bool(self.wanted) and self.cluster is None,
            "no-out-of-core": self.wanted is False,
            "memory": given_memory,
            "cluster": self.cluster,
        }


def correct_on_disk(request: Request, scale: Scale, decision: Decision) -> Envelope[CorrectResult]:
    """Correct out of core, with progress; an interrupted user is told how to go on.

    Parameters
    ----------
    request : Request
        What is read, written and wanted.
    scale, decision
        How it is done, and why.

    Returns
    -------
    Envelope of CorrectResult
        The answer; the result is written.
    """
    from batchsense.experiments.out_of_core import correct_store
    from batchsense.experiments.out_of_core.description import describe
    from batchsense.experiments.out_of_core.location import find, inside_of
    from batchsense.questions.correct.result import OutOfCore
    from batchsense.reports.envelope import InputFile

    for note in decision.notes:
        say(note.message)
    matrix = str(request.matrix)
    batch_column, kept = request.batch_labels, request.keep or []
    if batch_column is None:
        table = describe(find(matrix, inside_of(request.layer)), request.sheet, request.id_column)
        batch_column, kept = chosen_columns(table, matrix, None, request.keep)
    correction = request.choice.correction(kept, request.categorical, request.numeric)
    inputs = [InputFile.of(path) for path in (matrix, request.sheet) if path is not None]

    def account(found: CorrectedStore) -> Envelope[CorrectResult]:
        """Put the answer together."""
        how = OutOfCore(
            reason=decision.reason,
            memory_bytes=scale.memory,
            cluster=scale.cluster,
            resumed=found.resumed,
        )
        return request.answer(found, inputs, how, decision.notes)

    with (
        _interruptible(request.output),
        progress_on_stderr() as progress,
        scale.engine(matrix, request.output) as engine,
    ):
        found = correct_store(
            matrix,
            request.output,
            batch_column,
            cast("Streamed", correction),  # counts were refused
            request.sheet,
            id_column=request.id_column,
            layer=request.layer,
            engine=engine,
            provenance=lambda found: request.provenance(found, account(found)),
            progress=progress,
        )
    return account(found)


@contextlib.contextmanager
def _interruptible(output: str) -> Iterator[None]:
    """Say, when the user interrupts, what is kept."""
    from batchsense.experiments.out_of_core.journal import partial_folder

    try:
        yield
    except KeyboardInterrupt:
        folder = partial_folder(Path(output))
        if folder.exists():
            say(
                f"interrupted; what is done is kept in {folder}, and the same command goes on with "
                "it; remove the folder to give it up"
            )
        raise
