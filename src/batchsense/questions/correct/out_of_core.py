"""``batchsense correct`` on matrices that do not fit in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from batchsense.progress import Progress
from batchsense.questions.beyond_memory import Decision
from batchsense.questions.correct.choice import CorrectionChoice
from batchsense.questions.correct.result import CorrectResult, provenance
from batchsense.reports.envelope import Note as PublishedNote

if TYPE_CHECKING:
    from batchsense.experiments.out_of_core import CorrectedStore
    from batchsense.experiments.out_of_core.pass_inputs import Streamed
    from batchsense.questions.correct.request import CorrectRequest
    from batchsense.reports.envelope import Envelope


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What is corrected out of core, and within what."""

    decision: Decision
    choice: CorrectionChoice
    output: str
    recorded: Mapping[str, str | bool | None]


def correct_on_disk(
    request: CorrectRequest, how: OnDisk, progress: Progress
) -> Envelope[CorrectResult]:
    """Correct out of core; an interrupted user is told how to go on."""
    from batchsense.experiments.out_of_core import correct_store
    from batchsense.experiments.out_of_core.description import describe
    from batchsense.storage.matrices.location import find, inside_of

    (batch_column,) = request.batch_labels or (None,)  # several were refused
    if batch_column is None:
        place = find(str(request.matrix), inside_of(request.layer))
        batch_column = request.batch_columns(describe(place, request.sheet, request.id_column))[0]
    correction = how.choice.correction(request.keep or (), request.categorical, request.numeric)
    inputs = request.inputs()  # before the work: a hash of what is read, not of what it became

    def account(found: CorrectedStore) -> Envelope[CorrectResult]:
        done = request.told(how.decision, found.resumed, 2)
        notes = how.choice.notes(found.table.notes)
        return request.envelope(
            CorrectResult.of(found, request.name_of(how.output), done),
            PublishedNote.published([*how.decision.notes, *notes]),
            inputs=inputs,
        )

    with _interruptible(how.output), request.engine(Path(how.output).parent) as engine:
        found = correct_store(
            request.stored_matrix(),
            how.output,
            batch_column,
            cast("Streamed", correction),  # counts were refused
            engine=engine,
            provenance=lambda found: provenance(found, account(found), how.recorded),
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
        if not folder.exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; what is done is kept in {folder}, and the same command goes on with it; "
            "remove the folder to give it up"
        ) from None
