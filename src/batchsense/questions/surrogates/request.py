"""What ``batchsense surrogates`` is asked, and how it is answered."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, Product
from batchsense.questions.beyond_memory import BeyondMemory
from batchsense.questions.option import Option
from batchsense.questions.surrogates.result import SurrogatesResult
from batchsense.questions.table_request import (
    MATRIX,
    CategoricalColumns,
    KeptColumns,
    NumericColumns,
    SheetOutput,
    beside,
)


class SurrogateMethod(StrEnum):
    """How surrogates are estimated."""

    reweighted = "reweighted"
    two_step = "two-step"


class SurrogatesRequest(BeyondMemory):
    """Estimate what varies and is in no column of the sheet: surrogate variables.

    Writes the sheet with columns sv1, sv2, … that stand for unknown batches, to be used as numeric
    covariates. Says how many there are, which columns they look like, and how far they go with what
    is to be kept. Refuses (exit code 1) if a kept column cannot be told from them.

    \b
    Examples:
      batchsense surrogates matrix.csv sheet.csv --keep drug -o sheet-sv.csv
      batchsense surrogates cells.h5ad --keep drug --known lane --count 2 -o sheet-sv.csv --json
      batchsense surrogates big.h5ad --keep drug --count 2 --out-of-core -o sheet-sv.csv
    """

    command: ClassVar[str] = "surrogates"

    matrix: Annotated[str, MATRIX]
    output: SheetOutput
    keep: KeptColumns = None
    known: Annotated[
        tuple[str, ...],
        Option(
            "Column that matters but is not of interest, such as a known batch.",
            metavar="COL",
            of="column",
            label="Known and of no interest",
            front=True,
        ),
    ] = ()
    categorical: CategoricalColumns = ()
    numeric: NumericColumns = ()
    method: Annotated[
        SurrogateMethod,
        Option(
            "How to estimate them.",
            choices={
                "reweighted": "Leek and Storey 2008: features weighted by how likely they depend "
                "on the unknown and not on what is kept",
                "two-step": "Leek and Storey 2007: simpler, and much less safe where the unknown "
                "batch goes with what is kept",
            },
        ),
    ] = SurrogateMethod.reweighted
    count: Annotated[
        int | None,
        Field(ge=1),
        Option("How many, without judging that; else as many as exceed permuted residuals."),
    ] = None
    permutations: Annotated[
        int, Field(ge=20), Option("Permutations that judge how many there are.")
    ] = 50

    @override
    def offered_output(self) -> str:
        return beside(self.name_of(self.sheet or self.matrix), "surrogates", ".csv")


def ask(request: SurrogatesRequest, progress: Progress = silent) -> Answer[SurrogatesResult]:
    """Find surrogate variables.

    Raises
    ------
    DataError
        The files cannot be used as they are.
    ConfoundedError
        A kept column cannot be told from the surrogates.
    UnresolvedError
        The data cannot answer.
    """
    from batchsense.experiments import ColumnKinds, Estimation, find_surrogates
    from batchsense.experiments.layout.sheet import check_sheet_format, sheet_text, write_sheet
    from batchsense.questions.surrogates.report import surrogates_report
    from batchsense.questions.surrogates.text import surrogates_text
    from batchsense.reports.envelope import Note

    if request.output != "-":
        check_sheet_format(request.output)
    with request.opened(progress) as (table, decision):
        found = find_surrogates(
            table,
            request.keep or (),
            known=request.known,
            estimation=Estimation(request.method.value, request.count),
            kinds=ColumnKinds(request.categorical, request.numeric),
            permutations=request.permutations,
            seed=request.seed,
            progress=progress,
        )
    envelope = request.envelope(
        SurrogatesResult.of(found, request.name_of(request.output)).model_copy(
            update={"out_of_core": request.read_out_of_core(table, decision)}
        ),
        Note.published((*request.notes_of(table, decision), *found.notes)),
    )

    def write(path: Path) -> None:
        write_sheet(found.sheet(), str(path))

    return Answer(
        envelope,
        lambda _: surrogates_text(envelope, request.described()),
        lambda: surrogates_report(envelope, request.words()),
        (Product("output", "sheet", write, lambda: sheet_text(found.sheet())),),
    )
