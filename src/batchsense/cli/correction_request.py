"""A correction as the command line asks for it, in memory or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchsense.questions.correct.choice import CorrectionChoice

if TYPE_CHECKING:
    from batchsense.experiments import Note
    from batchsense.experiments.correction.interface import Account
    from batchsense.questions.correct.result import CorrectResult, OutOfCore, Reused
    from batchsense.reports.envelope import Envelope, InputFile


@dataclass(frozen=True, slots=True)
class Request:
    """A correction as the command line asks for it.

    Attributes
    ----------
    matrix, sheet : str or None
        What is read; without a matrix the built-in digits.
    output : str
        Where the result goes.
    batch_labels, id_column, layer : str or None
        See the options.
    keep : list of str or None
        Columns that are kept; None where nothing was said.
    categorical, numeric : tuple of str
        Kept columns of a declared kind.
    densify : bool
        See the options.
    seed : int
        Recorded.
    choice : CorrectionChoice
        The method.
    """

    matrix: str | None
    sheet: str | None
    output: str
    batch_labels: str | None
    id_column: str | None
    layer: str | None
    keep: list[str] | None
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    densify: bool
    seed: int
    choice: CorrectionChoice

    def answer(
        self,
        found: Account,
        inputs: list[InputFile],
        how: OutOfCore | None = None,
        notes: Sequence[Note] = (),
        reused: Reused | None = None,
        saved_fitted: str | None = None,
    ) -> Envelope[CorrectResult]:
        """Put the answer together, with what reading the table brought to light."""
        from batchsense.questions.correct.result import CorrectResult
        from batchsense.questions.shares import published
        from batchsense.reports.envelope import Envelope

        return Envelope[CorrectResult](
            command="correct",
            inputs=inputs,
            seed=self.seed,
            result=CorrectResult.of(found, self.output, how, reused, saved_fitted),
            notes=published([*notes, *self.choice.notes(found.table.notes)]),
        )

    def provenance(self, found: Account, answer: Envelope[CorrectResult]) -> dict[str, Any]:
        """Say what was done, for the result itself."""
        from batchsense.questions.correct.result import provenance

        reused = answer.answer().reused
        options: dict[str, str | bool | None] = (
            {**self.choice.words()}
            if reused is None
            else {"fitted": reused.file, "new-batches": bool(reused.new_batches)}
        )
        return provenance(found, answer, options)
