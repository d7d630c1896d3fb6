"""``batchsense correct`` on matrices that do not fit in memory: whether, in what, and by whom."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from batchsense.errors import DataError
from batchsense.notes import Note
from batchsense.progress import Progress
from batchsense.questions.correct.choice import CorrectionChoice
from batchsense.questions.correct.result import CorrectResult, OutOfCore, provenance
from batchsense.reports.envelope import Note as PublishedNote

if TYPE_CHECKING:
    from batchsense.experiments.out_of_core import CorrectedStore, Engine
    from batchsense.experiments.out_of_core.pass_inputs import Streamed
    from batchsense.questions.table_request import ModelRequest
    from batchsense.reports.envelope import Envelope

#: Part of the available memory that a correction in memory may take: what else runs on the machine
#: needs some, and an estimate of what will be taken may be a little low.
_SENSIBLE = 0.8


@dataclass(frozen=True, slots=True)
class Decision:
    """That a matrix is corrected out of core."""

    reason: Literal["asked", "memory", "plain_array"]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What is corrected out of core, and within what."""

    decision: Decision
    choice: CorrectionChoice
    output: str
    memory: int | None
    cluster: str | None
    recorded: Mapping[str, str | bool | None]


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
        message = "A plain Zarr array is corrected out of core, a few specimens at a time."
        return Decision("plain_array", (Note("out_of_core", message),))
    free, taken = available_memory(), loaded_bytes(place)
    allowed = [] if free is None else [int(_SENSIBLE * free)]
    allowed += [] if memory is None else [memory - LIBRARIES]
    if taken <= min(allowed, default=taken):
        return None
    here = "" if free is None else f", {format_bytes(free)} are free on this machine"
    asked = "" if memory is None else f", {format_bytes(memory)} are allowed"
    message = (
        f"In memory this correction would take about {format_bytes(taken)}{here}{asked}, so "
        "it goes out of core, a few specimens at a time. --no-out-of-core forces memory."
    )
    return Decision("memory", (Note("out_of_core", message),))


def correct_on_disk(
    request: ModelRequest, how: OnDisk, progress: Progress
) -> Envelope[CorrectResult]:
    """Correct out of core; an interrupted user is told how to go on."""
    from batchsense.experiments.out_of_core import StoredMatrix, correct_store
    from batchsense.experiments.out_of_core.description import describe
    from batchsense.storage.matrices.location import find, inside_of

    matrix = str(request.matrix)
    batch_column = request.batch_labels
    if batch_column is None:
        place = find(matrix, inside_of(request.layer))
        batch_column = request.batch_column(describe(place, request.sheet, request.id_column))
    correction = how.choice.correction(request.keep or (), request.categorical, request.numeric)
    inputs = request.inputs()  # before the work: a hash of what is read, not of what it became

    def account(found: CorrectedStore) -> Envelope[CorrectResult]:
        done = OutOfCore(
            reason=how.decision.reason,
            memory_bytes=how.memory,
            cluster=how.cluster,
            resumed=found.resumed,
        )
        notes = how.choice.notes(found.table.notes)
        return request.envelope(
            CorrectResult.of(found, request.name_of(how.output), done),
            PublishedNote.published([*how.decision.notes, *notes]),
            inputs=inputs,
        )

    with _interruptible(how.output), _engine(how, matrix) as engine:
        found = correct_store(
            StoredMatrix(
                matrix,
                request.sheet,
                request.id_column,
                request.layer,
                request.values_are,
            ),
            how.output,
            batch_column,
            cast("Streamed", correction),  # counts were refused
            engine=engine,
            provenance=lambda found: provenance(found, account(found), how.recorded),
            progress=progress,
        )
    return account(found)


@contextlib.contextmanager
def _engine(how: OnDisk, matrix: str) -> Iterator[Engine]:
    """Who does the work: this process, or the workers of a cluster."""
    from batchsense.experiments.out_of_core import MEMORY, ThisProcess, connected

    if how.cluster is None:
        yield ThisProcess(how.memory)
        return
    paths = [Path(matrix), Path(how.output).parent]
    with connected(how.cluster, how.memory or MEMORY, paths) as cluster:
        yield cluster


@contextlib.contextmanager
def _interruptible(output: str) -> Iterator[None]:
    """Say, when the user interrupts, what is kept."""
    from batchsense.experiments.out_of_core.journal import partial_folder

    try:
        yield
    except KeyboardInterrupt:
        folder = partial_folder(Path(output))
        if not folder.exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; what is done is kept in {folder}, and the same command goes on with it; "
            "remove the folder to give it up"
        ) from None
