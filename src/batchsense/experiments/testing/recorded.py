"""What to test in a file that an earlier correction wrote: which values, with which batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchsense.errors import DataError
from batchsense.experiments.tables.anndata_objects import recorded_correction
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note


@dataclass(frozen=True, slots=True)
class RecordedTest:
    """What the file itself, and the user, say of the model."""

    batch_labels: tuple[str, ...] | None  #: The batch columns; None where neither names one
    keep: tuple[str, ...] | None  #: What is in the model beside it; None where neither says
    corrected_by: str | None  #: The method of the correction; None for original values
    notes: tuple[Note, ...] = ()  #: What the file records
    #: Kinds of several batch columns, as they were read.
    kinds: Mapping[str, str] = field(default_factory=dict)


def recorded_test(
    table: Table, batch_labels: Sequence[str] | None, keep: Sequence[str] | None, corrected: bool
) -> RecordedTest:
    """Use what a file records of a correction: batch, what was kept, and method."""
    kept = None if keep is None else tuple(keep)
    named = None if batch_labels is None else tuple(batch_labels)
    record = recorded_correction(table)
    if record is None:
        return RecordedTest(named, kept, "unknown" if corrected else None)
    chosen = named or record.batch_columns or None
    words = " + ".join(chosen or ())
    if record.x_holds == "original" and not corrected:
        message = (
            f"The file holds a correction by {record.method} for {record.batch_labels} in a layer. "
            f"X, the original values, was tested with {words} in the model."
        )
        note = Note("recorded_correction", message)
        return RecordedTest(chosen, kept, None, (note,), record.kinds(chosen))
    if record.batch_columns and sorted(chosen or ()) != sorted(record.batch_columns):
        raise DataError(
            f"X holds values that were corrected for {record.batch_labels!r}; give --batch "
            f"{' --batch '.join(record.batch_columns)}, or the original file to test with "
            f"{words!r}",
            where=table.source.matrix,
        )
    doubt = "" if record.x_holds == "corrected" else " (its layer is gone, so X may hold it)"
    message = f"The file records a correction by {record.method} for {words}{doubt}."
    if kept is None:
        kept = record.keep
    note = Note("recorded_correction", message)
    return RecordedTest(chosen, kept, record.method, (note,), record.kinds(chosen))
