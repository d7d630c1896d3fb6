"""What diagnose and correct share: the options that name a table, and reading it."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from batchsense.errors import listed

if TYPE_CHECKING:
    from batchsense.experiments import Table
    from batchsense.reports.envelope import InputFile

MatrixArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MATRIX",
        help="Observations: .csv, .tsv, .txt (also .gz), .parquet, .h5ad, .zarr or a folder with a "
        "matrix.mtx; either orientation.",
        show_default=False,
    ),
]
SheetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SHEET",
        help="One row per specimen: .csv, .tsv, .txt (also .gz), .parquet or .xlsx (also "
        "FILE.xlsx#Sheet); obs of an .h5ad or .zarr if left out.",
        show_default=False,
    ),
]
BatchOption = Annotated[
    str | None,
    typer.Option("--batch", metavar="COL", help="Column of SHEET with the batch of a specimen."),
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="COL", help="Column that must be kept; may be repeated."),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COL",
        help="Column of SHEET with the ids; else the first one, or the only one that matches.",
    ),
]
CategoricalOption = Annotated[
    list[str] | None,
    typer.Option(
        "--categorical", metavar="COL", help="Kept column of numbers that are categories."
    ),
]
NumericOption = Annotated[
    list[str] | None,
    typer.Option("--numeric", metavar="COL", help="Kept column of few whole numbers that count."),
]
DensifyOption = Annotated[
    bool,
    typer.Option("--densify", help="Unfold a sparse MATRIX even if it takes more than 4 GB."),
]
LayerOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Layer of an .h5ad or .zarr to read; else its X."),
]


def read_table(
    matrix: str | None,
    sheet: str | None,
    id_column: str | None,
    densify: bool = False,
    layer: str | None = None,
) -> tuple[Table, list[InputFile]]:
    """Read the named files, or take the built-in digits."""
    from batchsense.experiments import digits_table, read
    from batchsense.reports.envelope import InputFile

    if matrix is None:
        return digits_table(), []
    table = read(matrix, sheet, id_column, densify, layer)
    return table, [InputFile.of(path) for path in (matrix, sheet) if path is not None]


def chosen_columns(
    table: Table, matrix: str | None, batch_labels: str | None, keep: list[str] | None
) -> tuple[str, list[str]]:
    """Give the batch column and the kept ones; the built-in table has defaults.

    Raises
    ------
    typer.BadParameter
        No batch column was named for a table of the user's.
    """
    if matrix is None:
        from batchsense.experiments.builtin import BATCH_COLUMN, KEPT_COLUMN

        return batch_labels or BATCH_COLUMN, [KEPT_COLUMN] if keep is None else keep
    if batch_labels is None:
        columns = [name for name in table.sheet if name != table.source.id_column]
        raise typer.BadParameter(
            f"--batch is needed: the column that names the batch; {table.source.sheet} has "
            f"{listed(columns, 20)}"
        )
    return batch_labels, keep or []


def described(matrix: str | None, sheet: str | None) -> str:
    """Say what was read."""
    if matrix is None:
        return "Built-in digits (scikit-learn; form inferred from the order of the rows)"
    return matrix if sheet is None else f"{matrix} with {sheet}"


def command_line(
    command: str, matrix: str | None, sheet: str | None, **options: str | list[str] | bool | None
) -> str:
    """Give the words that repeat the answer, for a report; options by their long names.

    Examples
    --------
    >>> command_line("diagnose", "m.csv", "the sheet.csv", batch="month", keep=["drug"], id=None)
    "batchsense diagnose m.csv 'the sheet.csv' --batch month --keep drug"
    """
    words = ["batchsense", command, *(quote(path) for path in (matrix, sheet) if path)]
    for name, given in options.items():
        if given is True:
            words.append(f"--{name}")
        values = [given] if isinstance(given, str) else given or []
        if isinstance(values, list):
            words.extend(f"--{name} {quote(value)}" for value in values)
    return " ".join(words)
