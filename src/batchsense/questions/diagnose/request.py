"""What ``batchsense diagnose`` is asked, and how it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator
from typing_extensions import override

from batchsense.notes import Note as FoundNote
from batchsense.progress import Progress, silent
from batchsense.questions.aggregated import AggregatedRequest
from batchsense.questions.answer import Answer, Product
from batchsense.questions.beyond_memory import BeyondMemory, Decision
from batchsense.questions.diagnose.result import DiagnoseResult
from batchsense.questions.option import Option
from batchsense.questions.table_request import BlockColumn, ModelRequest, complete

if TYPE_CHECKING:
    from batchsense.experiments import Diagnosis, Table

#: What is said in the place of placebos.
NO_PLACEBO = (
    "Pure noise is pushed through the pipelines for one batch column only, so no placebo was made."
)


class DiagnoseRequest(AggregatedRequest, BeyondMemory, ModelRequest):
    """Show how much of the variance belongs to the batches, and what is entangled with them.

    Gives a verdict: fine, adjust (keep the batch in the model), partly lost, or not estimable, that
    is aliased (exit code 1). Without MATRIX and SHEET it diagnoses the built-in digits, whose
    hidden batch is the form they were written on.

    \b
    Examples:
      batchsense diagnose
      batchsense diagnose matrix.csv sheet.csv --batch month --keep drug --keep age
      batchsense diagnose matrix.csv sheet.csv --batch month --keep drug -o features.tsv
      batchsense diagnose matrix.csv sheet.csv --batch month --keep drug --block subject
      batchsense diagnose cells.h5ad --batch lane --keep treatment --json
      batchsense diagnose big.h5ad --batch lane --keep treatment --out-of-core --memory 2GiB
    """

    command: ClassVar[str] = "diagnose"

    block: BlockColumn = None
    standardise: Annotated[bool, Option("Give every feature the same weight.")] = False
    permutations: Annotated[
        int, Field(ge=20), Option("How often labels are permuted to see what chance explains.")
    ] = 200
    placebo: Annotated[
        bool,
        Option(
            "Push features of pure noise through usual pipelines on your sheet, and print how "
            "many are called."
        ),
    ] = True
    output: Annotated[
        str | None,
        Option(
            "Also write the shares of every feature, as .tsv or .csv.",
            short="-o",
            metavar="FEATURES.tsv",
            of="output",
        ),
    ] = None

    @field_validator("output")
    @classmethod
    def _has_a_known_kind(cls, output: str | None) -> str | None:
        if output is not None and not output.lower().endswith((".tsv", ".csv")):
            raise ValueError(f"{output}: name a .tsv or .csv file")
        return output

    @override
    def in_pieces(self) -> str | None:
        if self.block is not None:
            return "reads sums of one pass, which --block does not go by; leave out one of them"
        return super().in_pieces()


def ask(request: DiagnoseRequest, progress: Progress = silent) -> Answer[DiagnoseResult]:
    """Read the table, and diagnose it."""
    with request.opened(progress) as (table, decision):
        return _answer(request, table, decision, progress)


def _answer(
    request: DiagnoseRequest, table: Table, decision: Decision | None, progress: Progress
) -> Answer[DiagnoseResult]:
    from batchsense.experiments import ColumnKinds, diagnose, placebos
    from batchsense.experiments.counts import log_count_table
    from batchsense.experiments.diagnosis.block_share import share_of_blocks
    from batchsense.questions.diagnose.report import diagnose_report
    from batchsense.questions.diagnose.text import diagnose_text
    from batchsense.reports.envelope import Note
    from batchsense.storage.atomic import write_text

    batch_columns = request.batch_columns(table)
    table = complete(request, table, [*batch_columns, *request.kept_columns()])
    found = diagnose(
        table,
        batch_columns,
        request.kept_columns(),
        kinds=ColumnKinds(request.categorical, request.numeric),
        standardise=request.standardise,
        permutations=request.permutations,
        seed=request.seed,
        progress=progress,
    )
    table = log_count_table(table, found.design)  # as they were looked at
    blocks = None
    if request.block is not None:
        blocks = share_of_blocks(
            table,
            found.design,
            request.block,
            standardise=request.standardise,
            permutations=request.permutations,
            seed=request.seed,
            progress=progress,
        )
    several = len(found.batch_parts) > 1
    wanted = request.placebo and not several
    unplaced = [FoundNote("no_placebo", NO_PLACEBO)] if several and request.placebo else []
    noise = placebos(table, found, seed=request.seed, progress=progress) if wanted else None
    # Before anything is told: they may be refused.
    features = None if request.output is None else _features(table, found, request.output)
    envelope = request.envelope(
        DiagnoseResult.of(found, table.orientation, request.standardise, noise, blocks).model_copy(
            update={"out_of_core": request.read_out_of_core(table, decision)}
        ),
        Note.published((*request.notes_of(table, decision), *found.notes, *unplaced)),
    )
    words = request.words()
    return Answer(
        envelope,
        lambda _: diagnose_text(envelope, request.described()),
        lambda: diagnose_report(envelope, found, table if decision is None else None, words),
        (
            Product(
                "output",
                "features",
                lambda path: write_text(path, features or ""),
                announced=True,
            ),
        ),
        no=found.verdict == "not_estimable",
    )


def _features(table: Table, found: Diagnosis, output: str) -> str:
    from batchsense.experiments.diagnosis.by_feature import shares_by_feature
    from batchsense.questions.diagnose.feature_table import feature_table

    delimiter = "," if output.lower().endswith(".csv") else "\t"
    return feature_table(shares_by_feature(table, found.design), delimiter)
