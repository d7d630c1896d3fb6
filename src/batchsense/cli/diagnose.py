"""``batchsense diagnose``: how much varies with the batches, and what goes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchsense.cli.answer import (
    EXIT_NO,
    check_output,
    give,
    refusals,
    write_text_atomically,
)
from batchsense.cli.console import progress_on_stderr, say
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


def diagnose(
    matrix: MatrixArgument = None,
    sheet: SheetArgument = None,
    batch_labels: BatchOption = None,
    keep: KeepOption = None,
    id_column: IdOption = None,
    categorical: CategoricalOption = None,
    numeric: NumericOption = None,
    densify: DensifyOption = False,
    layer: LayerOption = None,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Give every feature the same weight.")
    ] = False,
    permutations: Annotated[
        int, typer.Option(min=20, help="How often labels are permuted to see what chance explains.")
    ] = 200,
    placebo: Annotated[
        bool,
        typer.Option(
            help="Push features of pure noise through usual pipelines on your sheet, and print how "
            "many are called."
        ),
    ] = True,
    features: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FEATURES.tsv",
            help="Also write the shares of every feature, as .tsv or .csv.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of permutations and noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write a self-contained page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Show how much of the variance belongs to the batches, and what is entangled with them.

    Gives a verdict: fine, adjust (keep the batch in the model), partly lost, or not estimable
    (exit code 1). Without MATRIX and SHEET it diagnoses the built-in digits, whose hidden batch is
    the form they were written on.

    \b
    Examples:
      batchsense diagnose
      batchsense diagnose matrix.csv sheet.csv --batch month --keep drug --keep age
      batchsense diagnose matrix.csv sheet.csv --batch month --keep drug -o features.tsv
      batchsense diagnose cells.h5ad --batch lane --keep treatment --json
    """
    check_output(report, force)
    check_output(features, force)
    _check_features(features, [path for path in (matrix, sheet) if path])
    with refusals("diagnose", as_json, seed, [path for path in (matrix, sheet) if path]):
        from batchsense.experiments import diagnose as diagnose_table
        from batchsense.experiments import placebos
        from batchsense.questions.diagnose.result import DiagnoseResult
        from batchsense.questions.diagnose.text import diagnose_text
        from batchsense.questions.shares import published
        from batchsense.reports.envelope import Envelope

        table, inputs = read_table(matrix, sheet, id_column, densify, layer)
        batch_column, kept = chosen_columns(table, matrix, batch_labels, keep)
        with progress_on_stderr() as progress:
            found = diagnose_table(
                table,
                batch_column,
                kept,
                categorical=categorical or (),
                numeric=numeric or (),
                standardise=standardise,
                permutations=permutations,
                seed=seed,
                progress=progress,
            )
            noise = placebos(table, found, seed=seed, progress=progress) if placebo else None
        if features is not None:
            from batchsense.experiments.diagnosis import shares_by_feature
            from batchsense.questions.diagnose.feature_table import feature_table

            shares = shares_by_feature(table, found.design)
            delimiter = "," if features.lower().endswith(".csv") else "\t"
            write_text_atomically(features, feature_table(shares, delimiter))
            say(f"features: {features}")
        envelope = Envelope[DiagnoseResult](
            command="diagnose",
            inputs=inputs,
            seed=seed,
            result=DiagnoseResult.of(found, table.orientation, standardise, noise),
            notes=published(found.notes),
        )
    if report is not None:
        from batchsense.questions.diagnose.report import diagnose_report
        from batchsense.reports.page import write_report

        words = command_line(
            "diagnose",
            matrix,
            sheet,
            batch=batch_column,
            keep=kept,
            id=id_column,
            categorical=categorical,
            numeric=numeric,
            densify=densify,
            layer=layer,
            standardise=standardise,
            permutations=str(permutations),
            seed=str(seed),
            **{"no-placebo": not placebo},
        )
        write_report(report, diagnose_report(envelope, found, table, words), force)
        say(f"report: {report}")
    give(envelope, as_json, lambda: diagnose_text(envelope, described(matrix, sheet)))
    if found.verdict == "not_estimable":
        raise typer.Exit(EXIT_NO)


def _check_features(path: str | None, inputs: list[str]) -> None:
    """Refuse a table of features that has no known kind, or would spoil an input."""
    if path is None:
        return
    if not path.lower().endswith((".tsv", ".csv")):
        raise typer.BadParameter(f"{path}: name a .tsv or .csv file")
    if Path(path).resolve() in [Path(one).resolve() for one in inputs]:
        raise typer.BadParameter(f"{path} is an input; give the output another name")
