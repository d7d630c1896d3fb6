"""``batchsense test``: what differs between conditions, with the batches in the model."""

# ruff: noqa: PT028
# The command is no test of ours, whatever its name.

from __future__ import annotations

from typing import Annotated

import typer

from batchsense.cli.answer import EXIT_NO, check_output, give, refusals
from batchsense.cli.console import progress_on_stderr, say, write_answer
from batchsense.cli.table_input import (
    BatchOption,
    CategoricalOption,
    DensifyOption,
    IdOption,
    KeepOption,
    LayerOption,
    MatrixArgument,
    NumericOption,
    SheetArgument,
    chosen_columns,
    command_line,
    described,
    read_table,
)

#: What is compared in the built-in digits.
_BUILT_IN = ["digit:8-3"]


def test(
    matrix: MatrixArgument = None,
    sheet: SheetArgument = None,
    batch_labels: BatchOption = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            "--contrast",
            metavar="COL[:A-B]",
            help="Column to test, or one level minus another; may be repeated.",
        ),
    ] = None,
    keep: KeepOption = None,
    surrogate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL",
            help="Surrogate variable in the place of --batch, which nobody wrote down; may be "
            "repeated.",
        ),
    ] = None,
    id_column: IdOption = None,
    categorical: CategoricalOption = None,
    numeric: NumericOption = None,
    densify: DensifyOption = False,
    layer: LayerOption = None,
    ordinary: Annotated[
        bool, typer.Option("--ordinary", help="Ordinary t and F: do not share the variances.")
    ] = False,
    trend: Annotated[
        bool, typer.Option("--trend", help="Let the shared variance depend on the mean.")
    ] = False,
    robust: Annotated[
        bool, typer.Option("--robust", help="Keep wild features from setting it.")
    ] = False,
    level: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Confidence level of the intervals.")
    ] = 0.95,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="MATRIX was corrected for the batches already.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write every feature to a .csv, .tsv or .txt (also .gz); - for stdout.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Recorded; nothing is drawn.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write a self-contained page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Test contrasts on every feature, with the batches in the model.

    Moderated t, F over all levels of a column, and Benjamini-Hochberg q. What cannot be told from
    the batches is refused by name (exit code 1); the rest is tested. The answer is valid on
    corrected values too: an .h5ad says by itself that it was corrected, for other files say
    --corrected. Without MATRIX and SHEET it compares the digits 8 and 3.

    \b
    Examples:
      batchsense test
      batchsense test matrix.csv sheet.csv --batch month --contrast drug --keep age -o tests.csv
      batchsense test corrected.csv sheet.csv --batch month --contrast drug:yes-no --corrected
    """
    if output == "-" and as_json:
        raise typer.BadParameter("-o - prints the table, --json a document; choose one")
    check_output(output, force)
    check_output(report, force)
    with refusals("test", as_json, seed, [path for path in (matrix, sheet) if path]):
        from batchsense.experiments import test as test_contrasts
        from batchsense.experiments.testing.recorded import recorded_test
        from batchsense.questions.shares import published
        from batchsense.questions.test.result import ContrastTestsResult
        from batchsense.questions.test.table import check_table_format, table_text, write_table
        from batchsense.questions.test.text import contrast_text
        from batchsense.reports.envelope import Envelope

        check_table_format(output)
        table, inputs = read_table(matrix, sheet, id_column, densify, layer)
        recorded = recorded_test(table, batch_labels, keep, corrected)
        kept = list(recorded.keep or ())
        batch_column = recorded.batch_labels
        if not surrogate:
            batch_column, kept = chosen_columns(table, matrix, batch_column, kept)
        contrasts = contrast or (_BUILT_IN if matrix is None else [])
        if not contrasts:
            raise typer.BadParameter("--contrast is needed: a column, or COL:A-B for A minus B")
        with progress_on_stderr() as progress:
            found = test_contrasts(
                table,
                contrasts,
                batch_column,
                kept,
                surrogates=surrogate or (),
                categorical=categorical or (),
                numeric=numeric or (),
                shrink=not ordinary,
                trend=trend,
                robust=robust,
                level=level,
                corrected_by=recorded.corrected_by,
                progress=progress,
            )
        envelope = Envelope[ContrastTestsResult](
            command="test",
            inputs=inputs,
            seed=seed,
            result=ContrastTestsResult.of(
                found, table.orientation, not ordinary, trend, robust, output
            ),
            notes=published((*table.notes, *recorded.notes, *found.notes)),
        )
    text = contrast_text(envelope, described(matrix, sheet))
    if output == "-":
        write_answer(table_text(found, ","))
        say(text)
    elif output is not None:
        write_table(found, output)
    if report is not None:
        from batchsense.questions.test.report import contrast_report
        from batchsense.reports.page import write_report

        words = command_line(
            "test",
            matrix,
            sheet,
            batch=batch_column,
            contrast=contrasts,
            keep=kept,
            surrogate=surrogate,
            id=id_column,
            categorical=categorical,
            numeric=numeric,
            densify=densify,
            layer=layer,
            ordinary=ordinary,
            trend=trend,
            robust=robust,
            corrected=corrected,
        )
        write_report(report, contrast_report(envelope, found, words), force)
        say(f"report: {report}")
    if output != "-":
        give(envelope, as_json, lambda: text)
    if found.refused:
        raise typer.Exit(EXIT_NO)
