"""``batchsense correct`` with corrections in files: keep what was learned, and apply it later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchsense.errors import DataError

if TYPE_CHECKING:
    from batchsense.experiments import Table
    from batchsense.experiments.correction.loading import AnyFitted
    from batchsense.questions.correct.result import Reused

SaveFittedOption = Annotated[
    str | None,
    typer.Option(
        "--save-fitted",
        metavar="FILE.npz",
        help="Also keep what was learned, for specimens that come later.",
    ),
]
FittedOption = Annotated[
    str | None,
    typer.Option(
        "--fitted",
        metavar="FILE.npz",
        help="Learn nothing: correct MATRIX by what --save-fitted kept.",
    ),
]
NewBatchesOption = Annotated[
    bool,
    typer.Option(
        "--new-batches",
        help="--fitted: estimate batches that were not fitted from MATRIX; else they are refused.",
    ),
]
#: Options whose answers lie in the file of a fitted correction.
LEARNED = {
    "batch_labels": "--batch",
    "keep": "--keep",
    "method": "--method",
    "reference": "--reference",
    "mean_only": "--mean-only",
    "non_parametric": "--non-parametric",
    "despite_confounding": "--despite-confounding",
    "categorical": "--categorical",
    "numeric": "--numeric",
}


@dataclass(frozen=True, slots=True)
class Reuse:
    """What the command line asks for.

    Attributes
    ----------
    save : str or None
        Where to keep what is learned.
    fitted : str or None
        What was learned earlier.
    new_batches : bool
        Whether batches that were not fitted are estimated.
    """

    save: str | None = None
    fitted: str | None = None
    new_batches: bool = False

    def check(self, context: typer.Context, out_of_core: bool) -> None:
        """Refuse options that contradict a fitted correction.

        Raises
        ------
        typer.BadParameter
            Naming them.
        """
        if self.new_batches and self.fitted is None:
            raise typer.BadParameter(
                "--new-batches belongs to --fitted; a fit learns all batches of MATRIX"
            )
        if out_of_core and (self.save or self.fitted):
            name = "--fitted" if self.fitted else "--save-fitted"
            raise typer.BadParameter(f"{name} works in memory, not out of core")
        if self.save is not None and Path(self.save).suffix != ".npz":
            raise typer.BadParameter(f"--save-fitted {self.save}: name it FILE.npz")
        if self.fitted is None:
            return
        given = [
            option
            for name, option in LEARNED.items()
            if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"
        ]
        if given:
            raise typer.BadParameter(
                f"{', '.join(given)} and --fitted contradict each other: {self.fitted} says what "
                "was fitted, and how"
            )

    def load(self, table: Table) -> tuple[AnyFitted, Reused]:
        """Take up a fitted correction, with the new batches of a table where that was asked.

        Raises
        ------
        DataError
            The file holds no correction, or one that can take no new batches.
        """
        from batchsense.experiments import FittedCombatSeq, load_correction
        from batchsense.experiments.tables.columns import label_factor
        from batchsense.questions.correct.result import Reused

        path = str(self.fitted)
        fitted = load_correction(path)
        known = fitted.batch_levels
        specimens = len(fitted.gathered.sheet.specimens)
        unseen = set(label_factor(table, fitted.batch_labels).levels) - set(known)
        if self.new_batches and unseen:
            if isinstance(fitted, FittedCombatSeq):
                raise DataError(
                    "combat-seq has no way to add batches to a fit; fit again with all specimens",
                    where=path,
                )
            fitted = fitted.extend(table)
        added = list(fitted.batch_levels[len(known) :])
        return fitted, Reused(file=path, specimens=specimens, new_batches=added)

    def words(self) -> dict[str, str | bool | None]:
        """Give the options that repeat the answer, by their long names."""
        return {
            "save-fitted": self.save,
            "fitted": self.fitted,
            "new-batches": self.new_batches,
        }
