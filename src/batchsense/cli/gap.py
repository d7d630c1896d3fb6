"""``batchsense gap``: how much worse a model is on a batch that it has not seen."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from batchsense.cli.answer import EXIT_NO, check_output, give, refusals
from batchsense.cli.console import progress_on_stderr, say
from batchsense.cli.table_input import (
    BatchOption,
    DensifyOption,
    IdOption,
    LayerOption,
    MatrixArgument,
    SheetArgument,
    chosen_columns,
    command_line,
    described,
    read_table,
)
from batchsense.errors import UnresolvedError


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


def gap(
    matrix: MatrixArgument = None,
    sheet: SheetArgument = None,
    batch_labels: BatchOption = None,
    predict: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Column of SHEET to be predicted: classes or numbers."),
    ] = None,
    model: Annotated[
        GapModel | None,
        typer.Option(
            help="Who predicts; else the nearest neighbour for classes, ridge for numbers.",
            show_default=False,
        ),
    ] = None,
    correct: Annotated[
        list[FoldCorrection] | None,
        typer.Option(
            help="Correction inside the folds, beside none at all; may be repeated. Else linear.",
            show_default=False,
        ),
    ] = None,
    id_column: IdOption = None,
    categorical: Annotated[
        bool, typer.Option("--categorical", help="The numbers to be predicted are classes.")
    ] = False,
    numeric: Annotated[
        bool, typer.Option("--numeric", help="The few whole numbers to be predicted count.")
    ] = False,
    densify: DensifyOption = False,
    layer: LayerOption = None,
    standardise: Annotated[
        bool,
        typer.Option(
            "--standardise",
            help="Give every feature the same weight; logistic and ridge always do.",
        ),
    ] = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="How often the shuffled folds are drawn anew.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds and of a forest.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write a self-contained page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Show how much worse a model is on a batch that it has not seen than shuffled folds promise.

    Every row is predicted by a model that did not learn from it: once with other rows of its batch
    in training, once without. The same with a correction inside the folds, which never sees the
    answers. Exit code 1 if the batches cannot tell, or if every class lies in one batch only.
    Without MATRIX and SHEET it predicts the built-in digits on forms left out.

    \b
    Examples:
      batchsense gap
      batchsense gap matrix.csv sheet.csv --batch plate --predict diagnosis
      batchsense gap m.csv s.csv --batch site --predict age --model forest --correct combat
      batchsense gap cells.h5ad --batch lane --predict type --correct none --json
    """
    if categorical and numeric:
        raise typer.BadParameter("--categorical and --numeric contradict each other; give one")
    check_output(report, force)
    with refusals("gap", as_json, seed, [path for path in (matrix, sheet) if path]):
        from batchsense.experiments import compare_gaps
        from batchsense.questions.gap.result import GapResult
        from batchsense.questions.gap.text import gap_text, needed, verdict_sentence
        from batchsense.questions.shares import published
        from batchsense.reports.envelope import Envelope, Refusal

        table, inputs = read_table(matrix, sheet, id_column, densify, layer)
        asked = None if predict is None else [predict]
        batch_column, chosen = chosen_columns(table, matrix, batch_labels, asked)
        if not chosen:
            raise typer.BadParameter("--predict is needed: the column that the model predicts")
        corrections = [one.value for one in correct or [FoldCorrection.linear]]
        with progress_on_stderr() as progress:
            found = compare_gaps(
                table,
                batch_column,
                chosen[0],
                None if model is None else model.value,
                corrections,
                categorical=chosen if categorical else (),
                numeric=chosen if numeric else (),
                standardise=standardise,
                repeats=repeats,
                seed=seed,
                progress=progress,
            )
        result = GapResult.of(found, table.values.shape[1], repeats)
        refusal = None
        if found.verdict == "cannot_tell":
            refusal = Refusal.of(UnresolvedError(verdict_sentence(result), needed(result)))
        envelope = Envelope[GapResult](
            command="gap",
            inputs=inputs,
            seed=seed,
            result=result,
            refusal=refusal,
            notes=published(found.notes),
        )
    if report is not None:
        from batchsense.questions.gap.report import gap_report
        from batchsense.reports.page import write_report

        words = command_line(
            "gap",
            matrix,
            sheet,
            batch=batch_column,
            predict=chosen,
            model=found.model,
            correct=corrections,
            id=id_column,
            categorical=categorical,
            numeric=numeric,
            densify=densify,
            layer=layer,
            standardise=standardise,
            repeats=str(repeats),
            seed=str(seed),
        )
        write_report(report, gap_report(envelope, words), force)
        say(f"report: {report}")
    give(envelope, as_json, lambda: gap_text(envelope, described(matrix, sheet)))
    if refusal is not None:
        raise typer.Exit(EXIT_NO)
