"""A correction that was learned earlier, taken up again for specimens that come later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.errors import DataError
from batchsense.questions.correct.result import Reused

if TYPE_CHECKING:
    from batchsense.experiments import Table
    from batchsense.experiments.correction.loading import AnyFitted


def load(path: str, table: Table, new_batches: bool) -> tuple[AnyFitted, Reused]:
    """Take up a fitted correction, with the new batches of a table where that was asked.

    Raises
    ------
    DataError
        The file holds no correction, or one that can take no new batches.
    """
    from batchsense.experiments import FittedCombatSeq, load_correction
    from batchsense.experiments.tables.columns import label_factor

    fitted = load_correction(path)
    known = fitted.batch_levels
    specimens = len(fitted.gathered.sheet.specimens)
    unseen = set(label_factor(table, fitted.batch_labels).levels) - set(known)
    if new_batches and unseen:
        if isinstance(fitted, FittedCombatSeq):
            raise DataError(
                "combat-seq has no way to add batches to a fit; fit again with all specimens",
                where=path,
            )
        fitted = fitted.extend(table)
    added = list(fitted.batch_levels[len(known) :])
    return fitted, Reused(file=path, specimens=specimens, new_batches=added)
