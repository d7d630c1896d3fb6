"""What questions about specimens ask: the files, and which columns play which part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import field_validator, model_validator
from typing_extensions import override

from batchsense.errors import DataError, RequestError, listed
from batchsense.progress import Progress
from batchsense.questions.option import Option
from batchsense.questions.request import About, Request

if TYPE_CHECKING:
    from batchsense.experiments import Table
    from batchsense.experiments.value_kinds import ValueKind

MATRIX = Option(
    "Observations: .csv, .tsv, .txt (also .gz), .parquet, .xlsx (also FILE.xlsx#Sheet), .h5ad, "
    ".zarr or a folder with a matrix.mtx; either orientation.",
    of="matrix",
    argument=True,
    metavar="MATRIX",
)
#: What stands in the place of the names of files where none was given.
BUILT_IN = "Built-in digits (scikit-learn; form inferred from the order of the rows)"


class ValuesAre(StrEnum):
    """What the numbers of a matrix are."""

    counts = "counts"
    log = "log"
    intensities = "intensities"
    bounded = "bounded"
    numbers = "numbers"


class FilesRequest(Request):
    """Base of the questions about a matrix with its sheet; without both, the built-in digits."""

    about: ClassVar[About] = "table"

    matrix: Annotated[str | None, MATRIX] = None
    sheet: Annotated[
        str | None,
        Option(
            "One row per specimen: .csv, .tsv, .txt (also .gz), .parquet or .xlsx (also "
            "FILE.xlsx#Sheet); obs of an .h5ad or .zarr if left out.",
            of="sheet",
            argument=True,
            metavar="SHEET",
        ),
    ] = None
    id_column: Annotated[
        str | None,
        Option(
            "Column of SHEET with the ids; else the first one, or the only one that matches.",
            name="id",
            metavar="COL",
            of="column",
        ),
    ] = None
    densify: Annotated[
        bool, Option("Unfold a sparse or small MATRIX even if it takes more than 4 GB.")
    ] = False
    sheet_columns: Annotated[
        tuple[str, ...],
        Option(
            "Column of MATRIX that is no feature, where it is one wide table and there is no "
            "SHEET; may be repeated.",
            metavar="COL",
            of="wide",
            label="Columns that are no features",
            front=True,
        ),
    ] = ()
    layer: Annotated[
        str | None,
        Option("Layer of an .h5ad or .zarr to read; else its X.", metavar="NAME", of="layer"),
    ] = None
    values: Annotated[
        ValuesAre | None,
        Option(
            "What the numbers of MATRIX are; else they are looked at.",
            choices={
                "counts": "whole numbers of reads, cells or events; combat-seq corrects them",
                "log": "logarithms, of counts per million or intensities",
                "intensities": "as an instrument gave them, not yet as logarithms",
                "bounded": "proportions, percentages, methylation beta values",
                "numbers": "anything else whose differences mean the same everywhere",
            },
        ),
    ] = None

    @model_validator(mode="after")
    def _sheet_describes_a_matrix(self) -> Self:
        if self.sheet is not None and self.matrix is None:
            raise ValueError("SHEET was given without MATRIX; give both, or none")
        if self.sheet_columns and (self.matrix is None or self.sheet is not None):
            raise ValueError(
                "--sheet-columns names the columns of a MATRIX that is its own sheet; give MATRIX "
                "without SHEET"
            )
        return self

    @property
    def values_are(self) -> ValueKind | None:
        """What the values are, as the library takes it."""
        return None if self.values is None else self.values.value

    def in_pieces(self) -> str | None:
        """Why this very question needs the matrix in memory; None where it does not."""
        return None

    def table(self, progress: Progress) -> Table:
        """Read the files, or take the built-in digits, under the names that are known."""
        from batchsense.experiments import digits_table, read

        progress("reading the files", 0, 1)
        if self.matrix is None:
            return digits_table()
        table = read(
            self.matrix,
            self.sheet,
            self.id_column,
            self.densify,
            self.layer,
            self.values_are,
            self.sheet_columns,
        )
        return self.named(table)

    def named(self, table: Table) -> Table:
        """The table under the names that are known."""
        source = table.source
        return replace(
            table,
            source=replace(
                source, matrix=self.name_of(source.matrix), sheet=self.name_of(source.sheet)
            ),
        )

    def stored(self, table: Table) -> Table:
        """The table with the paths of its files, for what reads them again."""
        if self.matrix is None:
            return table
        paths = {self.name_of(path): path for path in self.read_paths()}
        source = table.source
        return replace(
            table,
            source=replace(
                source,
                matrix=paths.get(source.matrix, source.matrix),
                sheet=paths.get(source.sheet, source.sheet),
            ),
        )

    def described(self) -> str:
        """What was read, in words."""
        if self.matrix is None:
            return BUILT_IN
        names = [self.name_of(path) for path in (self.matrix, self.sheet) if path is not None]
        return " with ".join(names)


DropIncomplete = Annotated[
    bool,
    Option("Leave out specimens without a label that is needed, and say whether they differ."),
]


def complete(request: FilesRequest, table: Table, names: Sequence[str]) -> Table:
    """The table without the specimens that lack a needed label, if that was asked; else refuse."""
    from batchsense.experiments.sheets.incomplete import leave_out_incomplete, refuse_incomplete

    block = getattr(request, "block", None)
    names = [*names, *([] if block is None else [block])]
    if getattr(request, "drop_incomplete", False):
        return leave_out_incomplete(table, names, request.seed)[0]
    offered = getattr(request, "goes_out_of_core", None)  # what is read as it lies keeps all rows
    refuse_incomplete(table, names, None if offered else "--drop-incomplete")
    return table


class BatchesRequest(FilesRequest):
    """Base of the questions about batches that one column of the sheet names."""

    batch_labels: Annotated[
        str | None,
        Option(
            "Column of SHEET with the batch of a specimen: month, plate, lane, site.",
            name="batch",
            metavar="COL",
            of="column",
            label="Batch column",
            front=True,
        ),
    ] = None

    @classmethod
    @override
    def built_in(cls) -> dict[str, Any]:
        from batchsense.experiments.builtin import BATCH_COLUMN

        return {"batch_labels": BATCH_COLUMN}

    def batch_column(self, table: Table) -> str:
        """The column that names the batch; that of the built-in digits is known."""
        if self.batch_labels is not None:
            return self.batch_labels
        if self.matrix is None:
            return str(self.built_in()["batch_labels"])
        raise no_batch_named(table)


def no_batch_named(table: Table) -> RequestError:
    """What is said where a batch column is needed: which there are."""
    columns = [name for name in table.sheet if name != table.source.id_column]
    return RequestError(
        f"--batch is needed: the column that names the batch; {table.source.sheet} has "
        f"{listed(columns, 20)}"
    )


KeptColumns = Annotated[
    tuple[str, ...] | None,
    Option(
        "Column of what you want to see in the data: treatment, age; may be repeated.",
        metavar="COL",
        of="column",
        label="Columns to keep",
        front=True,
    ),
]
CategoricalColumns = Annotated[
    tuple[str, ...],
    Option("Kept column of numbers that are categories.", metavar="COL", of="kind"),
]
NumericColumns = Annotated[
    tuple[str, ...],
    Option("Kept column of few whole numbers that count.", metavar="COL", of="kind"),
]

BlockColumn = Annotated[
    str | None,
    Option(
        "Column of subjects, or of replicates, whose rows are no independent specimens.",
        metavar="COL",
        of="column",
        label="Column of subjects",
        front=True,
    ),
]

SheetOutput = Annotated[
    str,
    Option(
        "Where the sheet with its new columns goes: .csv, .tsv, .txt (also .gz); - for stdout.",
        short="-o",
        metavar="FILE",
        of="output",
    ),
]


class ModelRequest(FilesRequest):
    """Base of the questions about batches beside columns that must be kept."""

    batch_labels: Annotated[
        tuple[str, ...] | None,
        Option(
            "Column of SHEET with the batch of a specimen: month, plate, lane, site; may be "
            "repeated, also for numbers such as RIN.",
            name="batch",
            metavar="COL",
            of="column",
            label="Batch column",
            front=True,
        ),
    ] = None
    keep: KeptColumns = None
    categorical: CategoricalColumns = ()
    numeric: NumericColumns = ()
    drop_incomplete: DropIncomplete = False

    @field_validator("batch_labels", mode="before")
    @classmethod
    def _one_or_several(cls, given: object) -> object:
        return (given,) if isinstance(given, str) else given

    @classmethod
    @override
    def built_in(cls) -> dict[str, Any]:
        from batchsense.experiments.builtin import BATCH_COLUMN, KEPT_COLUMN

        return {"batch_labels": (BATCH_COLUMN,), "keep": (KEPT_COLUMN,)}

    def batch_columns(self, table: Table) -> tuple[str, ...]:
        """The columns that name the batch; that of the built-in digits is known."""
        if self.batch_labels:
            return self.batch_labels
        if self.matrix is None:
            known: tuple[str, ...] = self.built_in()["batch_labels"]
            return known
        raise no_batch_named(table)

    @override
    def in_pieces(self) -> str | None:
        if self.drop_incomplete:
            return "reads a matrix as it lies; leave out --drop-incomplete, or read it in memory"
        return super().in_pieces()

    @override
    def _published(self) -> dict[str, Any]:
        asked = super()._published()
        if isinstance(asked["batch"], list) and len(asked["batch"]) == 1:
            asked["batch"] = asked["batch"][0]  # one column is told as it always was
        return asked

    def kept_columns(self) -> Sequence[str]:
        """The columns to keep; those of the built-in digits are known."""
        if self.keep is None and self.matrix is None:
            kept: tuple[str, ...] = self.built_in().get("keep", ())
            return kept
        return self.keep or ()


def beside(name: str, word: str, ending: str | None = None) -> str:
    """Name a result after what it was made of."""
    path = Path(name.partition("#")[0])
    known = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    own = "".join(known)
    return f"{path.name.removesuffix(own)}-{word}{own if ending is None else ending}"


def known_names(error: DataError, names: Mapping[str, str]) -> DataError:
    """An error with the names that the asker knows in the place of paths.

    Examples
    --------
    >>> print(known_names(DataError("no id", where="/tmp/a1/m.csv"), {"/tmp/a1/m.csv": "m.csv"}))
    m.csv: no id
    """

    def named(text: str) -> str:
        for path, name in sorted(names.items(), key=lambda one: -len(one[0])):
            text = text.replace(path, name)
        return text

    return DataError(named(error.message), None if error.where is None else named(error.where))
