"""The options of questions that can be answered out of core: whether, in what, and by whom."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import model_validator
from typing_extensions import override

from batchsense.errors import DataError
from batchsense.machine_memory import parse_bytes
from batchsense.notes import Note
from batchsense.progress import Progress
from batchsense.questions.option import Option
from batchsense.questions.out_of_core_result import OutOfCore
from batchsense.questions.table_request import FilesRequest

if TYPE_CHECKING:
    from batchsense.experiments import StoredMatrix, Table
    from batchsense.experiments.out_of_core import Engine

#: Part of the available memory that an answer in memory may take: what else runs on the machine
#: needs some, and an estimate of what will be taken may be a little low.
_SENSIBLE = 0.8


@dataclass(frozen=True, slots=True)
class Decision:
    """That a matrix is read out of core."""

    reason: Literal["asked", "memory", "plain_array"]
    notes: tuple[Note, ...] = ()


class BeyondMemory(FilesRequest):
    """Base of the questions that need not load their matrix."""

    out_of_core: Annotated[
        bool | None,
        Option(
            "Read an .h5ad or .zarr a few specimens or features at a time, or never so; by default "
            "where memory does not suffice.",
            of="machine",
        ),
    ] = None
    memory: Annotated[
        str | None,
        Option(
            "Memory to keep within, such as 500MB or 2GiB; out of core if that takes it.",
            metavar="SIZE",
            of="machine",
        ),
    ] = None
    cluster: Annotated[
        str | None,
        Option(
            "Out of core on dask workers: tcp://HOST:8786 of a scheduler, or local:N for N "
            "processes here, each with the memory.",
            metavar="ADDRESS",
            of="machine",
        ),
    ] = None

    @model_validator(mode="after")
    def _can_be_read_in_pieces(self) -> Self:
        if fault := self.own_fault() or self._fault_of_scale():
            raise ValueError(fault)
        return self

    @property
    def memory_bytes(self) -> int | None:
        """Bytes to keep within."""
        return None if self.memory is None else parse_bytes(self.memory)

    @property
    def goes_out_of_core(self) -> bool | None:
        """Whether that is asked for; None where memory decides."""
        return True if self.cluster is not None else self.out_of_core

    @override
    def read_paths(self) -> list[str]:
        """The files that are read, the file of a scheduler among them."""
        cluster = self.cluster
        scheduler = [] if cluster is None or not Path(cluster).exists() else [cluster]
        return [*super().read_paths(), *scheduler]

    def own_fault(self) -> str | None:
        """What else contradicts itself; said before what cannot be read in pieces."""
        return None

    def decision(self) -> Decision | None:
        """Whether to go out of core, and why; None: in memory."""
        if self.matrix is None:
            return None
        if self.goes_out_of_core:
            return Decision("asked")
        if self.out_of_core is not None or self.in_pieces() is not None:
            return None
        return decide(self.matrix, self.layer, self.memory_bytes)

    def stored_matrix(self) -> StoredMatrix:
        """The matrix with its sheet, as it lies on disk."""
        from batchsense.experiments import StoredMatrix

        return StoredMatrix(
            str(self.matrix), self.sheet, self.id_column, self.layer, self.values_are
        )

    @contextlib.contextmanager
    def engine(self, *folders: Path) -> Iterator[Engine]:
        """Who does the work: this process, or the workers of a cluster, which see the folders."""
        from batchsense.experiments.out_of_core import MEMORY, ThisProcess, connected

        if self.cluster is None:
            yield ThisProcess(self.memory_bytes)
            return
        paths = [Path(str(self.matrix)), *folders]
        with connected(self.cluster, self.memory_bytes or MEMORY, paths) as cluster:
            yield cluster

    @contextlib.contextmanager
    def opened(self, progress: Progress) -> Iterator[tuple[Table, Decision | None]]:
        """The table, loaded or on disk."""
        decision = self.decision()
        if decision is None:
            yield self.table(progress), None
            return
        from batchsense.experiments import on_disk

        with (
            self.engine() if self.cluster or self.memory else contextlib.nullcontext() as engine,
            on_disk(
                self.stored_matrix(), engine=engine, asked=[self._question()], progress=progress
            ) as table,
        ):
            yield self.named(table), decision

    def _question(self) -> str:
        """What is asked, whoever answers it within whatever memory."""
        machine = {"memory": None, "cluster": None, "out_of_core": None}
        return self.model_copy(update=machine).words()

    def told(self, decision: Decision, resumed: bool, passes: int) -> OutOfCore:
        """What a document says of it."""
        return OutOfCore(
            reason=decision.reason,
            memory_bytes=self.memory_bytes,
            cluster=self.cluster,
            resumed=resumed,
            passes=passes,
        )

    def read_out_of_core(self, table: Table, decision: Decision | None) -> OutOfCore | None:
        """The same of a table that was asked; None where it was loaded."""
        from batchsense.experiments import StoredTable

        if decision is None or not isinstance(table, StoredTable):
            return None
        return self.told(decision, table.resumed, table.passes.done)

    def notes_of(self, table: Table, decision: Decision | None) -> tuple[Note, ...]:
        """Why, and how often, the matrix was read in pieces."""
        found = self.read_out_of_core(table, decision)
        if decision is None or found is None:
            return ()
        times = "once" if found.passes == 1 else f"{found.passes} times"
        resumed = "; work of an interrupted run was taken up" if found.resumed else ""
        message = f"The matrix stayed on disk, and all of it was gone through {times}{resumed}."
        return (*decision.notes, Note("read_in_pieces", message))

    def _fault_of_scale(self) -> str | None:
        for name, given in (("--memory", self.memory), ("--cluster", self.cluster)):
            if self.out_of_core is False and given is not None:
                return f"{name} and --no-out-of-core contradict each other"
        if self.cluster is not None and not (
            re.fullmatch(r"local:[1-9]\d*", self.cluster)
            or "://" in self.cluster
            or Path(self.cluster).is_file()
        ):
            return (
                f"--cluster {self.cluster!r} is no cluster; write tcp://HOST:PORT of a scheduler, "
                "the path of its scheduler file, or for example local:2"
            )
        try:
            asked = self.goes_out_of_core or self.memory_bytes is not None
        except DataError as error:
            return f"--memory: {error}"
        return self._fault_of_place() if asked else None

    def _fault_of_place(self) -> str | None:
        """What cannot be read in pieces although that was asked for."""
        name = "--cluster" if self.cluster else "--out-of-core" if self.out_of_core else "--memory"
        if self.matrix is None:
            return f"{name} needs a MATRIX; the built-in digits are small"
        if reason := self.in_pieces():
            return f"{name} {reason}"
        from batchsense.storage.matrices.location import is_store

        if is_store(self.matrix):
            return None
        return (
            f"{name} needs a MATRIX that can be read in pieces; convert {self.matrix} to .h5ad or "
            ".zarr, specimens in rows, for example with anndata (AnnData(...).write_h5ad)"
        )


def decide(matrix: str, layer: str | None, memory: int | None) -> Decision | None:
    """Tell whether memory does not suffice, and why; None: it does."""
    from batchsense.experiments.out_of_core.budget import LIBRARIES, loaded_bytes
    from batchsense.machine_memory import available_memory, format_bytes
    from batchsense.storage.matrices.location import find, inside_of, is_store

    if not is_store(matrix):
        return None
    try:
        place = find(matrix, inside_of(layer))
    except DataError:  # said by the reader, where it matters to it
        return None
    if not place.inside:
        message = "A plain Zarr array is read out of core, a few specimens at a time."
        return Decision("plain_array", (Note("out_of_core", message),))
    free, taken = available_memory(), loaded_bytes(place)
    allowed = [] if free is None else [int(_SENSIBLE * free)]
    allowed += [] if memory is None else [memory - LIBRARIES]
    if taken <= min(allowed, default=taken):
        return None
    here = "" if free is None else f", {format_bytes(free)} are free on this machine"
    asked = "" if memory is None else f", {format_bytes(memory)} are allowed"
    message = (
        f"In memory this would take about {format_bytes(taken)}{here}{asked}, so "
        "it goes out of core, a few specimens at a time. --no-out-of-core forces memory."
    )
    return Decision("memory", (Note("out_of_core", message),))
