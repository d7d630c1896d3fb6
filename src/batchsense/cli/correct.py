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
from batchsense.cli.reuse import FittedOption, NewBatchesOption, Reuse, SaveFittedOption
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
from batchsense.questions.correct.choice import CorrectionChoice, Method, applied

if TYPE_CHECKING:
    from batchsense.experiments import Corrected
    from batchsense.questions.correct.result import CorrectResult
    from batchsense.reports.envelope import Envelope


def correct(
    context: typer.Context,
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
    save_fitted: SaveFittedOption = None,
    fitted: FittedOption = None,
    new_batches: NewBatchesOption = False,
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
      batchsense correct new.csv new-sheet.csv --fitted months.npz --new-batches -o new-c.csv
    """
    choice = CorrectionChoice(method, reference, mean_only, non_parametric, despite_confounding)
    if misplaced := choice.misplaced():
        raise typer.BadParameter(misplaced)
    scale = Scale.read(out_of_core, memory, cluster)
    reuse = Reuse(save_fitted, fitted, new_batches)
    reuse.check(context, bool(scale.wanted) or scale.memory is not None)
    read = [path for path in (matrix, sheet, fitted) if path]
    _check_paths(read, output, save_fitted)
    _check_stdout(matrix, output, as_json)
    scale.check(matrix, output, method)
    for path in (output, save_fitted, report):
        check_output(path, force)
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
    with refusals("correct", as_json, seed, read):
        from batchsense.experiments.builtin import DIGITS
        from batchsense.experiments.tables.writing import check_format
        from batchsense.questions.correct.text import correct_text

        if output != "-":
            check_format(matrix or DIGITS, output)
        in_memory = reuse.save or reuse.fitted
        decision = None if in_memory else scale.decide(matrix, layer, method)
        if decision is None:
            corrected, envelope = _correct_in_memory(request, reuse)
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
        from batchsense.questions.correct.report import correct_report
        from batchsense.reports.page import write_report

        result = envelope.answer()
        words = command_line(
            "correct",
            matrix,
            sheet,
            batch=None if fitted else result.batch,
            keep=None if fitted else [one.name for one in result.kept],
            id=id_column,
            categorical=categorical,
            numeric=numeric,
            densify=densify,
            layer=layer,
            output=output,
            **({} if fitted else choice.words()),
            **scale.words(memory),
            **reuse.words(),
        )
        write_report(report, correct_report(envelope, corrected, words), force)
        say(f"report: {report}")
    if output != "-":
        give(envelope, as_json, text)


def _correct_in_memory(request: Request, reuse: Reuse) -> tuple[Corrected, Envelope[CorrectResult]]:
    """Load the matrix and correct it, by what it teaches or by what was learned earlier."""
    from batchsense.reports.envelope import InputFile

    table, inputs = read_table(
        request.matrix, request.sheet, request.id_column, request.densify, request.layer
    )
    reused = None
    with progress_on_stderr() as progress:
        if reuse.fitted is None:
            batch_column, kept = chosen_columns(
                table, request.matrix, request.batch_labels, request.keep
            )
            fitted = request.choice.fitted(
                table, batch_column, kept, request.categorical, request.numeric, progress
            )
        else:
            fitted, reused = reuse.load(table)
            inputs.append(InputFile.of(reuse.fitted))
        corrected = applied(fitted, table, progress)
    if reuse.save is not None:
        fitted.save(reuse.save)
    return corrected, request.answer(corrected, inputs, reused=reused, saved_fitted=reuse.save)


def _check_paths(read: list[str], output: str, save: str | None) -> None:
    """Refuse outputs that would spoil an input or each other."""
    written = [path for path in (output, save) if path is not None and path != "-"]
    for path in written:
        if any(Path(other).resolve() == Path(path).resolve() for other in read):
            raise typer.BadParameter(f"{path} is an input; give the output another name")
    if len({Path(path).resolve() for path in written}) < len(written):
        raise typer.BadParameter(f"{output} and --save-fitted name the same file")


def _check_stdout(matrix: str | None, output: str, as_json: bool) -> None:
    """Refuse to mix the matrix with the JSON document, or to print what is no text."""
    if output != "-":
        return
    if as_json:
        raise typer.BadParameter("-o - prints the matrix, --json a document; choose one")
    if matrix is not None and not _is_text(matrix):
        raise typer.BadParameter("-o - prints text; name a file for this kind of MATRIX")


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
