"""What ``batchsense test`` is asked, and how it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator
from typing_extensions import override

from batchsense.errors import RequestError
from batchsense.progress import Progress, silent
from batchsense.questions.aggregated import AggregatedRequest
from batchsense.questions.answer import Answer, Product
from batchsense.questions.beyond_memory import BeyondMemory, Decision
from batchsense.questions.option import Option
from batchsense.questions.table_request import BlockColumn, ModelRequest, beside, complete
from batchsense.questions.test.result import ContrastTestsResult
from batchsense.questions.test.table import check_table_format, table_text, write_table

if TYPE_CHECKING:
    from batchsense.experiments import Table


class TestRequest(AggregatedRequest, BeyondMemory, ModelRequest):
    """Test contrasts on every feature, with the batches in the model.

    Moderated t, F over all levels of a column, and Benjamini-Hochberg q: limma's lmFit, eBayes and
    topTable. What cannot be told from the batches, aliased as R has it, is refused by name (exit
    code 1); the rest is tested. The answer is valid on
    corrected values too: an .h5ad says by itself that it was corrected, for other files say
    --corrected. Rows of one subject are no independent specimens: say --block. Counts are taken as
    counts: features with enough of them, TMM factors, and precision weights for log counts per
    million. Without MATRIX and SHEET it compares the digits 8 and 3.

    \b
    Examples:
      batchsense test
      batchsense test matrix.csv sheet.csv --batch month --contrast drug --keep age -o tests.csv
      batchsense test matrix.csv sheet.csv --batch month --contrast "drug: (a + b)/2 - none"
      batchsense test m.csv s.csv --batch month --contrast "drug*time" --design "~ drug*time + age"
      batchsense test matrix.csv sheet.csv --batch run --contrast drug --block subject
      batchsense test corrected.csv sheet.csv --batch month --contrast drug:yes-no --corrected
      batchsense test big.zarr --batch lane --contrast drug --out-of-core -o tests.csv
    """

    #: The name is that of the command; pytest must not collect it.
    __test__: ClassVar[bool] = False
    command: ClassVar[str] = "test"

    contrast: Annotated[
        tuple[str, ...],
        Option(
            "Column to test, or what of it: 'drug: (high + low)/2 - none', 'drug*time', "
            "'(a.late - a.early) - (b.late - b.early)'; may be repeated.",
            metavar="COL[:A-B]",
            of="contrast",
            label="Columns to test",
            front=True,
        ),
    ] = ()
    surrogate: Annotated[
        tuple[str, ...],
        Option(
            "Surrogate variable in the place of --batch, which nobody wrote down; may be repeated.",
            metavar="COL",
            of="column",
            label="Surrogate variables",
        ),
    ] = ()
    joint: Annotated[bool, Option("Test all contrasts together as well, by F.")] = False
    design: Annotated[
        str | None,
        Option(
            "The model beside the batches, '~ drug * time + age'; else all that is named.",
            metavar="FORMULA",
        ),
    ] = None
    block: BlockColumn = None
    per_feature: Annotated[
        bool,
        Option(
            "Give each feature a variance between blocks of its own (mixed model), for contrasts "
            "between subjects."
        ),
    ] = False
    specimen_weights: Annotated[
        bool, Option("Weigh each specimen by how little it scatters in all features.")
    ] = False
    ordinary: Annotated[bool, Option("Ordinary t and F: do not share the variances.")] = False
    trend: Annotated[bool, Option("Let the shared variance depend on the mean.")] = False
    robust: Annotated[bool, Option("Keep wild features from setting the shared variance.")] = False
    level: Annotated[
        float,
        Field(ge=0.5, le=0.9999),
        Option("Confidence level of the intervals.", label="Confidence level"),
    ] = 0.95
    corrected: Annotated[bool, Option("MATRIX was corrected for the batches already.")] = False
    output: Annotated[
        str | None,
        Option(
            "Write every feature to a .csv, .tsv or .txt (also .gz); - for stdout.",
            short="-o",
            metavar="FILE",
            of="output",
        ),
    ] = None

    @field_validator("output")
    @classmethod
    def _has_a_known_kind(cls, output: str | None) -> str | None:
        check_table_format(output)
        return output

    @classmethod
    @override
    def built_in(cls) -> dict[str, Any]:
        return {**super().built_in(), "keep": (), "contrast": ("digit:8-3",)}

    def contrasts(self) -> tuple[str, ...]:
        """What is tested; in the built-in digits that is known.

        Raises
        ------
        RequestError
            Nothing was named.
        """
        if not self.contrast and self.matrix is not None:
            raise RequestError("--contrast is needed: a column, or COL:A-B for A minus B")
        compared: tuple[str, ...] = self.contrast or self.built_in()["contrast"]
        return compared

    @override
    def own_fault(self) -> str | None:
        shares = ["--" + name for name in ("trend", "robust") if getattr(self, name)]
        alone = "--per-feature" if self.per_feature else "--ordinary" if self.ordinary else ""
        if self.per_feature and self.block is None:
            return "--per-feature needs --block, the column that names the subjects"
        if shares and alone:
            return (
                f"{alone} shares no variances, and {shares[0]} says how to; leave out one of them"
            )
        if self.block is not None and self.specimen_weights:
            return (
                "--block and --specimen-weights are not estimated together; leave out one of them"
            )
        return None

    @override
    def in_pieces(self) -> str | None:
        if self.block is not None:
            return "reads sums of one pass, which --block does not go by; leave out one of them"
        if self.specimen_weights:
            return (
                "reads sums of one pass, which --specimen-weights does not go by; leave out one of "
                "them"
            )
        return super().in_pieces()

    @override
    def offered_output(self) -> str:
        return beside(self.name_of(self.matrix) if self.matrix else "digits.csv", "tests", ".csv")


def ask(request: TestRequest, progress: Progress = silent) -> Answer[ContrastTestsResult]:
    """Test the contrasts.

    Raises
    ------
    DataError
        The files cannot be used as they are.
    RequestError
        No contrast, or no batch column, was named.
    ConfoundedError
        Nothing that was asked for can be told from the batches.
    """
    with request.opened(progress) as (table, decision):
        return _answer(request, table, decision, progress)


def _answer(
    request: TestRequest, table: Table, decision: Decision | None, progress: Progress
) -> Answer[ContrastTestsResult]:
    from batchsense.experiments import ColumnKinds, ContrastOptions, test
    from batchsense.experiments.contrasts.formula import read_formula
    from batchsense.experiments.counts.preparing import OUTDATED
    from batchsense.experiments.testing.contrasts import read_terms
    from batchsense.experiments.testing.recorded import recorded_test
    from batchsense.questions.test.report import contrast_report
    from batchsense.questions.test.text import brief, contrast_text
    from batchsense.reports.envelope import Note

    recorded = recorded_test(
        request.stored(table), request.batch_labels, request.keep, request.corrected
    )
    batch_column, kept = recorded.batch_labels, recorded.keep
    if request.design is not None:
        kept = request.keep or ()
    if not request.surrogate:
        named = request.model_copy(update={"batch_labels": batch_column, "keep": kept})
        batch_column, kept = named.batch_columns(table), tuple(named.kept_columns())
    formula = None if request.design is None else read_formula(request.design, table)
    (terms, _) = read_terms(request.contrasts(), kept or (), formula, table)[1]
    table = complete(request, table, [*(batch_column or ()), *request.surrogate, *terms])
    found = test(
        table,
        request.contrasts(),
        batch_column or None,
        kept or (),
        ContrastOptions(
            shrink=not request.ordinary,
            trend=request.trend,
            robust=request.robust,
            level=request.level,
            corrected_by=recorded.corrected_by,
            joint=request.joint,
            design=request.design,
            blocks=request.block,
            per_feature=request.per_feature,
            specimen_weights=request.specimen_weights,
        ),
        ColumnKinds(request.categorical, request.numeric).completed(recorded.kinds),
        request.surrogate,
        progress,
    )
    output = None if request.output is None else request.name_of(request.output)
    read = [one for one in table.notes if found.counts is None or one.code not in OUTDATED]
    envelope = request.envelope(
        ContrastTestsResult.of(
            found,
            table.orientation,
            not (request.ordinary or request.per_feature),
            request.trend,
            request.robust,
            output,
        ).model_copy(update={"out_of_core": request.read_out_of_core(table, decision)}),
        Note.published((*request.notes_of(table, decision), *read, *recorded.notes, *found.notes)),
    )

    def write(path: Path) -> None:
        write_table(found, str(path))

    return Answer(
        envelope,
        lambda _: contrast_text(envelope, request.described()),
        lambda: contrast_report(envelope, found, request.words(), None if decision else table),
        (Product("output", "tests", write, lambda: table_text(found, ",")),),
        no=bool(found.refused),
        brief=lambda: brief(envelope),
    )
