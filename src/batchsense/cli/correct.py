"""``batchsense correct``: remove what the batches add, keep what is wanted, or refuse."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchsense.cli.answer import check_output, give, refusals
from batchsense.cli.console import progress_on_stderr, say, write_answer
from batchsense.cli.correction_choice import (
    DespiteOption,
    MeanOnlyOption,
    MethodOption,
    NonParametricOption,
    ReferenceOption,
)
from batchsense.cli.correction_request import Request
from batchsense.cli.out_of_core import (
    ClusterOption,
    MemoryOption,
    OutOfCoreOption,
    Scale,
    correct_on_disk,
)
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
from batchsense.reports.correction_choice import CorrectionChoice, Method

if TYPE_CHECKING:
    from batchsense.experiments import Corrected
    from batchsense.reports.envelope import Envelope
    from batchsense.reports.results.correct import CorrectResult


def correct(
    matrix: MatrixArgument = None,
    sheet: SheetArgument = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the corrected matrix goes, in the layout of MATRIX; - for stdout.",
            show_default=False,
        ),
    ] = ...,  # type: ignore[assignment]  # typer's sign of a required option
    batch_labels: BatchOption = None,
    keep: KeepOption = None,
    method: MethodOption = Method.linear,
    reference: ReferenceOption = None,
    mean_only: MeanOnlyOption = False,
    non_parametric: NonParametricOption = False,
    despite_confounding: DespiteOption = False,
    id_column: IdOption = None,
    categorical: CategoricalOption = None,
    numeric: NumericOption = None,
    densify: DensifyOption = False,
    layer: LayerOption = None,
    out_of_core: OutOfCoreOption = None,
    memory: MemoryOption = None,
    cluster: ClusterOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Recorded; no method draws anything.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write a self-contained page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Remove what the batches add, keep the wanted columns, and write the matrix to FILE.

    Three methods: linear shifts every batch, combat (Johnson 2007) also rescales it and learns from
    all features together, combat-seq remodels counts. Refuses (exit code 1, nothing written) if a
    kept column cannot be told from the batches, unless told to go on --despite-confounding. Ids,
    order, orientation and precision stay those of MATRIX; an .h5ad or .zarr gets a layer
    "batchsense" beside its X, and is corrected out of core where memory does not suffice. Without
    MATRIX and SHEET it corrects the built-in digits.

    \b
    Examples:
      batchsense correct -o corrected.csv
      batchsense correct matrix.tsv.gz sheet.csv --batch month --keep drug -o corrected.tsv.gz
      batchsense correct m.csv s.csv --batch month --keep drug --method combat -o c.csv
      batchsense correct cells.h5ad --batch lane --keep treatment -o corrected.h5ad --json
      batchsense correct cells.h5ad --layer counts --batch lane --method combat-seq -o c.h5ad
      batchsense correct big.zarr --batch lane --out-of-core --memory 500MB -o corrected.zarr
    """
    choice = CorrectionChoice(method, reference, mean_only, non_parametric, despite_confounding)
    if misplaced := choice.misplaced():
        raise typer.BadParameter(misplaced)
    scale = Scale.read(out_of_core, memory, cluster)
    _check_paths(matrix, sheet, output, as_json)
    scale.check(matrix, output, method)
    check_output(output, force)
    check_output(report, force)
    request = Request(
        matrix=matrix,
        sheet=sheet,
        output=output,
        batch_labels=batch_labels,
        id_column=id_column,
        layer=layer,
        keep=keep,
        categorical=tuple(categorical or ()),
        numeric=tuple(numeric or ()),
        densify=densify,
        seed=seed,
        choice=choice,
    )
    corrected: Corrected | None = None
    with refusals("correct", as_json, seed, [path for path in (matrix, sheet) if path]):
        from batchsense.experiments.builtin import DIGITS
        from batchsense.experiments.tables.writing import check_format
        from batchsense.reports.text.correct import correct_text

        if output != "-":
            check_format(matrix or DIGITS, output)
        decision = scale.decide(matrix, layer, method)
        if decision is None:
            corrected, envelope = _correct_in_memory(request)
        else:
            envelope = correct_on_disk(request, scale, decision)

    def text() -> str:
        return correct_text(envelope, described(matrix, sheet))

    if corrected is not None:
        if output == "-":
            _print_matrix(corrected, matrix)
            say(text())
        else:
            from batchsense.experiments import write

            done = request.provenance(corrected, envelope)
            write(corrected.table, corrected.values, output, done)
    if report is not None:
        from batchsense.reports.html import correct_report, write_report

        result = envelope.answer()
        words = command_line(
            "correct",
            matrix,
            sheet,
            batch=result.batch,
            keep=[one.name for one in result.kept],
            id=id_column,
            categorical=categorical,
            numeric=numeric,
            densify=densify,
            layer=layer,
            output=output,
            **choice.words(),
            **scale.words(memory),
        )
        write_report(report, correct_report(envelope, corrected, words), force)
        say(f"report: {report}")
    if output != "-":
        give(envelope, as_json, text)


def _correct_in_memory(request: Request) -> tuple[Corrected, Envelope[CorrectResult]]:
    """Load the matrix and correct it."""
    table, inputs = read_table(
        request.matrix, request.sheet, request.id_column, request.densify, request.layer
    )
    batch_column, kept = chosen_columns(table, request.matrix, request.batch_labels, request.keep)
    with progress_on_stderr() as progress:
        corrected = request.choice.corrected(
            table, batch_column, kept, request.categorical, request.numeric, progress
        )
    return corrected, request.answer(corrected, inputs)


def _check_paths(matrix: str | None, sheet: str | None, output: str, as_json: bool) -> None:
    """Refuse outputs that would spoil an input or mix with the JSON document."""
    if output == "-":
        if as_json:
            raise typer.BadParameter("-o - prints the matrix, --json a document; choose one")
        if matrix is not None and not _is_text(matrix):
            raise typer.BadParameter("-o - prints text; name a file for this kind of MATRIX")
        return
    for path in (matrix, sheet):
        if path is not None and Path(path).resolve() == Path(output).resolve():
            raise typer.BadParameter(f"{output} is an input; give the output another name")


def _is_text(matrix: str) -> bool:
    """Tell whether a matrix is delimited text."""
    from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of

    return suffix_of(matrix) in DELIMITERS


def _print_matrix(corrected: Corrected, matrix: str | None) -> None:
    """Write the corrected matrix to stdout, delimited as the input (commas for the digits)."""
    from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of
    from batchsense.experiments.tables.writing import layout, write_text

    delimiter = "," if matrix is None else DELIMITERS[suffix_of(matrix)]
    stream = io.StringIO()
    write_text(layout(corrected.table, corrected.values), stream, delimiter)
    write_answer(stream.getvalue())
