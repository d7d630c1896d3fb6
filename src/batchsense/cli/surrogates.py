"""``batchsense surrogates``: columns for the batches that nobody wrote down."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from batchsense.cli.answer import check_output, give, refusals
from batchsense.cli.console import progress_on_stderr, say, write_answer
from batchsense.cli.table_input import (
    CategoricalOption,
    IdOption,
    KeepOption,
    NumericOption,
    SheetArgument,
    command_line,
    described,
)


class SurrogateMethod(StrEnum):
    """How surrogates are estimated."""

    reweighted = "reweighted"
    two_step = "two-step"


def surrogates(
    matrix: Annotated[
        str,
        typer.Argument(
            metavar="MATRIX",
            help="Observations, in any format that diagnose reads; either orientation.",
            show_default=False,
        ),
    ],
    sheet: SheetArgument = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the sheet with its new columns goes: .csv, .tsv, .txt (also .gz); - for "
            "stdout.",
            show_default=False,
        ),
    ] = ...,  # type: ignore[assignment]  # typer's sign of a required option
    keep: KeepOption = None,
    known: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL", help="Column that matters but is not of interest, such as a known batch."
        ),
    ] = None,
    method: Annotated[
        SurrogateMethod, typer.Option(help="How to estimate them.")
    ] = SurrogateMethod.reweighted,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="How many; else as many as exceed permuted residuals."),
    ] = None,
    id_column: IdOption = None,
    categorical: CategoricalOption = None,
    numeric: NumericOption = None,
    permutations: Annotated[
        int, typer.Option(min=20, help="Permutations that judge how many there are.")
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the permutations.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write a self-contained page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Estimate what varies and is in no column of the sheet: surrogate variables.

    Writes the sheet with columns sv1, sv2, … that stand for unknown batches, to be used as numeric
    covariates. Says how many there are, which columns they look like, and how far they go with what
    is to be kept. Refuses (exit code 1) if a kept column cannot be told from them.

    \b
    Examples:
      batchsense surrogates matrix.csv sheet.csv --keep drug -o sheet-sv.csv
      batchsense surrogates cells.h5ad --keep drug --known lane --count 2 -o sheet-sv.csv --json
    """
    if output == "-" and as_json:
        raise typer.BadParameter("-o - prints the sheet, --json a document; choose one")
    for path in (matrix, sheet):
        if path is not None and Path(path).resolve() == Path(output).resolve():
            raise typer.BadParameter(f"{output} is an input; give the output another name")
    check_output(output, force)
    check_output(report, force)
    with refusals("surrogates", as_json, seed, [path for path in (matrix, sheet) if path]):
        from batchsense.experiments import find_surrogates, read
        from batchsense.experiments.layout.sheet import check_sheet_format, sheet_text, write_sheet
        from batchsense.questions.shares import published
        from batchsense.questions.surrogates.result import SurrogatesResult
        from batchsense.questions.surrogates.text import surrogates_text
        from batchsense.reports.envelope import Envelope, InputFile

        if output != "-":
            check_sheet_format(output)
        table = read(matrix, sheet, id_column)
        with progress_on_stderr() as progress:
            found = find_surrogates(
                table,
                keep or (),
                known=known or (),
                method=method.value,
                count=count,
                categorical=categorical or (),
                numeric=numeric or (),
                permutations=permutations,
                seed=seed,
                progress=progress,
            )
        envelope = Envelope[SurrogatesResult](
            command="surrogates",
            inputs=[InputFile.of(path) for path in (matrix, sheet) if path is not None],
            seed=seed,
            result=SurrogatesResult.of(found, output),
            notes=published(found.notes),
        )

    def text() -> str:
        return surrogates_text(envelope, described(matrix, sheet))

    if output == "-":
        write_answer(sheet_text(found.sheet()))
        say(text())
    else:
        write_sheet(found.sheet(), output)
    if report is not None:
        from batchsense.questions.surrogates.report import surrogates_report
        from batchsense.reports.page import write_report

        words = command_line(
            "surrogates",
            matrix,
            sheet,
            keep=keep,
            known=known,
            method=method.value,
            count=None if count is None else str(count),
            id=id_column,
            categorical=categorical,
            numeric=numeric,
            permutations=str(permutations),
            seed=str(seed),
            output=output,
        )
        write_report(report, surrogates_report(envelope, words), force)
        say(f"report: {report}")
    if output != "-":
        give(envelope, as_json, text)
