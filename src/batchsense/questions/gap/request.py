"""What ``batchsense gap`` is asked, and how it is answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator
from typing_extensions import override

from batchsense.errors import RequestError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.questions.aggregated import AggregatedRequest
from batchsense.questions.answer import Answer
from batchsense.questions.gap.result import GapResult
from batchsense.questions.option import Option
from batchsense.questions.table_request import (
    BatchesRequest,
    BlockColumn,
    DropIncomplete,
    complete,
)


class GapModel(StrEnum):
    """The models."""

    nearest = "nearest"
    logistic = "logistic"
    ridge = "ridge"
    forest = "forest"


class FoldCorrection(StrEnum):
    """What is learned and removed inside every fold."""

    none = "none"
    linear = "linear"
    combat = "combat"


class GapRequest(AggregatedRequest, BatchesRequest):
    """Show how much worse a model is on a batch that it has not seen than shuffled folds promise.

    Every row is predicted by a model that did not learn from it: once with other rows of its batch
    in training, once without. The same with a correction inside the folds, which never sees the
    answers. With --block no subject is in training and predicted at once. Exit code 1 if the
    batches cannot tell, or if every class lies in one batch only. Without MATRIX and SHEET it
    predicts the built-in digits on forms left out.

    \b
    Examples:
      batchsense gap
      batchsense gap matrix.csv sheet.csv --batch plate --predict diagnosis
      batchsense gap matrix.csv sheet.csv --batch site --predict diagnosis --block subject
      batchsense gap m.csv s.csv --batch site --predict age --model forest --correct combat
      batchsense gap cells.h5ad --batch lane --predict type --correct none --json
    """

    command: ClassVar[str] = "gap"

    predict: Annotated[
        str | None,
        Option(
            "Column of SHEET to be predicted: classes or numbers.",
            metavar="COL",
            of="column",
            front=True,
        ),
    ] = None
    block: BlockColumn = None
    model: Annotated[
        GapModel | None,
        Option(
            "Who predicts; else the nearest neighbour for classes, ridge for numbers.",
            choices={
                "nearest": "the nearest neighbour for classes, the mean of five for numbers",
                "logistic": "logistic regression, for classes",
                "ridge": "ridge regression, for numbers; the penalty is chosen inside the fold",
                "forest": "a random forest of 100 trees",
            },
        ),
    ] = None
    correct: Annotated[
        tuple[FoldCorrection, ...],
        Option("Correction inside the folds, beside none at all; may be repeated."),
    ] = (FoldCorrection.linear,)
    categorical: Annotated[bool, Option("The numbers to be predicted are classes.")] = False
    numeric: Annotated[bool, Option("The few whole numbers to be predicted count.")] = False
    standardise: Annotated[
        bool, Option("Give every feature the same weight; logistic and ridge always do.")
    ] = False
    drop_incomplete: DropIncomplete = False
    repeats: Annotated[int, Field(ge=1), Option("How often the shuffled folds are drawn anew.")] = 3

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.categorical and self.numeric:
            raise ValueError("--categorical and --numeric contradict each other; give one")
        return self

    @classmethod
    @override
    def built_in(cls) -> dict[str, Any]:
        from batchsense.experiments.builtin import KEPT_COLUMN

        return {**super().built_in(), "predict": KEPT_COLUMN}

    def predicted_column(self) -> str:
        """The column to be predicted; that of the built-in digits is known."""
        if self.predict is not None:
            return self.predict
        if self.matrix is None:
            return str(self.built_in()["predict"])
        raise RequestError("--predict is needed: the column that the model predicts")


def ask(request: GapRequest, progress: Progress = silent) -> Answer[GapResult]:
    """Compare a model on shuffled folds and on batches left out."""
    from batchsense.experiments import ColumnKinds, PlainModel, ShuffledFolds, compare_gaps
    from batchsense.questions.gap.report import gap_report
    from batchsense.questions.gap.text import gap_text, needed, verdict_sentence
    from batchsense.reports.envelope import Note, Refusal

    table = request.table(progress)
    batch_column = request.batch_column(table)
    predicted = request.predicted_column()
    table = complete(request, table, [batch_column, predicted])
    found = compare_gaps(
        table,
        batch_column,
        predicted,
        PlainModel(
            None if request.model is None else request.model.value,
            [one.value for one in request.correct],
            request.standardise,
        ),
        ShuffledFolds(request.repeats, request.seed),
        ColumnKinds(
            categorical=[predicted] if request.categorical else (),
            numeric=[predicted] if request.numeric else (),
        ),
        progress,
        request.block,
    )
    result = GapResult.of(found, table.values.shape[1], request.repeats)
    refusal = None
    if found.verdict == "cannot_tell":
        refusal = Refusal.of(UnresolvedError(verdict_sentence(result), needed(result)))
    envelope = request.envelope(result, Note.published(found.notes), refusal)
    return Answer(
        envelope,
        lambda _: gap_text(envelope, request.described()),
        lambda: gap_report(envelope, request.words()),
        no=refusal is not None,
    )
