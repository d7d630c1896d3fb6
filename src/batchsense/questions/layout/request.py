"""What ``batchsense layout`` is asked, and how it is answered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from typing_extensions import override

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, Product
from batchsense.questions.layout.result import LayoutResult
from batchsense.questions.option import Option
from batchsense.questions.request import About, Request
from batchsense.questions.table_request import (
    CategoricalColumns,
    NumericColumns,
    SheetOutput,
    beside,
)

#: No plate has more wells; the densest in use has 3,456. More would only fill the memory.
_MOST_WELLS = 100_000


class LayoutRequest(Request):
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

    command: ClassVar[str] = "layout"
    about: ClassVar[About] = "sheet"

    sheet: Annotated[
        str,
        Option(
            "One row per specimen: .csv, .tsv, .txt (also .gz), .parquet or .xlsx.",
            of="sheet",
            argument=True,
            metavar="SHEET",
        ),
    ]
    batch_count: Annotated[
        int,
        Field(ge=2),
        Option(
            "How many batches.",
            name="batches",
            metavar="K",
            label="Number of batches",
            front=True,
        ),
    ]
    balance: Annotated[
        tuple[str, ...],
        Field(min_length=1),
        Option(
            "Column to balance; may be repeated, or several with commas between.",
            metavar="COL",
            of="column",
            label="Columns to balance",
            front=True,
        ),
    ]
    output: SheetOutput
    capacity: Annotated[
        str | None,
        Option(
            "Wells of every batch, or of each with commas between; references need some of them.",
            metavar="N[,N…]",
            label="Places in a batch",
            front=True,
        ),
    ] = None
    together: Annotated[
        str | None,
        Option(
            "Rows with the same entry share a batch (a subject).",
            metavar="COL",
            of="column",
            label="Keep together",
            front=True,
        ),
    ] = None
    apart: Annotated[
        tuple[str, ...],
        Option(
            "Rows with the same entry share none; may be repeated.",
            metavar="COL",
            of="column",
            label="Keep apart",
        ),
    ] = ()
    reference_specimens: Annotated[
        int,
        Field(ge=0),
        Option(
            "Wells in every batch for aliquots of one reference, which get rows of their own.",
            metavar="N",
            front=True,
        ),
    ] = 0
    lock: Annotated[
        str | None,
        Option(
            "Column with the batch of rows already assigned; empty where free.",
            metavar="COL",
            of="column",
            label="Assigned already",
        ),
    ] = None
    plate: Annotated[
        str | None,
        Option("Each batch is a plate, such as 8x12: wells as well.", metavar="RxC", front=True),
    ] = None
    empty_wells: Annotated[
        str | None,
        Option(
            "Wells that stay empty: edge, A1, or a block such as A1-B3; commas between.",
            metavar="WELLS",
            label="Wells that stay empty",
            front=True,
        ),
    ] = None
    lock_wells: Annotated[
        str | None,
        Option(
            "Column with the wells of rows assigned by --lock.",
            metavar="COL",
            of="column",
            label="Wells assigned already",
        ),
    ] = None
    column: Annotated[
        str, Option("Name of the new column.", metavar="NAME", label="Name of the new column")
    ] = "batch"
    id_column: Annotated[
        str | None,
        Option(
            "Column of SHEET with the ids; else the first one, if its entries are distinct.",
            name="id",
            metavar="COL",
            of="column",
        ),
    ] = None
    categorical: CategoricalColumns = ()
    numeric: NumericColumns = ()

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.plate is None and (self.empty_wells is not None or self.lock_wells is not None):
            raise ValueError("--empty-wells and --lock-wells need --plate, such as 8x12")
        from batchsense.experiments.layout.wells import parse_wells

        try:
            size, _ = self.plate_size(), self.capacities()
            if size is not None and self.empty_wells is not None:
                parse_wells(self.empty_wells, size)
        except DataError as error:
            raise ValueError(str(error)) from None
        return self

    @override
    def offered_output(self) -> str:
        from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of

        name = self.name_of(self.sheet)
        return beside(name, "layout", None if suffix_of(name) in DELIMITERS else ".csv")

    def plate_size(self) -> tuple[int, int] | None:
        """Rows and columns of a plate."""
        from batchsense.experiments.layout.wells import parse_plate

        size = None if self.plate is None else parse_plate(self.plate)
        if size is not None and size[0] * size[1] > _MOST_WELLS:
            raise DataError(f"{self.plate} has more than {_MOST_WELLS:,} wells", where="--plate")
        return size

    def capacities(self) -> list[int] | None:
        """The wells of every batch, or of each."""
        from batchsense.experiments.layout.wells import parse_capacities

        return None if self.capacity is None else parse_capacities(self.capacity)

    def balanced_columns(self, known: Collection[str]) -> list[str]:
        """The columns to balance: names are split at commas, unless a column has that name."""
        names: list[str] = []
        for given in self.balance:
            names += [given] if given in known else [part.strip() for part in given.split(",")]
        return names


def ask(request: LayoutRequest, progress: Progress = silent) -> Answer[LayoutResult]:
    """Plan a layout."""
    from batchsense.experiments import LayoutRules, PlateRules, SheetColumns, plan_layout
    from batchsense.experiments.layout.sheet import (
        check_sheet_format,
        sheet_table,
        sheet_text,
        write_sheet,
    )
    from batchsense.questions.layout.report import layout_report
    from batchsense.questions.layout.text import layout_text
    from batchsense.reports.envelope import Note

    if request.output != "-":
        check_sheet_format(request.output)
    table = sheet_table(request.sheet, request.id_column)
    name = request.name_of(request.sheet)
    table = replace(table, source=replace(table.source, matrix=name, sheet=name))
    size = request.plate_size()
    found = plan_layout(
        table,
        request.batch_count,
        request.balanced_columns(table.sheet),
        LayoutRules(
            capacities=request.capacities(),
            together=request.together,
            apart=request.apart,
            lock=request.lock,
            reference_specimens=request.reference_specimens,
        ),
        None if size is None else PlateRules(size, request.empty_wells, request.lock_wells),
        SheetColumns(request.categorical, request.numeric, request.column),
        seed=request.seed,
        progress=progress,
    )
    envelope = request.envelope(
        LayoutResult.of(found, request.name_of(request.output)), Note.published(found.notes)
    )

    def write(path: Path) -> None:
        write_sheet(found.sheet(), path)

    return Answer(
        envelope,
        lambda _: layout_text(envelope),
        lambda: layout_report(envelope, found, request.words()),
        (Product("output", "sheet", write, lambda: sheet_text(found.sheet())),),
    )
