"""What ``batchsense surrogates`` is asked, and how it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator
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

if TYPE_CHECKING:
    from batchsense.experiments import Estimation


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
      batchsense surrogates matrix.csv sheet.csv --keep drug --control spikes.txt -o sheet-sv.csv
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
    control: Annotated[
        tuple[str, ...],
        Option(
            "Control feature that nothing wanted touches, or a file with one name a line; may be "
            "repeated. The surrogates are then what the controls have in common (RUV).",
            metavar="NAME|FILE",
            of="machine",
        ),
    ] = ()
    count: Annotated[
        int | None,
        Field(ge=1),
        Option("How many, without judging that; else as many as exceed permuted residuals."),
    ] = None
    permutations: Annotated[
        int, Field(ge=20), Option("Permutations that judge how many there are.")
    ] = 50

    @model_validator(mode="after")
    def _has_one_method(self) -> Self:
        if self.control and self.method is not SurrogateMethod.reweighted:
            raise ValueError(f"--control and --method {self.method} contradict each other")
        return self

    @override
    def read_paths(self) -> list[str]:
        """The files that are read, those of controls among them."""
        return [*super().read_paths(), *(one for one in self.control if Path(one).is_file())]

    def estimation(self, features: Sequence[str]) -> Estimation:
        """How surrogates are estimated; a control that is no feature may be a file of names."""
        from batchsense.experiments import Estimation
        from batchsense.experiments.surrogates.controls import names_in

        if not self.control:
            return Estimation(self.method.value, self.count)
        known, names = set(features), []
        for one in self.control:
            names += [one] if one in known or not Path(one).is_file() else names_in(one)
        return Estimation("controls", self.count, tuple(dict.fromkeys(names)))

    @override
    def offered_output(self) -> str:
        return beside(self.name_of(self.sheet or self.matrix), "surrogates", ".csv")


def ask(request: SurrogatesRequest, progress: Progress = silent) -> Answer[SurrogatesResult]:
    """Find surrogate variables."""
    from batchsense.experiments import ColumnKinds, find_surrogates
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
            estimation=request.estimation(table.features),
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
