"""The corrections that ``batchsense correct`` offers, with their options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from batchsense.experiments import (
        CombatCorrection,
        CombatSeqCorrection,
        LinearCorrection,
        Note,
    )


class Method(StrEnum):
    """The corrections."""

    linear = "linear"
    combat = "combat"
    combat_seq = "combat-seq"


MethodOption = Annotated[
    Method,
    typer.Option(help="How to correct: shift; shift and rescale; or remodel counts."),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="LEVEL",
        help="combat: the batch that stays as it is; the others are brought to it.",
    ),
]
MeanOnlyOption = Annotated[
    bool, typer.Option("--mean-only", help="combat: shift the batches, do not rescale them.")
]
NonParametricOption = Annotated[
    bool,
    typer.Option("--non-parametric", help="combat: no assumed shape of the batch effects; slower."),
]
DespiteOption = Annotated[
    bool,
    typer.Option(
        "--despite-confounding",
        help="Go on where a kept column cannot be told from the batches, and lose it.",
    ),
]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line asks for.

    Attributes
    ----------
    method : Method
        The correction.
    reference : str or None
        The batch that stays as it is.
    mean_only, non_parametric, despite_confounding : bool
        See the options.
    """

    method: Method
    reference: str | None = None
    mean_only: bool = False
    non_parametric: bool = False
    despite_confounding: bool = False

    def check(self) -> None:
        """Refuse options that the method does not have.

        Raises
        ------
        typer.BadParameter
            Naming them.
        """
        given = {
            "--reference": self.reference is not None,
            "--mean-only": self.mean_only,
            "--non-parametric": self.non_parametric,
        }
        if self.method is not Method.combat and any(given.values()):
            names = ", ".join(name for name, asked in given.items() if asked)
            raise typer.BadParameter(f"{names} belongs to --method combat, not {self.method.value}")

    def correction(
        self, keep: Sequence[str], categorical: Sequence[str], numeric: Sequence[str]
    ) -> LinearCorrection | CombatCorrection | CombatSeqCorrection:
        """Make the correction."""
        from batchsense.experiments import (
            CombatCorrection,
            CombatSeqCorrection,
            LinearCorrection,
        )

        columns = (tuple(keep), tuple(categorical), tuple(numeric))
        despite = self.despite_confounding
        if self.method is Method.combat:
            return CombatCorrection(
                keep=columns[0],
                categorical=columns[1],
                numeric=columns[2],
                parametric=not self.non_parametric,
                mean_only=self.mean_only,
                reference_batch=self.reference,
                despite_confounding=despite,
            )
        make = LinearCorrection if self.method is Method.linear else CombatSeqCorrection
        return make(
            keep=columns[0],
            categorical=columns[1],
            numeric=columns[2],
            despite_confounding=despite,
        )

    def notes(self, notes: Sequence[Note]) -> list[Note]:
        """Give what reading the table brought to light, as far as it concerns the method.

        That values look like counts is no remark on a method for counts.
        """
        irrelevant = {"looks_like_counts"} if self.method is Method.combat_seq else set()
        return [note for note in notes if note.code not in irrelevant]

    def words(self) -> dict[str, str | bool | None]:
        """Give the options that repeat the answer, by their long names."""
        return {
            "method": self.method.value,
            "reference": self.reference,
            "mean-only": self.mean_only,
            "non-parametric": self.non_parametric,
            "despite-confounding": self.despite_confounding,
        }
