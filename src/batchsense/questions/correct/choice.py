"""The corrections that ``batchsense correct`` offers, with their options, wherever it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from batchsense.errors import DataError
from batchsense.questions.correct.result import Reused

if TYPE_CHECKING:
    from batchsense.experiments import (
        CombatCorrection,
        CombatSeqCorrection,
        LinearCorrection,
        Note,
        Table,
    )
    from batchsense.experiments.correction.loading import AnyFitted


def load(path: str, table: Table, new_batches: bool) -> tuple[AnyFitted, Reused]:
    """Take up a fitted correction, with the new batches of a table where that was asked."""
    from batchsense.experiments import FittedCombatSeq, load_correction
    from batchsense.experiments.tables.columns import label_factor

    fitted = load_correction(path)
    known = fitted.batch_levels
    specimens = len(fitted.gathered.sheet.specimens)
    if fitted.beside is not None:
        if new_batches:
            raise DataError(
                f"--new-batches takes a fit of one batch column, not of {fitted.beside.name}; fit "
                "again with all specimens",
                where=path,
            )
        return fitted, Reused(file=path, specimens=specimens, new_batches=[])
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


def takes_fewer(matrix: str) -> bool:
    """Whether a result may hold fewer specimens than its input: not where it goes beside that.

    Examples
    --------
    >>> takes_fewer("m.csv.gz"), takes_fewer("m.h5ad")
    (True, False)
    """
    from batchsense.experiments.tables.matrix import suffix_of

    return suffix_of(matrix) not in (".h5ad", ".zarr", ".mtx")


class Method(StrEnum):
    """The corrections."""

    linear = "linear"
    combat = "combat"
    combat_seq = "combat-seq"


@dataclass(frozen=True, slots=True)
class CorrectionChoice:
    """A correction and its options."""

    method: Method
    reference: str | None = None
    mean_only: bool = False
    non_parametric: bool = False
    despite_confounding: bool = False
    shrink: bool = True
    combine: bool = False

    def misplaced(self) -> str | None:
        """Say which options the method does not have, None where all are its own."""
        given = {
            "--reference": self.reference is not None,
            "--mean-only": self.mean_only,
            "--combine": self.combine,
            "--non-parametric": self.non_parametric,
            "--no-shrinkage": not self.shrink,
        }
        if self.non_parametric and not self.shrink:
            return "--non-parametric is a way to shrink, and --no-shrinkage shrinks nothing"
        if self.method is Method.combat or not any(given.values()):
            return None
        names = ", ".join(name for name, asked in given.items() if asked)
        return f"{names} belongs to --method combat, not {self.method.value}"

    def correction(
        self, keep: Sequence[str], categorical: Sequence[str], numeric: Sequence[str]
    ) -> LinearCorrection | CombatCorrection | CombatSeqCorrection:
        """Make the correction."""
        from batchsense.experiments import (
            CombatCorrection,
            CombatSeqCorrection,
            LinearCorrection,
        )

        shared: dict[str, Any] = {
            "keep": tuple(keep),
            "categorical": tuple(categorical),
            "numeric": tuple(numeric),
            "despite_confounding": self.despite_confounding,
        }
        if self.method is Method.combat:
            return CombatCorrection(
                **shared,
                parametric=not self.non_parametric,
                shrink=self.shrink,
                mean_only=self.mean_only,
                combine=self.combine,
                reference_batch=self.reference,
            )
        return (LinearCorrection if self.method is Method.linear else CombatSeqCorrection)(**shared)

    def notes(self, notes: Sequence[Note]) -> list[Note]:
        """Give what reading the table brought to light, as far as it concerns the method.

        That values look like counts is no remark on a method for counts.
        """
        irrelevant = (
            {"looks_like_counts", "whole_numbers"} if self.method is Method.combat_seq else set()
        )
        return [note for note in notes if note.code not in irrelevant]
