"""What to test in a file that an earlier correction wrote: which values, with which batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchsense.errors import DataError
from batchsense.experiments.tables.anndata_objects import recorded_correction
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note


@dataclass(frozen=True, slots=True)
class RecordedTest:
    """What the file itself, and the user, say of the model.

    Attributes
    ----------
    batch_labels : str or None
        The batch column; None where neither names one.
    keep : tuple of str or None
        What is in the model beside it; None where neither says.
    corrected_by : str or None
        The method of the correction; None for original values.
    notes : tuple of Note
        What the file records.
    """

    batch_labels: str | None
    keep: tuple[str, ...] | None
    corrected_by: str | None
    notes: tuple[Note, ...] = ()


def recorded_test(
    table: Table, batch_labels: str | None, keep: Sequence[str] | None, corrected: bool
) -> RecordedTest:
    """Use what a file records of a correction: batch, what was kept, and method.

    Raises
    ------
    DataError
        The values were corrected for other batches than those that were named.

    Examples
    --------
    >>> table = Table.from_arrays([[1.0], [2.0]], {"month": [1, 2]})
    >>> recorded_test(table, "month", None, corrected=True).corrected_by
    'unknown'
    """
    kept = None if keep is None else tuple(keep)
    record = recorded_correction(table)
    if record is None:
        return RecordedTest(batch_labels, kept, "unknown" if corrected else None)
    chosen = batch_labels or record.batch_labels or None
    if record.x_holds == "original" and not corrected:
        message = (
            f"The file holds a correction by {record.method} for {record.batch_labels} in a layer. "
            f"X, the original values, was tested with {chosen} in the model."
        )
        return RecordedTest(chosen, kept, None, (Note("recorded_correction", message),))
    if record.batch_labels and chosen != record.batch_labels:
        raise DataError(
            f"X holds values that were corrected for {record.batch_labels!r}; give --batch "
            f"{record.batch_labels}, or the original file to test with {chosen!r}",
            where=table.source.matrix,
        )
    doubt = "" if record.x_holds == "corrected" else " (its layer is gone, so X may hold it)"
    message = f"The file records a correction by {record.method} for {chosen}{doubt}."
    if kept is None:
        kept = record.keep
    return RecordedTest(chosen, kept, record.method, (Note("recorded_correction", message),))
