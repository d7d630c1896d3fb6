"""``batchsense layout``: who goes into which batch, before anything is measured."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from batchsense.cli.answer import check_output, give, refusals
from batchsense.cli.console import progress_on_stderr, say, write_answer
from batchsense.cli.table_input import IdOption


def layout(
    sheet: Annotated[
        str,
        typer.Argument(
            metavar="SHEET",
            help="One row per specimen: .csv, .tsv, .txt (also .gz), .parquet or .xlsx.",
            show_default=False,
        ),
    ],
    batch_count: Annotated[
        int, typer.Option("--batches", metavar="K", min=2, help="How many batches.")
    ],
    balance: Annotated[
        list[str],
        typer.Option(
            "--balance",
            metavar="COL",
            help="Column to balance; may be repeated, or several with commas between.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the sheet with its new columns goes: .csv, .tsv, .txt (also .gz); - for "
            "stdout.",
        ),
    ],
    capacity: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N…]", help="Wells of every batch, or of each; references need some of them."
        ),
    ] = None,
    together: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Rows with the same entry share a batch (a subject)."),
    ] = None,
    apart: Annotated[
        list[str] | None,
        typer.Option(metavar="COL", help="Rows with the same entry share none; may be repeated."),
    ] = None,
    reference_specimens: Annotated[
        int, typer.Option(metavar="N", min=0, help="Wells in every batch for one reference.")
    ] = 0,
    lock: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Column with the batch of rows already assigned."),
    ] = None,
    plate: Annotated[
        str | None,
        typer.Option(metavar="RxC", help="Each batch is a plate, such as 8x12: wells as well."),
    ] = None,
    empty_wells: Annotated[
        str | None,
        typer.Option(
            metavar="WELLS",
            help="Wells that stay empty: edge, A1, or a block such as A1-B3; commas between.",
        ),
    ] = None,
    lock_wells: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Column with the wells of rows assigned by --lock."),
    ] = None,
    column: Annotated[str, typer.Option(metavar="NAME", help="Name of the new column.")] = "batch",
    id_column: IdOption = None,
    categorical: Annotated[
        list[str] | None,
        typer.Option("--categorical", metavar="COL", help="Column of numbers that are categories."),
    ] = None,
    numeric: Annotated[
        list[str] | None,
        typer.Option("--numeric", metavar="COL", help="Column of few whole numbers that count."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write a self-contained page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Assign specimens to batches or plates so that nothing wanted goes with the batches.

    Writes the sheet with the batch of every row, and says what the batches then cost each balanced
    factor. Refuses (exit code 1, nothing written) if no layout can keep all constraints: it says
    which, and by how much.

    \b
    Examples:
      batchsense layout sheet.csv --batches 4 --balance treatment,sex,age -o layout.csv
      batchsense layout sheet.csv --batches 2 --balance arm --together subject --plate 8x12 \\
        --reference-specimens 2 -o plates.csv --report plates.html
      batchsense layout sheet.csv --batches 2 --balance arm --plate 8x12 --empty-wells edge \\
        -o plates.csv
    """
    if output == "-" and as_json:
        raise typer.BadParameter("-o - prints the sheet, --json a document; choose one")
    if output != "-" and Path(output).resolve() == Path(sheet).resolve():
        raise typer.BadParameter(f"{output} is the input; give the output another name")
    if plate is None and (empty_wells is not None or lock_wells is not None):
        raise typer.BadParameter("--empty-wells and --lock-wells need --plate, such as 8x12")
    check_output(output, force)
    check_output(report, force)
    with refusals("layout", as_json, seed, [sheet]):
        from batchsense.errors import DataError
        from batchsense.experiments import plan_layout
        from batchsense.experiments.layout.sheet import (
            check_sheet_format,
            sheet_table,
            sheet_text,
            write_sheet,
        )
        from batchsense.experiments.layout.wells import (
            parse_capacities,
            parse_plate,
            parse_wells,
        )
        from batchsense.questions.layout.result import LayoutResult
        from batchsense.questions.layout.text import layout_text
        from batchsense.questions.shares import published
        from batchsense.reports.envelope import Envelope, InputFile

        try:
            size = None if plate is None else parse_plate(plate)
            wells = None if capacity is None else parse_capacities(capacity)
            if size is not None and empty_wells is not None:
                parse_wells(empty_wells, size)
        except DataError as error:
            raise typer.BadParameter(error.message) from None
        if output != "-":
            check_sheet_format(output)
        table = sheet_table(sheet, id_column)
        with progress_on_stderr() as progress:
            found = plan_layout(
                table,
                batch_count,
                _columns(balance, list(table.sheet)),
                capacities=wells,
                together=together,
                apart=apart or (),
                reference_specimens=reference_specimens,
                lock=lock,
                plate=size,
                empty_wells=empty_wells,
                lock_wells=lock_wells,
                categorical=categorical or (),
                numeric=numeric or (),
                column=column,
                seed=seed,
                progress=progress,
            )
        envelope = Envelope[LayoutResult](
            command="layout",
            inputs=[InputFile.of(sheet)],
            seed=seed,
            result=LayoutResult.of(found, output),
            notes=published(found.notes),
        )
    if output == "-":
        write_answer(sheet_text(found.sheet()))
        say(layout_text(envelope))
    else:
        write_sheet(found.sheet(), output)
    if report is not None:
        from batchsense.questions.layout.report import layout_report
        from batchsense.reports.page import write_report

        words = ["batchsense", "layout", quote(sheet), "--batches", str(batch_count)]
        for name in balance:
            words += ["--balance", quote(name)]
        words += _words(
            capacity=capacity,
            together=together,
            apart=apart,
            reference_specimens=str(reference_specimens) if reference_specimens else None,
            lock=lock,
            plate=plate,
            empty_wells=empty_wells,
            lock_wells=lock_wells,
            column=column,
            id=id_column,
            categorical=categorical,
            numeric=numeric,
            seed=str(seed),
            output=output,
        )
        write_report(report, layout_report(envelope, found, " ".join(words)), force)
        say(f"report: {report}")
    if output != "-":
        give(envelope, as_json, lambda: layout_text(envelope))


def _columns(balance: list[str], known: list[str]) -> list[str]:
    """Split names at commas, unless a column has that whole name."""
    names: list[str] = []
    for given in balance:
        names += [given] if given in known else [part.strip() for part in given.split(",")]
    return names


def _words(**options: str | list[str] | None) -> list[str]:
    """Give the options as they are typed."""
    words = []
    for name, given in options.items():
        values = [given] if isinstance(given, str) else given or []
        for value in values:
            words += [f"--{name.replace('_', '-')}", quote(value)]
    return words
